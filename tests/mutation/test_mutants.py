"""The tests are tests: whatever row, shape or reader is broken, one of them fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fuzzing import FULL

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS / "faults"))  # what breaks functions breaks their caches, too

import mutants  # noqa: E402
from mutating import CHOSEN, RESULTS  # noqa: E402

ALL = mutants.mutants()
PARTS = 4
STEP = PARTS if FULL else 40
"""Each so-manieth of them is tried; in full size the parts are all of them together."""
SUBSET = [
    *(f"core/test_{name}.py" for name in ("readers", "job_readers", "usage", "rows", "events")),
    "core/test_operations.py::test_rows_say_how_they_are_called_and_read",
    *(f"conformance/test_{name}.py" for name in ("forms", "each_operation", "streams")),
]


@pytest.mark.parametrize("part", range(PARTS if FULL else 0))
def test_whatever_is_broken_a_test_fails(part: int, tmp_path: Path) -> None:
    """One thing is broken at a time, and the tests that are about it are run against it."""
    results = tmp_path / "results.jsonl"
    paths = [str(TESTS), str(TESTS / "mutation"), str(TESTS / "faults"), os.environ.get("PYTHONPATH", "")]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "mutating", "-p", "no:cacheprovider", *SUBSET],
        cwd=TESTS,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            CHOSEN: f"{part * STEP // PARTS}/{STEP}",
            RESULTS: str(results),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    assert results.exists(), ran.stdout + ran.stderr
    found = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    print(Counter(one["killed_by"].partition("::")[0] for one in found if one["killed_by"]))
    assert len(found) == len(ALL[part * STEP // PARTS :: STEP])
    survivors = [one["mutant"] for one in found if one["killed_by"] is None and one["mutant"] not in EQUIVALENT]
    assert survivors == []


def test_every_field_of_a_row_is_broken():
    """A new field is broken, too, or is named with the reason why not."""
    for field in mutants.dataclasses.fields(mutants.Operation):
        assert field.name in mutants.NOT_BROKEN or any(f": {field.name} " in mutant.name for mutant in ALL)


EQUIVALENT: dict[str, str] = {
    "row audio.speech: read does nothing": "of sound nothing is read but that it has ended",
    **{
        f"AGENT_HEAD lacks {event}": "it is only a part of the events of its rows, which are broken there"
        for event in ("agent.session.created", "agent.session.turn.created")
    },
    **{
        f"job {job} {how}": "a session of an agent never ends, so that neither is looked at"
        for job in ("AGENT_TURN", "AGENT_INVOCATION")
        for how in ("has its status elsewhere", "reads no usage")
    },
}
"""What makes no difference that anyone can see, and why."""
