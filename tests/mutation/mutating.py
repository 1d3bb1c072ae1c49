"""A pytest plugin that breaks one thing after the other, and runs the tests that are about it until one fails."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol
from mutants import Mutant, mutants

if TYPE_CHECKING:
    import pytest

import waiting

CHOSEN = "OPENAI_METERING_TEST_MUTANTS"
"""Which of them: ``n/m`` for each m-th, beginning with the n-th."""
RESULTS = "OPENAI_METERING_TEST_MUTANTS_FILE"
"""Where the outcome of each is written to, one JSON object a line."""

chosen, results = os.environ.get(CHOSEN, "0/1"), os.environ.get(RESULTS, os.devnull)  # the tests empty the environment


def pytest_configure(config: Any) -> None:
    """What is broken may leave no record: a test that waits for one fails sooner than usual, and so is told from a survivor."""
    del config
    waiting.wait_for.__defaults__ = ("the condition", 0.5)


class _Kept:
    """Stands for the next test: what belongs to the whole session, such as the provider, stays up."""

    def __init__(self, session: pytest.Session) -> None:
        self.listchain = lambda: [session]


def fails(item: Any) -> bool:
    """Run one test. Returns whether it failed."""
    item._initrequest()
    reports = runtestprotocol(item, log=False, nextitem=_Kept(item.session))
    return any(report.failed for report in reports)


def about(mutant: Mutant, items: list[Any]) -> list[Any]:
    """The tests that are about it: the forms of its row, and what is particular to one operation, shape or reader."""
    from forms import OPERATIONS, row_of
    from test_forms import CASES

    there = {operation.name for operation, _ in CASES}
    names = {one.name for one in OPERATIONS if one.name in there and row_of(one).name == mutant.row}
    core = [item for item in items if "/core/" in str(item.path)]
    ways = ("plain", "raw_unparsed", "streaming_response_lines", "stream", "raw_stream_parsed", "async_plain")
    ways = (*ways, "streaming_response_stream_lines")
    forms = [item for item in items if item.path.name == "test_forms.py" and "providers_numbers" in item.name]
    few = [item for item in forms if item.callspec.params["form"].name in ways]
    special = [item for item in items if item.path.name == "test_each_operation.py"]
    rest = [item for item in items if item not in (*core, *special) and item.path.name != "test_forms.py"]
    if mutant.row is not None:
        own = [item for item in few if item.callspec.params["operation"].name in names]
        return own + core + special + (rest if mutant.row in ("chat.completions", "responses") else [])
    return core + few + special + rest


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Break, run, repair: in place of running each test once."""
    first, _, step = chosen.partition("/")
    with Path(results).open("w", encoding="utf-8") as file:
        for mutant in mutants()[int(first) :: int(step)]:
            tests = about(mutant, session.items)
            with mutant.applied():
                killer = next((item for item in tests if fails(item)), None)
            if killer is not None and fails(killer):
                killer = None  # it fails without it, too, and shows nothing
            found = {"mutant": mutant.name, "killed_by": killer.nodeid if killer is not None else None}
            print(json.dumps(found), file=file, flush=True)
    return True
