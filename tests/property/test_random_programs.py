"""Random programs of scopes, tasks, threads and generators: who each call is for is what a simple model says."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

from openai_metering.scope import attribution, current_attribution
from openai_metering.threads import with_attribution

FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
LEVELS = ("organization_id", "subscriber_identity", "subscriber_credential")

scopes = st.dictionaries(st.sampled_from(LEVELS), st.sampled_from(["a", "b", "", None]), max_size=3)
programs = st.recursive(
    st.just(("call",)) | st.just(("pause",)),
    lambda inner: (
        st.tuples(st.just("scope"), scopes, st.lists(inner, max_size=4))
        | st.tuples(st.sampled_from(["task", "thread", "carried", "generator", "left"]), st.lists(inner, max_size=4))
    ),
    max_leaves=25,
)


def laid(outer: dict[str, str], inner: dict[str, Any]) -> dict[str, str]:
    return outer | {name: value for name, value in inner.items() if value}


def now() -> dict[str, str]:
    found = current_attribution()
    return {name: getattr(found, name) for name in LEVELS if getattr(found, name) is not None}


class Run:
    """Runs a program, and notes each call that found another name than the model's."""

    def __init__(self) -> None:
        self.wrong: list[Any] = []
        self.left: list[Any] = []

    async def steps(self, program: Any, model: dict[str, str]) -> None:
        started = []
        for step in program:
            kind = step[0]
            if kind == "call":
                if now() != model:
                    self.wrong.append((now(), model))
            elif kind == "pause":
                await asyncio.sleep(0)
            elif kind == "scope":
                with attribution(step[1]):
                    await self.steps(step[2], laid(model, step[1]))
            elif kind == "task":
                started.append(asyncio.create_task(self.steps(step[1], model)))
            elif kind in {"thread", "carried"}:
                await self.thread(step[1], model if kind == "carried" else {}, carried=kind == "carried")
            else:
                generator = self.generator(step[1], model)
                async for _ in generator:
                    if kind == "left":  # finalised by another task, after this one has ended
                        self.left.append(generator)
                        break
        if now() != model and not self.left:
            self.wrong.append(("after", now(), model))
        await asyncio.gather(*started)

    async def generator(self, program: Any, model: dict[str, str]) -> Any:
        decorated = attribution(organization_id="generator")(self.inner)
        async for item in decorated(program, laid(model, {"organization_id": "generator"})):
            yield item

    async def inner(self, program: Any, model: dict[str, str]) -> Any:
        for step in program:
            await self.steps([step], model)
            yield step

    async def thread(self, program: Any, model: dict[str, str], *, carried: bool) -> None:
        def work() -> None:
            asyncio.run(self.steps(program, model))

        thread = threading.Thread(target=with_attribution(work) if carried else work)
        thread.start()
        await asyncio.to_thread(thread.join)


async def whole(run: Run, program: Any) -> None:
    await asyncio.gather(*(asyncio.create_task(run.steps(program, {})) for _ in range(2)))
    for generator in run.left:
        await asyncio.create_task(generator.aclose())


@settings(
    max_examples=10_000 if FULL else 200,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=not FULL,
)
@given(program=st.lists(programs, max_size=6))
def test_any_program_of_scopes(program: Any) -> None:
    """Whatever is nested in whatever, each call is for whom the scopes around it name, and nothing stays behind."""
    run = Run()
    asyncio.run(whole(run, program))
    assert run.wrong == []
    assert now() == {}
