"""Real calls where threads, tasks, greenlets and processes meet: each is for whom the scope of its own place names."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import openai
import pytest

from openai_metering import attribution, with_attribution

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]}
ORGANIZATION = "attribution.organization.id"
PERSONS = 20


@pytest.fixture
def client(provider: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.base_url, max_retries=0, timeout=120) as made:
        yield made


def call(client: openai.OpenAI, name: str = "", *, stream: bool = False) -> None:
    """Make a call that says where it was made, and not for whom."""
    answer: Any = client.chat.completions.create(**CHAT, stream=stream, usage_metadata={"place": name})
    if stream:
        list(answer)


def found(telemetry: Any) -> dict[str, str | None]:
    """Who each call is for, by the place that it was made at."""
    records = telemetry.records
    places = {record["attribution.tag.place"]: record.get(ORGANIZATION) for record in records}
    assert len(places) == len(records)
    return places


# -- Callbacks ---------------------------------------------------------------------------------------------------------


def test_callbacks_of_a_future(client: openai.OpenAI, telemetry: Any) -> None:
    """A callback runs in the thread that ends the future: for nobody, unless it is carried; of an ended one, here."""
    release = threading.Event()
    with ThreadPoolExecutor(1) as pool, attribution(organization_id="AcmeSoft"):
        future = pool.submit(release.wait)
        future.add_done_callback(lambda _: call(client, "bare"))
        future.add_done_callback(with_attribution(lambda _: call(client, "carried", stream=True)))
        release.set()
        future.result()
    future.add_done_callback(lambda _: call(client, "after"))
    with attribution(organization_id="Globex"):
        future.add_done_callback(lambda _: call(client, "at once"))
    assert found(telemetry) == {"bare": None, "carried": "AcmeSoft", "after": None, "at once": "Globex"}


def test_callbacks_of_tasks_and_loops(client: openai.OpenAI, telemetry: Any) -> None:
    """Asyncio copies the context where a callback is added; an executor's function has none, `to_thread`'s has."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with attribution(organization_id="AcmeSoft"):
            task = asyncio.create_task(asyncio.sleep(0))
            task.add_done_callback(lambda _: call(client, "task"))
            loop.call_soon(call, client, "soon")
            loop.call_later(0, call, client, "later")
            executed = loop.run_in_executor(None, call, client, "executor")
            carried = loop.run_in_executor(None, with_attribution(functools.partial(call, client, "carried")))
            thread = asyncio.create_task(asyncio.to_thread(call, client, "to_thread", stream=True))
        with attribution(organization_id="Globex"):
            await asyncio.gather(task, executed, carried, thread)
            ended = asyncio.Event()
            loop.call_later(0.001, ended.set)  # comes after what was to come at once
            await ended.wait()

    asyncio.run(main())
    assert found(telemetry) == {
        "executor": None,
        **dict.fromkeys(("task", "soon", "later", "carried", "to_thread"), "AcmeSoft"),
    }


# -- anyio ---------------------------------------------------------------------------------------------------------------


def test_task_groups_of_anyio(client: openai.OpenAI, provider: Any, telemetry: Any) -> None:
    """Tasks of a group, their streams and their threads keep apart, however they are interleaved."""

    async def one(made: openai.AsyncOpenAI, number: int) -> None:
        with attribution(organization_id=f"org-{number}"):
            said = {"usage_metadata": {"place": f"stream-{number}"}}
            stream: Any = await made.chat.completions.create(**CHAT, stream=True, **said)
            await anyio.to_thread.run_sync(call, client, f"thread-{number}")
            async for _ in stream:
                await anyio.lowlevel.checkpoint()
            said = {"usage_metadata": {"place": f"plain-{number}"}}
            await made.chat.completions.create(**CHAT, **said)

    async def main() -> None:
        client = openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0, timeout=120)
        async with client as made, anyio.create_task_group() as group:
            for number in range(PERSONS):
                group.start_soon(one, made, number)

    anyio.run(main)
    places = found(telemetry)
    assert len(places) == 3 * PERSONS
    assert {place: f"org-{place.rpartition('-')[2]}" for place in places} == places


def test_a_cancelled_task_group_leaves_nothing_behind(provider: Any, telemetry: Any) -> None:
    """A scope that is cancelled in the middle of a call is left: what comes after it is for nobody."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0, timeout=120) as made:
            with anyio.move_on_after(0.2), attribution(organization_id="AcmeSoft"):
                async with anyio.create_task_group() as group:
                    headers = {"x-standin-scenario": "timeout"}
                    for _ in range(3):
                        group.start_soon(functools.partial(made.chat.completions.create, **CHAT, extra_headers=headers))
            await made.chat.completions.create(**CHAT)

    anyio.run(main)
    assert [record.get(ORGANIZATION) for record in telemetry.records] == ["AcmeSoft"] * 3 + [None]
    assert [record["openai_metering.outcome"] for record in telemetry.records] == ["cancelled"] * 3 + ["completed"]


# -- Processes -------------------------------------------------------------------------------------------------------------

SET_UP = """
import os, sys
from openai_metering import OpenAIInstrumentor, attribution, current_attribution, with_attribution
import openai
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]}
def call(place, stream=False):
    with openai.OpenAI(max_retries=0, timeout=120) as client:
        answer = client.chat.completions.create(**CHAT, stream=stream, usage_metadata={"place": place})
        if stream:
            list(answer)
"""

GEVENT = f"""
from gevent import monkey
monkey.patch_all()
import gevent
{SET_UP}
OpenAIInstrumentor().instrument()
def work(number):
    with attribution(organization_id=f"org-{{number}}"):
        call(f"plain-{{number}}")
        call(f"stream-{{number}}", stream=True)
gevent.joinall([gevent.spawn(work, number) for number in range({PERSONS})], raise_error=True)
call("after-None")
"""

FORK = f"""{SET_UP}
OpenAIInstrumentor().instrument()
call("before-None")
with attribution(organization_id="AcmeSoft"):
    child = os.fork()
    call("child-AcmeSoft" if child == 0 else "parent-AcmeSoft", stream=True)
with attribution(organization_id="Globex"):
    call("later_child-Globex" if child == 0 else "later_parent-Globex")
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
"""

PROCESSES = f"""
import multiprocessing
{SET_UP}
def start():
    if not OpenAIInstrumentor().is_instrumented_by_opentelemetry:
        OpenAIInstrumentor().instrument()
def work(place, who):
    call(place + "_bare" + ("-AcmeSoft" if multiprocessing.get_start_method() == "fork" else "-None"))
    with attribution(who):
        call(place + "-AcmeSoft", stream=True)
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    start()
    with attribution(organization_id="AcmeSoft"):
        call("parent-AcmeSoft")
        with multiprocessing.Pool(2, initializer=start) as pool:
            pool.starmap(work, [(f"worker{{number}}", current_attribution()) for number in range(4)], chunksize=1)
            pool.close()
            pool.join()
"""


def on_disk(folder: Path) -> dict[str, str]:
    places = {}
    for file in folder.glob("*.jsonl"):
        for line in file.read_text("utf-8").splitlines():
            (record,) = json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
            said = {pair["key"]: next(iter(pair["value"].values())) for pair in record["attributes"]}
            assert said["attribution.tag.place"] not in places, "counted twice"
            places[said["attribution.tag.place"]] = said.get(ORGANIZATION, "None")
    return places


def run(script: str, provider: Any, folder: Path, *arguments: str) -> dict[str, str]:
    """Run a program, and return who each of its calls is for."""
    program = folder / "program.py"
    program.write_text(script, "utf-8")
    ledger = folder / "ledger"
    given = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_METERING_LEDGER_DIR": str(ledger)}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", str(program), *arguments],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    assert len(provider.served) == len(on_disk(ledger))
    return on_disk(ledger)


def expected(places: dict[str, str]) -> dict[str, str]:
    return {place: place.partition("-")[2] for place in places}


def test_greenlets_keep_apart(provider: Any, tmp_path: Path) -> None:
    """Under gevent, monkey-patched: greenlets that wait for the same server, plain and streamed."""
    places = run(GEVENT, provider, tmp_path)
    assert len(places) == 2 * PERSONS + 1
    assert places == {
        **{f"{form}-{number}": f"org-{number}" for form in ("plain", "stream") for number in range(PERSONS)},
        "after-None": "None",
    }


def test_a_fork_has_the_scope_around_it(provider: Any, tmp_path: Path) -> None:
    """A child goes on in the scope that it was forked in, and each of the two counts its own calls, once."""
    places = run(FORK, provider, tmp_path)
    assert len(places) == 5
    assert places == expected(places)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_pool_of_processes(provider: Any, tmp_path: Path, method: str) -> None:
    """Who a job is for crosses as an argument; a forked worker has the scope in which the pool was made, any other none."""
    places = run(PROCESSES, provider, tmp_path, method)
    assert len(places) == 1 + 2 * 4
    assert places == expected(places)
