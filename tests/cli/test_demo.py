"""``openai-metering demo``: what it prints and leaves behind is what the provider stand-in served, to the token."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from agreement import metrics, spans, tokens_recorded, tokens_served, usage_records, who
from openai_metering.local.discovery import config_path
from openai_metering.local.numbers import chat_usage, embedding_usage, response_usage
from openai_metering.signals import conventions as c

COMMAND = str(Path(sys.executable).parent / "openai-metering")
USAGE = {"chat.completions": chat_usage, "responses": response_usage, "embeddings": embedding_usage}
DEADLINE = 120.0  # seconds; far more than the ten that are promised, which benchmarks look after
COLUMNS = (c.INPUT_TOKENS, c.CACHE_READ_INPUT_TOKENS, c.OUTPUT_TOKENS, c.REASONING_OUTPUT_TOKENS)


@pytest.fixture(scope="module", params=["embedded", "collector"])
def pipeline(request):
    """Each pipeline; the Collector is built first where the cache has none."""
    if request.param == "collector":
        built = subprocess.run(
            [sys.executable, config_path("distribution/build.py")], stdout=subprocess.PIPE, check=False
        )
        if built.returncode != 0:
            pytest.fail("The Collector cannot be built; what build.py said above tells what to do.", pytrace=False)
    return request.param


def demo(*arguments, cwd, **changes):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "OPENAI_"))}
    return subprocess.run(
        [COMMAND, "demo", *map(str, arguments)],
        cwd=cwd,
        env=environment | {"NO_PROXY": "*"} | changes,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@pytest.fixture(scope="module")
def shown(pipeline, tmp_path_factory):
    """One demonstration: what it printed, and the folder it left."""
    cwd = tmp_path_factory.mktemp("demo")
    began = time.monotonic()
    done = demo("--pipeline", pipeline, cwd=cwd)
    print(f"The demo with the {pipeline} pipeline took {time.monotonic() - began:.1f} s.")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (folder,) = (cwd / "openai-metering-demo").iterdir()
    return done.stdout, folder


def row(text, label):
    """The numbers of a row of the table."""
    (line,) = (line for line in text.splitlines() if line.startswith(label))
    return [number.replace(",", "") for number in re.findall(r"(?<= )(?:[\d,]+|\?)(?= |$)", line)]


def sums(records):
    """What the table must say of some calls."""
    return [str(len(records)), *(str(sum(record.get(name, 0) for record in records)) for name in COLUMNS)]


def test_it_says_that_it_agrees(shown, pipeline):
    """The line under the table says that every record agrees with what was served, and the first which pipeline ran."""
    text, _ = shown
    assert re.search(r"^The provider served 13 calls; every record agrees with it to the token\.$", text, re.MULTILINE)
    assert text.startswith("Pipeline:")
    assert ("embedded" in text.splitlines()[0]) == (pipeline == "embedded")
    assert ("make collector" in text) == (pipeline == "embedded")


def test_records_agree_with_the_provider(shown):
    """Each record has the tokens that the provider's arithmetic gives for the number in its answer's id."""
    records = usage_records(shown[1])
    assert len(records) == len({record[c.RECORD_ID] for record in records}) == 13
    assert len({record[c.REQUEST_ID] for record in records}) == 13
    (refused,) = (record for record in records if record[c.USAGE_STATUS] == "not_billed")
    assert tokens_recorded(refused) == {}
    numbers = set()
    for record in records:
        if record is refused:
            continue
        if record[c.OPERATION] == "embeddings":  # the only kind whose answers have no id: its tokens tell the number
            number = (record[c.INPUT_TOKENS] - 1000) // 7
        else:
            number = int(re.search(r"\d+$", record[c.RESPONSE_ID])[0])
        numbers.add(number)
        if record[c.OUTCOME] == "completed":
            assert tokens_recorded(record) == tokens_served(USAGE[record[c.OPERATION]](number))
        else:
            assert (record[c.USAGE_STATUS], tokens_recorded(record)) == ("unknown", {})
    assert numbers == set(range(1, 13))


def test_the_table_agrees_with_the_records(shown):
    """Totals and the rows of their own are the sums of the records, with every call in exactly one of them."""
    text, folder = shown
    records = usage_records(folder)
    kinds = {
        "unattributed": [one for one in records if one[c.ATTRIBUTION_STATUS] == "unattributed"],
        "usage unknown": [one for one in records if one[c.USAGE_STATUS] == "unknown"],
        "not billed": [one for one in records if one[c.USAGE_STATUS] == "not_billed"],
    }
    assert [len(found) for found in kinds.values()] == [1, 1, 1]
    assert row(text, "unattributed") == sums(kinds["unattributed"])
    assert row(text, "usage unknown") == ["1", "?", "?", "?", "?"]
    assert row(text, "not billed") == ["1", "0", "0", "0", "0"]
    assert row(text, "total") == sums(records)
    owned = [one for one in records if not any(one in found for found in kinds.values())]
    parts = Counter(one[c.ORGANIZATION_ID] for one in owned)
    assert parts == {"AcmeSoft": 4, "BrightHealth": 5, "Nordbank": 1}
    subtotals = [line for line in text.splitlines() if line.startswith("subtotal")]
    assert [row(line, "subtotal") for line in subtotals] == [
        sums([one for one in owned if one[c.ORGANIZATION_ID] == name]) for name in ("AcmeSoft", "BrightHealth")
    ]


def test_every_owner_is_shown(shown):
    """Every organization, subscriber, credential and model that the calls name is in the table."""
    text, folder = shown
    for record in usage_records(folder):
        if record[c.USAGE_STATUS] == "reported":
            assert all(name in text for name in (*filter(None, who(record)), record[c.RESPONSE_MODEL]))


def test_spans_and_metrics_agree_with_the_records(shown):
    """The three signals say the same of each call."""
    _, folder = shown
    records = {record[c.REQUEST_ID]: record for record in usage_records(folder)}
    found = {span["attributes"][c.REQUEST_ID]: span["attributes"] for span in spans(folder)}
    assert found.keys() == records.keys()
    for request_id, record in records.items():
        span = found[request_id]
        assert who(span) == who(record)
        assert tokens_recorded(span) == tokens_recorded(record)
    (calls,) = (metric for metric in metrics(folder) if metric["name"] == c.METRIC_CALLS)
    assert sum(int(point["asInt"]) for point in calls["sum"]["dataPoints"]) == 13


def test_the_files_that_it_names_are_there(shown):
    """Each file is named as the user would write it, and the report of the last line gives the same total."""
    text, folder = shown
    home = folder.parents[1]
    named = re.findall(r"^  (\S+\.jsonl)$", text, re.MULTILINE)
    assert {home / name for name in named} == set(folder.glob("*.jsonl"))
    (again,) = re.findall(r"^Again from these files: (.*)$", text, re.MULTILINE)
    command = again.split()
    assert Path(command[0]).name == "openai-metering"
    done = subprocess.run([COMMAND, *command[1:]], cwd=home, capture_output=True, text=True, check=True)
    assert row(done.stdout, "total") == row(text, "total")


def test_a_span_is_shown_as_it_was_received(shown):
    """One span is printed with its name and every attribute that arrived."""
    text, folder = shown
    printed = text.split("A span as it was received: ")[1].split("\n\n")[0]
    first = spans(folder)[0]
    assert printed.startswith(first["name"])
    assert first["traceId"] in printed
    for name, value in first["attributes"].items():
        assert re.search(rf"^  {re.escape(name)} +{re.escape(str(value))}$", printed, re.MULTILINE)


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_a_folder_that_cannot_be_made(output, tmp_path):
    """The error names the folder and the option, and nothing was started."""
    (tmp_path / "file").write_text("in the way")
    done = demo("--pipeline", "embedded", "--output", output, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(rf"openai-metering: the folder {output}/\S+ cannot be made: .*--output DIR\.\n", done.stderr)


def test_a_collector_that_is_none(tmp_path):
    """Asked for a Collector where there is none, the demo says what it looked at and how to get one."""
    done = demo(
        "--pipeline", "collector", cwd=tmp_path, PATH="", OTELCOL="no-such-file", OPENAI_METERING_CACHE=str(tmp_path)
    )
    assert done.returncode == 2
    assert all(words in done.stderr for words in ("no-such-file cannot be executed", "not built yet", "Build one"))
    assert "Traceback" not in done.stderr


def test_each_run_gets_a_folder_of_its_own(tmp_path):
    """Two runs into one folder, named absolutely and from somewhere else, are kept apart."""
    (tmp_path / "elsewhere").mkdir()
    for _ in range(2):
        done = demo("--pipeline", "embedded", "--output", tmp_path / "out", cwd=tmp_path / "elsewhere")
        assert done.returncode == 0, done.stderr
    folders = list((tmp_path / "out").iterdir())
    assert [len(usage_records(folder)) for folder in folders] == [13, 13]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_users_own_settings_do_not_disturb_it(pipeline, tmp_path):
    """Variables that are meant for other applications change nothing, and their values reach nobody."""
    done = demo(
        "--pipeline",
        pipeline,
        cwd=tmp_path,
        OTEL_SDK_DISABLED="true",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://127.0.0.1:9/v1/traces",
        OTEL_EXPORTER_OTLP_HEADERS="api-key=do-not-send",
        OTEL_TRACES_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_TRACES_SAMPLER="always_off",
        OTEL_SERVICE_NAME="mine",
        OTEL_RESOURCE_ATTRIBUTES="team=mine",
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="openai_metering",
        OTEL_ATTRIBUTE_COUNT_LIMIT="1",
        OPENAI_API_KEY="do-not-send",
        OPENAI_BASE_URL="http://127.0.0.1:9",
        OPENAI_METERING_ENABLED="false",
        OPENAI_METERING_ORGANIZATION_ID="mine",
        OPENAI_METERING_RECORDS="none",
        OPENAI_METERING_LEDGER_DIR=str(tmp_path / "ledger"),
    )
    assert done.returncode == 0, done.stderr
    assert "every record agrees with it to the token" in done.stdout
    assert not (tmp_path / "ledger").exists()
    (folder,) = (tmp_path / "openai-metering-demo").iterdir()
    received = "".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
    assert not any(value in received for value in ('"mine"', "do-not-send"))
