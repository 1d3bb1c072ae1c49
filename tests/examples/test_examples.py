"""Every example, run as its README says, against the provider stand-in."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from agreement import all_spans, assert_agrees, by_request_id, metrics, spans, tokens_recorded, usage_records, who
from openai_metering.local.provider import ProviderStandIn
from openai_metering.local.receiver import OtlpReceiver
from openai_metering.signals import conventions as c

EXAMPLES = Path(__file__).parents[2] / "examples"
ROW = re.compile(r"\| \[`(?P<name>[^`]+)`\]\((?P=name)\) \| [^|]+ \| (?P<how>[^|]+) \|")
COMMANDS = {
    found["name"]: re.findall(r"`([^`]+)`", found["how"])
    for found in ROW.finditer((EXAMPLES / "README.md").read_text(encoding="utf-8"))
}
DEADLINE = 60.0  # seconds, for a whole example
tested = set()


def runs(name):
    """Mark a test as the one that runs an example; it gets the commands of the example's row in the README."""
    tested.add(name)
    return pytest.mark.parametrize("commands", [COMMANDS.get(name)], ids=[name])


@pytest.fixture
def provider():
    with ProviderStandIn() as running:
        yield running
        assert running.violations == []


@pytest.fixture
def receiver(tmp_path):
    with OtlpReceiver(tmp_path / "received") as running:
        yield running


@pytest.fixture
def user(tmp_path, provider):
    """The environment of a user, whose folder holds the examples."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENAI_"))}
    return environment | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "OPENAI_API_KEY": "test",
        "OPENAI_BASE_URL": provider.base_url,
        "NO_PROXY": "*",
    }


@pytest.fixture
def otlp(user, receiver):
    """The same user, whose telemetry goes to the receiver."""
    return user | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }


def split(command):
    """A command line of the README: what it sets, and what it starts."""
    words = shlex.split(command)
    settings = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
    return settings, words[len(settings) :]


def run(command, folder, environment, status=0):
    settings, arguments = split(command)
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=environment | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_every_example_is_run():
    """An example that no test runs, or that the README does not name, is not there."""
    assert {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")} == tested == set(COMMANDS)


def test_every_example_is_short():
    """An example is read in a minute."""
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in EXAMPLES.rglob("*.py")}
    assert all(20 <= length <= 50 for length in lengths.values()), lengths


@runs("reference_example.py")
def test_reference_example(commands, provider, user, tmp_path):
    """The reference product's call works word for word, and its three names are on the record."""
    answer = run(*commands, tmp_path, user)
    records = usage_records(tmp_path / "ledger")
    assert_agrees(records, provider.wait_served(1))
    (record,) = records
    assert who(record) == ("AcmeSoft", "joe@acme.com", "key1-hubspot")
    assert (record[c.REQUEST_MODEL], record[c.REQUEST_MAX_TOKENS]) == ("gpt-4", 500)
    assert answer.strip()


@runs("reference_example.py")
def test_reference_example_under_the_launcher(commands, provider, otlp, receiver, tmp_path):
    """Activated twice, by the launcher and by its own line, a call counts once."""
    _, arguments = split(commands[0])
    run(shlex.join(["opentelemetry-instrument", *arguments]), tmp_path, otlp)
    (record,) = usage_records(receiver.directory)
    (span,) = spans(receiver.directory)
    assert who(record) == who(span["attributes"]) == ("AcmeSoft", "joe@acme.com", "key1-hubspot")
    assert_agrees([record], provider.served)


@runs("launcher/app.py")
def test_launcher(commands, provider, otlp, receiver, tmp_path):
    """The table's one line meters an application that knows nothing of it, for the organization it names."""
    run(*commands, tmp_path, otlp)
    records = usage_records(receiver.directory)
    assert_agrees(records, provider.wait_served(3))
    assert {who(record) for record in records} == {("AcmeSoft", None, None)}
    assert {record[c.ATTRIBUTION_STATUS] for record in records} == {"partial"}


def test_launcher_readme(provider, otlp, receiver, tmp_path):
    """The launcher's README, followed to the letter, gives every call its three names."""
    text = (EXAMPLES / "launcher" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    assert "http://localhost:4317" in block
    run(shlex.join(["sh", "-euc", block.replace("http://localhost:4317", receiver.endpoint)]), tmp_path, otlp)
    records = usage_records(receiver.directory)
    found = spans(receiver.directory)
    assert_agrees(records, provider.wait_served(3))
    assert_agrees([span["attributes"] for span in found], provider.served)
    assert {who(record) for record in records} == {("AcmeSoft", "svc-tickets@acme.com", "key2-tickets")}
    assert sorted(span["name"] for span in found) == [
        "chat gpt-4o-mini",
        "chat gpt-4o-mini",
        "embeddings text-embedding-3-small",
    ]


def test_the_launched_application_knows_nothing_of_telemetry():
    """What the launcher starts imports the SDK and nothing else."""
    source = (EXAMPLES / "launcher" / "app.py").read_text(encoding="utf-8")
    assert re.findall(r"^\s*(?:import|from) (\S+)", source, flags=re.MULTILINE) == ["openai"]
    assert "metadata" not in source


@runs("manual_setup.py")
def test_manual_setup(commands, provider, otlp, receiver, tmp_path):
    """All three signals of the call arrive through the user's own exporters, its span below the user's own."""
    run(*commands, tmp_path, otlp)
    (record,) = usage_records(receiver.directory)
    own, outer = sorted(
        (
            span
            for span in all_spans(receiver.directory)
            if span["name"] in ("weekly report", record["gen_ai.operation.name"] + " " + record["gen_ai.request.model"])
        ),
        key=lambda span: span["name"],
    )
    assert_agrees([record], provider.wait_served(1))
    assert_agrees([own["attributes"]], provider.served)
    assert who(record) == who(own["attributes"]) == ("AcmeSoft", "ann@acme.com", "key3-reports")
    assert (outer["name"], own["parentSpanId"]) == ("weekly report", outer["spanId"])
    (counter,) = (found for found in metrics(receiver.directory) if found["name"] == c.METRIC_INPUT_TOKENS)
    (point,) = counter["sum"]["dataPoints"]
    assert point["attributes"][c.ORGANIZATION_ID] == "AcmeSoft"
    assert int(point["asInt"]) == provider.served[0].usage["input_tokens"]


@runs("streaming.py")
def test_streaming(commands, provider, user, tmp_path):
    """A stream that is read to its end has its usage, one that is left early says that nobody saw it."""
    run(*commands, tmp_path, user)
    served = provider.wait_served(2)
    records = usage_records(tmp_path / "ledger")
    assert_agrees(records, served)
    whole, left = (by_request_id(records)[answer.request_id] for answer in sorted(served, key=lambda one: one.n))
    assert {who(whole), who(left)} == {("AcmeSoft", "joe@acme.com", "key1-hubspot")}
    assert (whole[c.OUTCOME], whole[c.USAGE_STATUS]) == ("completed", "reported")
    assert (left[c.OUTCOME], left[c.USAGE_STATUS], left[c.USAGE_REASON]) == (
        "stopped",
        "unknown",
        "closed_before_usage",
    )


@runs("ledger.py")
def test_ledger(commands, provider, user, tmp_path):
    """Both records are on disk although the process was killed, and the report adds them up."""
    script, report = commands
    run(script, tmp_path, user, status=-signal.SIGKILL)
    records = usage_records(tmp_path / "ledger")
    assert_agrees(records, provider.wait_served(2))
    assert {record[c.OPERATION]: who(record) for record in records} == {
        "embeddings": ("AcmeSoft", "ann@acme.com", "key3-reports"),
        "responses": ("Nordbank", "mia@nordbank.example", "key7-batch"),
    }
    table = run(report, tmp_path, user)
    for record in records:
        (row,) = (line for line in table.splitlines() if line.startswith(record[c.ORGANIZATION_ID]))
        assert f" {record[c.INPUT_TOKENS]:,} " in row
        assert ("annual report" in row) == (record[c.OPERATION] == "responses")


# -- The web service -------------------------------------------------------------------------------------------------
CUSTOMERS = {"AcmeSoft": "joe@acme.com", "Nordbank": "mia@nordbank.example"}
REQUESTS = 12  # of each customer, all open at once

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(service, customer, question):
    """Open a streamed answer."""
    query = urllib.parse.urlencode({"question": question})
    headers = {"customer": customer, "user": CUSTOMERS[customer]}
    return direct.open(urllib.request.Request(f"{service}/ask?{query}", headers=headers), timeout=DEADLINE)


@contextlib.contextmanager
def started(command, folder, environment, *options, ready):
    """Start what goes on running, and wait for the line that says that it is ready."""
    settings, arguments = split(command)
    log = folder / "running.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*arguments, *options],
            cwd=folder,
            env=environment | settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield wait_while(process, lambda: re.search(ready, log.read_text()))
    finally:
        process.terminate()
        process.wait(DEADLINE)


RUNNING = r"running on (http://\S+)"


@pytest.fixture
def service(user, tmp_path):
    """The example under uvicorn on a free port; the provider holds each stream until it is told to go on."""
    environment = user | {"OPENAI_CUSTOM_HEADERS": "x-standin-scenario: hold"}
    with started(*COMMANDS["web_handler.py"], tmp_path, environment, "--port", "0", ready=RUNNING) as found:
        yield found[1]


def wait_while(process, condition):
    """Wait for a condition as long as a process runs."""
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    return found


@runs("web_handler.py")
def test_web_handler(commands, provider, service, tmp_path):
    """Streams of two customers, open at once and read after their handlers returned, are each counted for their own."""
    questions = [(customer, f"{customer} asks {number}") for number in range(REQUESTS) for customer in CUSTOMERS]
    all_open = threading.Barrier(len(questions) + 1, timeout=DEADLINE)

    def reads(customer, question):
        with ask(service, customer, question) as answer:
            first = answer.read(1)
            all_open.wait()
            return first + answer.read()

    with concurrent.futures.ThreadPoolExecutor(len(questions)) as browsers:
        readers = [browsers.submit(reads, *question) for question in questions]
        all_open.wait()
        assert provider.served == []
        while concurrent.futures.wait(readers, 0.05).not_done:
            provider.release()
        assert all(reader.result() for reader in readers)
    served = provider.wait_served(len(questions))
    records = usage_records(tmp_path / "ledger")
    assert_agrees(records, served)
    found = by_request_id(records)
    for answer in served:
        customer = answer.json["messages"][0]["content"].split()[0]
        assert who(found[answer.request_id]) == (customer, CUSTOMERS[customer], "web")
        assert found[answer.request_id][c.OUTCOME] == "completed"
        assert not set(CUSTOMERS) & set(answer.headers.values())


def test_web_handler_whose_browser_is_closed(provider, service, tmp_path):
    """A customer who leaves half-way ends the call at once, and it is still the customer's."""
    with ask(service, "AcmeSoft", "What is left?") as answer:
        answer.read(1)
    (served,) = provider.wait_served(1)
    ledger = tmp_path / "ledger"
    deadline = time.monotonic() + DEADLINE
    while not (records := usage_records(ledger)):
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
    (record,) = records
    assert record[c.REQUEST_ID] == served.request_id
    assert who(record) == ("AcmeSoft", "joe@acme.com", "web")
    assert record[c.OUTCOME] in {"stopped", "cancelled"}
    assert record[c.USAGE_STATUS] == "unknown"
    assert tokens_recorded(record) == {}


@runs("web_middleware.py")
def test_web_middleware(commands, provider, user, tmp_path):
    """All calls of a request are for the owner of its token; a request without one is nobody's."""
    with started(*commands, tmp_path, user, "--port", "0", ready=RUNNING) as found:

        def get(number, token):
            query = urllib.parse.urlencode({"question": f"{token} asks {number}"})
            headers = {"authorization": f"Bearer {token}", "user": "mallory@evil.example"}
            return direct.open(
                urllib.request.Request(f"{found[1]}/ask?{query}", headers=headers), timeout=DEADLINE
            ).read()

        tokens = ("token-of-joe", "token-of-mia", "unknown")
        with concurrent.futures.ThreadPoolExecutor(6) as browsers:
            assert all(browsers.map(get, range(12), tokens * 4))
    served = provider.wait_served(24)
    records = usage_records(tmp_path / "ledger")
    assert_agrees(records, served)
    by_id = by_request_id(records)
    names = {
        "token-of-joe": ("AcmeSoft", "joe@acme.com", None),
        "token-of-mia": ("Nordbank", "mia@nordbank.example", None),
        "unknown": (None, None, None),
    }
    for answer in served:
        token = answer.json["input"].split()[0]
        assert who(by_id[answer.request_id]) == names[token]
        assert by_id[answer.request_id].get("attribution.tag.route") == (None if token == "unknown" else "/ask")


@runs("celery_tasks.py")
def test_celery_tasks(commands, provider, user, tmp_path):
    """Each task is counted in the worker, for whom the scope of its sender named."""
    worker, sender = commands
    with started(worker, tmp_path, user, ready=r"celery@\S+ ready"):
        answers = run(sender, tmp_path, user).splitlines()
    assert len(answers) == 2
    served = provider.wait_served(2)
    records = usage_records(tmp_path / "ledger")
    assert_agrees(records, served)
    by_id = by_request_id(records)
    for answer in served:
        customer = answer.json["input"].split()[-1]
        assert who(by_id[answer.request_id]) == (customer, CUSTOMERS[customer], None)
        assert by_id[answer.request_id]["attribution.tag.queue"] == "summaries"
