"""Threads, tasks and processes: who carries a scope by itself, and the helper for who does not."""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from openai_metering import Attribution, attribution, current_attribution, with_attribution

ACME = {"organization_id": "AcmeSoft", "subscriber_identity": "joe@acme.com"}
NOBODY = Attribution()


def in_thread(function: Any) -> Attribution:
    found: list[Attribution] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_a_pool_starts_with_nobody_and_is_carried_to() -> None:
    """A thread of a pool knows no scope, and gets one by the helper or by a copied context; it keeps neither."""
    with ThreadPoolExecutor(1) as pool:
        with attribution(ACME):
            bare = pool.submit(current_attribution).result()
            helped = pool.submit(with_attribution(current_attribution)).result()
            copied = pool.submit(contextvars.copy_context().run, current_attribution).result()
        after = pool.submit(current_attribution).result()
    assert (bare, helped, copied, after) == (NOBODY, Attribution(**ACME), Attribution(**ACME), NOBODY)


def test_the_helper_takes_the_scope_where_it_is_made() -> None:
    """The scope is that around the helper, not that around the thread's start."""
    with attribution(ACME):
        carried = with_attribution(current_attribution)
    assert in_thread(carried) == Attribution(**ACME)


def test_the_helper_takes_async_functions_and_generators() -> None:
    """What is wrapped may be async or a generator: a loop or a reader in another thread has the scope."""

    async def work() -> Attribution:
        await asyncio.sleep(0)
        return current_attribution()

    def steps() -> Any:
        yield current_attribution()

    with attribution(ACME):
        carried, generator = with_attribution(work), with_attribution(steps)
    assert in_thread(lambda: asyncio.run(carried())) == Attribution(**ACME)
    assert in_thread(lambda: next(generator())) == Attribution(**ACME)


def test_tasks_and_their_threads_carry_it() -> None:
    """Tasks, task groups of anyio, and threads that a loop starts with a context have the scope of who started them."""

    async def main() -> list[Attribution]:
        found: list[Attribution] = []

        async def note() -> None:
            await anyio.lowlevel.checkpoint()
            found.append(current_attribution())

        with attribution(ACME):
            task = asyncio.create_task(note())
            async with anyio.create_task_group() as group:
                group.start_soon(note)
            found.append(await asyncio.to_thread(current_attribution))
            found.append(await anyio.to_thread.run_sync(current_attribution))
            loop = asyncio.get_running_loop()
            found.append(await loop.run_in_executor(None, with_attribution(current_attribution)))
        await task
        return found

    assert asyncio.run(main()) == [Attribution(**ACME)] * 5


def given(values: Attribution) -> Attribution:
    with attribution(values):
        return current_attribution()


@pytest.mark.parametrize("method", ["spawn"])
def test_another_process_is_told(method: str) -> None:
    """A value of who crosses to another process as an argument."""
    with attribution(ACME), multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(given, (current_attribution(),)) == Attribution(**ACME)
        assert pool.apply(current_attribution) == NOBODY


SUB_INTERPRETER = """
import sys
try:
    import _interpreters as interpreters
    made = interpreters.create({kind!r})
except ImportError:
    import _xxsubinterpreters as interpreters
    made = interpreters.create(isolated={kind!r} == "isolated")
interpreters.run_string(made, '''
import sys
sys.path[:] = %r
from openai_metering import OpenAIInstrumentor, attribution
OpenAIInstrumentor().instrument()
with attribution(organization_id="AcmeSoft"):
    print("entered", flush=True)
OpenAIInstrumentor().uninstrument()
''' % (sys.path,))
interpreters.destroy(made)
"""


@pytest.mark.parametrize("kind", ["isolated", "legacy"])
def test_a_sub_interpreter_is_told_that_it_is_not_supported(kind: str) -> None:
    """In a sub-interpreter one clear line says so, and nothing breaks."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SUB_INTERPRETER.format(kind=kind))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "entered\n"), ran.stderr
    assert ran.stderr.count("does not support sub-interpreters") == 1
    assert "Traceback" not in ran.stderr


def test_the_main_interpreter_is_not_warned(caplog: pytest.LogCaptureFixture, telemetry: Any) -> None:
    """Nothing is said where everything is supported."""
    assert "sub-interpreters" not in caplog.text


GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent, sys
from openai_metering import attribution, current_attribution
def work(number):
    with attribution(organization_id=f"org-{number}"):
        for _ in range(5):
            gevent.sleep(0)
            assert current_attribution().organization_id == f"org-{number}"
    gevent.sleep(0)
    assert current_attribution().organization_id is None
jobs = [gevent.spawn(work, number) for number in range(50)]
gevent.joinall(jobs, raise_error=True)
print("apart")
"""


def test_greenlets_are_apart() -> None:
    """Under gevent, monkey-patched, interleaved greenlets never see each other's scope."""
    ran = subprocess.run([sys.executable, "-c", GEVENT], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (0, "apart\n"), ran.stderr
