"""An application that is killed: it calls in threads, tasks, streams or forked workers, and says which answers it got.

Started as ``python killed_app.py MODE``, by gunicorn as ``killed_app:application``, or by Celery as ``killed_app:tasks``.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path

import openai

from openai_metering import OpenAIInstrumentor

OpenAIInstrumentor().instrument()

FOLDER = Path(os.environ["TOLD"])
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
numbers = itertools.count()


def tell(what: str, call: str) -> None:
    """Say something about a call, in one write that survives this process."""
    descriptor = os.open(FOLDER / f"{what}-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{call} {time.time()}\n".encode())
    os.close(descriptor)


def who() -> tuple[str, dict[str, str]]:
    """Who a call is for, with the number of the call as a tag."""
    call = f"{os.getpid()}-{next(numbers)}"
    return call, {"organization_id": "AcmeSoft", "call": call}


@functools.cache
def client_of(process: int) -> openai.OpenAI:
    """A client of this process's own: connections must not be shared with a forked one."""
    return openai.OpenAI(base_url=os.environ["PROVIDER"], api_key="test", max_retries=0)


def client() -> openai.OpenAI:
    return client_of(os.getpid())


def plain(caller: openai.OpenAI) -> None:
    call, metadata = who()
    caller.chat.completions.create(**CHAT, usage_metadata=metadata)
    tell("got", call)


def stream(caller: openai.OpenAI) -> None:
    call, metadata = who()
    for _ in caller.chat.completions.create(**CHAT, stream=True, usage_metadata=metadata):
        pass
    tell("got", call)


def hang(caller: openai.OpenAI) -> None:
    """A call whose answer never comes."""
    call, metadata = who()
    tell("began", call)
    caller.chat.completions.create(**CHAT, extra_headers={"x-standin-scenario": "hold"}, usage_metadata=metadata)
    tell("got", call)


def forever(work) -> None:
    caller = client()
    while True:
        work(caller)


def threads(works) -> None:
    started = [threading.Thread(target=forever, args=(work,), daemon=True) for work in works]
    started.append(threading.Thread(target=hang, args=(client(),), daemon=True))
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


async def task(caller: openai.AsyncOpenAI) -> None:
    while True:
        call, metadata = who()
        await caller.chat.completions.create(**CHAT, usage_metadata=metadata)
        tell("got", call)


async def tasks_of_a_loop() -> None:
    caller = openai.AsyncOpenAI(base_url=os.environ["PROVIDER"], api_key="test", max_retries=0)
    threading.Thread(target=hang, args=(client(),), daemon=True).start()
    await asyncio.gather(*(task(caller) for _ in range(8)))


def forked() -> None:
    plain(client())  # so that the file that must not be written by a child is open
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=threads, args=([plain, stream],)) for _ in range(2)]
    for child in children:
        child.start()
    threads([plain])


MODES = {
    "threads": lambda: threads([plain] * 6),
    "tasks": lambda: asyncio.run(tasks_of_a_loop()),
    "streams": lambda: threads([stream] * 6),
    "forked": forked,
}


if os.environ.get("SERVER") == "gunicorn":
    plain(client())

    def application(environ, start_response):
        """One request, one call."""
        (hang if environ["PATH_INFO"] == "/hang" else plain)(client())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]


if os.environ.get("SERVER") == "celery":
    from celery import Celery
    from celery.signals import worker_ready

    queue = FOLDER / "queue"
    queue.mkdir(exist_ok=True)
    tasks = Celery("killed_app", broker="filesystem://")
    tasks.conf.broker_transport_options = {
        "data_folder_in": str(queue),
        "data_folder_out": str(queue),
        "control_folder": str(queue),
        "polling_interval": 0.01,
    }
    tasks.conf.worker_prefetch_multiplier = 10
    plain(client())

    @tasks.task(name="call")
    def one_call() -> None:
        plain(client())

    @tasks.task(name="hang")
    def one_hang() -> None:
        hang(client())

    @worker_ready.connect
    def enqueue(**_) -> None:
        one_hang.delay()
        for _ in range(400):
            one_call.delay()


if __name__ == "__main__":
    MODES[sys.argv[1]]()
