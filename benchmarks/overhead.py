"""What a metered call costs: added CPU time on the caller's thread, beside the bare SDK and hand-written signals.

Each variant is a process of its own; in every round each of them measures the same calls in turn, so that what the
machine does besides falls on all. CPU figures come from a provider in memory, which is less noisy than one behind
sockets; ``--transport process`` talks to the provider stand-in in another process.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import parts
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from worker import CASES, VARIANTS, counted_calls

HERE = Path(__file__).parent
SECONDS = 260.0
UNCOUNTED = ("async", "stream1000", "asked10", "asked1000")
MANY = 10  # chunks: above, what a call adds drowns in the noise of its chunks
QUICK_SECONDS = 10.0
CHUNKS = {"each chunk": "stream", "each chunk, usage asked": "asked"}
PACKAGES = ("openai-metering", "openai", "opentelemetry-api", "opentelemetry-sdk", "pydantic", "wrapt")

CALLER = "Added CPU time of the caller's thread"
WALL = "Added wall time"

console = Console()


class Worker:
    """A process that measures one variant."""

    def __init__(self, variant: str, base_url: str | None) -> None:
        command = [sys.executable, str(HERE / "worker.py"), variant]
        if base_url is not None:
            command += ["--base-url", base_url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.calls = 0
        self.others = 0.0
        """CPU of the background threads, microseconds per call so far."""
        self._told()

    def measure(self, case: str) -> dict[str, float]:
        """Measure one case. Returns microseconds per call."""
        calls = CASES[case].calls
        self.calls += calls
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"case": case, "calls": calls}) + "\n")
        self._process.stdin.flush()
        told = self._told()
        self.others = told.pop("others") / self.calls * 1e6
        return {clock: seconds / calls * 1e6 for clock, seconds in told.items()}

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("A worker of the benchmark has ended early; its own error stands above.")
        return json.loads(line)


def provider(stack: ExitStack) -> str:
    """Start the provider stand-in as a process of its own. Returns its base URL."""
    command = [sys.executable, "-m", "openai_metering.local.provider"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    return json.loads(process.stdout.readline())["base_url"]


# -- Measuring ---------------------------------------------------------------------------------------------------------


def measured(chosen: argparse.Namespace) -> tuple[Any, dict[str, float], int]:
    """Measure all cases in all variants, round after round, for as long as there is time.

    Returns:
        The samples by case and variant, the CPU of background threads by variant, and the number of rounds.
    """
    samples: Any = {case: {variant: [] for variant in chosen.variants} for case in chosen.cases}
    with ExitStack() as stack:
        base_url = provider(stack) if chosen.transport == "process" else None
        with console.status("Starting one process for each variant ..."):
            workers = {}
            for variant in chosen.variants:
                workers[variant] = worker = Worker(variant, base_url)
                stack.callback(worker.stop)
        progress = stack.enter_context(Progress(console=console, transient=True))
        task = progress.add_task("Measuring", total=chosen.seconds)
        start = time.perf_counter()
        rounds = 0
        while rounds < 2 or time.perf_counter() - start < chosen.seconds:
            for case, of_case in samples.items():
                for variant in _turned(chosen.variants, rounds):
                    of_case[variant].append(workers[variant].measure(case))
                    progress.update(
                        task, completed=time.perf_counter() - start, description=f"Round {rounds + 1}: {case}"
                    )
            rounds += 1
    return samples, {variant: worker.others for variant, worker in workers.items()}, rounds


def _turned(variants: list[str], by: int) -> list[str]:
    """Begin with another one in each round, so that none always follows the same neighbour."""
    place = by % len(variants)
    return variants[place:] + variants[:place]


def figures(samples: Any) -> dict[str, dict[str, dict[str, float]]]:
    """Sum the rounds up.

    Returns:
        For each case and variant, in microseconds per call: minimum and median of each clock, and what the variant adds
        to the bare SDK: the difference of the minima, and the median of the differences within one round.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for case, of_case in samples.items():
        bare = of_case.get("bare")
        found[case] = {}
        for variant, rounds in of_case.items():
            row: dict[str, float] = {}
            for clock in ("caller", "wall"):
                values = [one[clock] for one in rounds]
                row[f"{clock}_min"] = min(values)
                row[f"{clock}_median"] = statistics.median(values)
                if bare is not None:
                    before = [one[clock] for one in bare]
                    row[f"{clock}_added_min"] = min(values) - min(before)
                    row[f"{clock}_added_median"] = statistics.median(
                        after - first for after, first in zip(values, before, strict=True)
                    )
            found[case][variant] = row
    _add_chunks(found)
    return found


def _add_chunks(found: dict[str, dict[str, dict[str, float]]]) -> None:
    """The cost of one chunk: what 990 more of them add."""
    for chunk, form in CHUNKS.items():
        long, short = found.get(f"{form}1000"), found.get(f"{form}10")
        if long is not None and short is not None:
            found[chunk] = {
                variant: {name: (value - short[variant][name]) / 990 for name, value in row.items()}
                for variant, row in long.items()
            }


# -- Counting instructions ---------------------------------------------------------------------------------------------
def instructions(chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Count instructions per call under valgrind, in thousands: the same in every run on the same versions."""
    if shutil.which("valgrind") is None:
        console.print("[yellow]valgrind is not installed: instructions are not counted.")
        return {}
    found: dict[str, dict[str, float]] = {case: {} for case in chosen.counted}
    with Progress(console=console, transient=True) as progress:
        for variant in progress.track(
            chosen.variants, description="Counting instructions (a minute or so for each variant)"
        ):
            for case, count in _counted(variant, chosen.counted).items():
                found[case][variant] = count
    _count_chunks(found)
    return found


def _counted(variant: str, cases: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={folder}/%p"]
        command += [sys.executable, str(HERE / "worker.py"), variant, "--count", ",".join(cases)]
        ran = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"}
        )
        totals: dict[str, dict[int, int]] = {}
        for line in ran.stdout.splitlines():
            told = json.loads(line)
            written = Path(folder, str(told["pid"])).read_text()
            total = re.search(r"^(?:totals|summary): (\d+)", written, re.MULTILINE)
            if total is None:
                raise SystemExit("callgrind has not written a total")
            totals.setdefault(told["case"], {})[told["factor"]] = int(total[1])
    return {case: (of[2] - of[1]) / counted_calls(CASES[case]) / 1e3 for case, of in totals.items()}


def _count_chunks(found: dict[str, dict[str, float]]) -> None:
    long, short = found.get("stream100"), found.get("stream10")
    if long and short:
        found["each chunk"] = {variant: (count - short[variant]) / 90 for variant, count in long.items()}


# -- Showing -----------------------------------------------------------------------------------------------------------
def added_table(chosen: argparse.Namespace, found: Any, clock: str) -> list[list[str]]:
    """One row for each variant: what it adds to each case, minimum / median."""
    cases = list(found)
    rows = [["microseconds", *(CASES[case].title if case in CASES else case for case in cases)]]
    for variant in chosen.variants:
        row = [VARIANTS[variant].title]
        for case in cases:
            of = found[case][variant]
            kind = "" if variant == "bare" or f"{clock}_added_min" not in of else "_added"
            digits = 2 if case in CHUNKS else 0
            sign = "+" if kind else ""
            row.append(" / ".join(f"{of[f'{clock}{kind}_{way}']:{sign}.{digits}f}" for way in ("min", "median")))
        rows.append(row)
    ratio = _ratios(chosen, found, clock, cases) if clock == "caller" else []
    return [*rows, ratio] if ratio else rows


def _ratios(chosen: argparse.Namespace, found: Any, clock: str, cases: list[str]) -> list[str]:
    if not {"bare", "signals", "all"} <= set(chosen.variants):
        return []
    row = ["all / bare signals"]
    for case in cases:
        if case in CHUNKS or CASES[case].chunks > MANY:
            row.append("")
            continue
        ours, by_hand = found[case]["all"], found[case]["signals"]
        pair = (ours[f"{clock}_added_{way}"] / by_hand[f"{clock}_added_{way}"] for way in ("min", "median"))
        row.append(" / ".join(f"{one:.2f}" for one in pair))
    return row


def counts_table(chosen: argparse.Namespace, counted: dict[str, dict[str, float]]) -> list[list[str]]:
    """One row for each variant: thousands of instructions, and times those of the bare SDK."""
    rows = [["thousands", *(CASES[case].title if case in CASES else case for case in counted)]]
    for variant in chosen.variants:
        row = [VARIANTS[variant].title]
        for of in counted.values():
            bare = of.get("bare")
            more = f" (+{of[variant] - bare:.1f}, x{of[variant] / bare:.3f})" if bare and variant != "bare" else ""
            row.append(f"{of[variant]:.1f}{more}")
        rows.append(row)
    return rows


def parts_table(rows: list[tuple[str, str, float, float]]) -> list[list[str]]:
    """What stands alone."""
    return [
        ["CPU time", "min", "median"],
        *([title, f"{low:.1f} {unit}", f"{mid:.1f} {unit}"] for title, unit, low, mid in rows),
    ]


def show(title: str, rows: list[list[str]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)


def markdown(title: str, rows: list[list[str]]) -> str:
    """A table as Markdown."""
    lines = [f"## {title}", "", "| " + " | ".join(rows[0]) + " |", "| --- |" + " ---: |" * (len(rows[0]) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows[1:]), ""])


def conditions(chosen: argparse.Namespace, rounds: int) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "date": dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d"),
        "command": " ".join(["python benchmarks/overhead.py", *sys.argv[1:]]),
        "python": platform.python_version(),
        "processor": f"{os.cpu_count()} x {_processor()}",
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "transport": chosen.transport,
        "rounds": rounds,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _head(under: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in under["versions"].items())
    where = "in memory" if under["transport"] == "memory" else "in another process"
    return (
        f"# What a metered call costs\n\n"
        f"Made by `{under['command']}` on {under['date']}: Python {under['python']}, {under['processor']}, {versions}; "
        f"{under['rounds']} interleaved rounds, one process for each variant, provider {where}, "
        f"OpenTelemetry's SDK with batches and exporters that drop.\n\n"
        "Each cell is minimum / median over the rounds. The first row is the bare SDK itself; the other rows are what is "
        "added to it: the difference of the minima, and the median of the differences within a round; and the CPU time of "
        "background threads per call, over all calls. Where the caller asks for no usage, it is asked for where metered, so "
        "that each chunk the SDK reads is a field longer. Times differ from "
        "machine to machine and from hour to hour; what can be compared is the ratio within one run.\n"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute; prints only")
    parser.add_argument("--seconds", type=float, help="how long to measure")
    parser.add_argument("--transport", choices=("memory", "process"), default="memory")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="comma-separated: " + ", ".join(VARIANTS))
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated: " + ", ".join(CASES))
    parser.add_argument("--instructions", action="store_true", help="count instructions under valgrind, too (minutes)")
    parser.add_argument("--no-times", action="store_true", help="with --instructions: count only, and print only")
    chosen = parser.parse_args()
    for name, known in (("variants", VARIANTS), ("cases", CASES)):
        given = [one for one in getattr(chosen, name).split(",") if one]
        unknown = [one for one in given if one not in known]
        if unknown:
            parser.error(f"--{name}: {unknown[0]} is none of {', '.join(known)}")
        setattr(chosen, name, given)
    chosen.seconds = chosen.seconds or (QUICK_SECONDS if chosen.quick else SECONDS)
    chosen.counted = [case for case in chosen.cases if case not in UNCOUNTED]
    return chosen


def main() -> None:
    """Measure, print one table after the other, and write ``results.md`` and ``results.json`` beside this file."""
    chosen = _arguments()
    tables: dict[str, list[list[str]]] = {}
    written: dict[str, Any] = {}
    rounds = 0
    if not chosen.no_times:
        samples, others, rounds = measured(chosen)
        found = written["microseconds"] = figures(samples)
        written["background_microseconds"] = others
        rows = tables[CALLER] = added_table(chosen, found, "caller")
        for row, value in zip(
            rows, ["other threads", *(f"{value:.1f}" for value in others.values()), ""], strict=False
        ):
            row.append(value)
        tables[WALL] = added_table(chosen, found, "wall")
        with console.status("Measuring the parts alone ..."):
            alone = parts.measure(8 if chosen.quick else 20)
        written["parts"] = [dict(zip(("title", "unit", "min", "median"), row, strict=True)) for row in alone]
        tables["Starting, and parts alone"] = parts_table(alone)
    if chosen.instructions:
        counted = written["kilo_instructions"] = instructions(chosen)
        if counted:
            tables["Instructions per call"] = counts_table(chosen, counted)
    under = conditions(chosen, rounds)
    for title, rows in tables.items():
        if title != WALL:  # in the files
            show(title, rows)
    if chosen.quick or chosen.no_times:
        return
    text = "\n".join([_head(under), *(markdown(title, rows) for title, rows in tables.items())])
    (HERE / "results.md").write_text(text)
    (HERE / "results.json").write_text(json.dumps(under | written, indent=1) + "\n")
    console.print(f"Written: {HERE.name}/results.md and {HERE.name}/results.json")


if __name__ == "__main__":
    main()
