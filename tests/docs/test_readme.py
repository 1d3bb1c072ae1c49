"""The README is true: what it says is emitted, allowed, linked and started is what there is."""

from __future__ import annotations

import argparse
import ast
import asyncio
import dataclasses
import itertools
import re
import shlex
import subprocess
from pathlib import Path

import openai
import pytest

import openai_metering
from openai_metering import finished, usage
from openai_metering.cli import columns, main, reconciling, report
from openai_metering.pricing import PriceFile, amounts, pricefile
from openai_metering.resolution import EMPTY, SOURCES, Attribution, resolve
from openai_metering.settings import OPTIONS, Settings
from openai_metering.signals import conventions as c

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "openai_metering"
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    ROOT / name
    for name in ("README.md", *sorted(str(found.relative_to(ROOT)) for found in ROOT.glob("[a-z]*/**/*.md")))
    if "openai-metering-demo" not in name
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
NAMESPACES = ("attribution.", "gen_ai.", "openai_metering.", "user.id")


KINDS = {"Sum": "counter", "Gauge": "gauge", "Histogram": "histogram"}


def section(title):
    """The text below a heading, up to the next one."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def tables(text):
    """Every table of a text, as rows of cells without its head."""
    groups = re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.MULTILINE)
    return [[[cell.strip() for cell in row[1:-1].split("|")] for row in group.splitlines()[2:]] for group in groups]


def names_in(text):
    """The names that a text gives in backticks, written out: `a.{b,c}.d` is two, `.e` is a sibling of the whole one before."""
    found = []
    whole = ""
    for quoted in re.findall(r"`([^`]+)`", text):
        if quoted.startswith("."):
            found.append(whole.rpartition(".")[0] + quoted)
            continue
        whole = quoted
        parts = [part.split(",") for part in re.split(r"[{}]", quoted)]
        found += ["".join(chosen) for chosen in itertools.product(*parts)]
    return found


def constants():
    """Every constant of the conventions that other code makes use of, by name; what nothing uses is not emitted."""
    code = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py") if path.name != "conventions.py")
    return {
        name: value
        for name, value in vars(c).items()
        if name.isupper() and (f".{name}" in code or f'"{value}"' in code) and name not in {"SCOPE_NAME", "SCHEMA_URL"}
    }


WHO, RANKS = tables(section("Who"))
ATTRIBUTES, REASONS, METRICS = tables(section("What is emitted"))
OPTION_ROWS = tables(section("Options"))[0]


# -- What is emitted -------------------------------------------------------------------------------------------------
def test_everything_that_is_emitted_is_named():
    """Each attribute, metric and event name that the code can emit is in the README, by its full name."""
    emitted = {value + "<key>" if value.endswith(".") else value for value in constants().values()}
    named = set(names_in(section("Who") + section("What is emitted")))
    assert emitted - named == set()


def test_everything_that_is_named_is_emitted():
    """The README names nothing that the code does not emit."""
    emitted = {value + "<key>" if value.endswith(".") else value for value in constants().values()}
    named = {
        name for rows, cell in ((WHO, 2), (ATTRIBUTES, 0), (METRICS, 0)) for row in rows for name in names_in(row[cell])
    }
    named |= {name for name in names_in(section("Who") + section("What is emitted")) if name.startswith(NAMESPACES)}
    assert {name for name in named if "*" not in name} - emitted == set()


def traffic(provider):
    """Calls of every kind, whose telemetry has as many attributes as there can be."""
    client = openai.OpenAI(base_url=provider.base_url, max_retries=0)
    messages = [{"role": "user", "content": "Hello"}]
    who = {"organization_id": "A", "subscriber_identity": "b", "subscriber_credential": "c", "project": "d"}
    for _ in range(6):
        client.chat.completions.create(
            model="gpt-4o", messages=messages, max_tokens=9, service_tier="flex", usage_metadata=who
        )
    list(client.chat.completions.create(model="gpt-4o", messages=messages, stream=True, usage_metadata=who))
    client.responses.create(model="gpt-4o", input="Hello", usage_metadata=who)
    client.embeddings.create(model="text-embedding-3-small", input="Hello")
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="gpt-4o", input="Hello", extra_headers={"x-standin-scenario": "status_429"})
    with client.chat.completions.create(model="gpt-4o", messages=messages, stream=True) as stream:
        next(iter(stream))
    asyncio.run(openai.AsyncOpenAI(base_url=provider.base_url).responses.create(model="gpt-4o", input="Hello"))


def stated(signal):
    """The attributes that the table says are on a signal."""
    return {name for row in ATTRIBUTES if re.search(rf"\b{signal}\b", row[1]) for name in names_in(row[0])}


def who_names(on):
    """What `attribution.*` stands for."""
    return {c.ORGANIZATION_ID} if on == "metrics" else {name for row in WHO for name in names_in(row[2])}


@pytest.mark.parametrize("signal", ["span", "record"])
def test_real_calls_carry_only_what_is_named(telemetry, provider, signal):
    """What arrives of real calls is in the table, on the signal that the table says."""
    traffic(provider)
    found = telemetry.records if signal == "record" else [dict(span.attributes) for span in telemetry.spans]
    names = {name if not name.startswith(c.TAG_PREFIX) else f"{c.TAG_PREFIX}<key>" for one in found for name in one}
    assert len(names) > 30
    assert names - stated(signal) - who_names(signal) == set()


def test_real_metrics_are_as_the_table_says(telemetry, provider):
    """Name, kind and unit of each metric, and the attributes beside the common ones, are those of the table."""
    rows = {name: row for row in METRICS for name in names_in(row[0])}
    common = stated("metrics") | who_names("metrics")
    common |= {c.SERVER_ADDRESS, c.SERVER_PORT, c.OPENAI_RESPONSE_SERVICE_TIER}
    traffic(provider)
    found = {
        metric.name: metric
        for resource in telemetry.metric_reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert len(found) >= 8
    for name, metric in found.items():
        _, kind, own = rows[name]
        assert kind == f"{KINDS[type(metric.data).__name__]}, {metric.unit}"
        used = {attribute for point in metric.data.data_points for attribute in point.attributes}
        if name == c.METRIC_CALLS:
            assert used == {c.OPERATION, c.OUTCOME, c.USAGE_STATUS, c.ATTRIBUTION_STATUS, c.ORGANIZATION_ID}
        else:
            assert used - common == set(names_in(own)) & used
    assert found.keys() <= rows.keys()


def test_values_are_as_the_table_says():
    """Closed sets of values are listed whole: outcomes, states of usage, sources of who."""
    rows = {name: row for row in ATTRIBUTES for name in names_in(row[0])}
    outcomes = {value for name, value in vars(finished).items() if name.isupper() and isinstance(value, str)}
    outcomes -= {finished.STARTED, finished.PENDING, finished.FINAL, finished.TOLD}
    assert set(names_in(rows[c.OUTCOME][2])) == outcomes
    assert set(names_in(rows[c.USAGE_STATUS][2])) == {
        usage.REPORTED,
        usage.ESTIMATED,
        usage.UNKNOWN,
        usage.NOT_BILLED,
    }
    somebody = Attribution("A", "b", "c")
    below = ("client", "resolver", "baggage", "key_map")
    resolved = [resolve(*(somebody if here == place else EMPTY for here in range(3))) for place in range(3)]
    resolved += [resolve(EMPTY, EMPTY, EMPTY, **{source: somebody}) for source in below]
    sources = {one.sources[0] for one in resolved}
    statuses = {
        one.status for one in (*resolved, resolve(EMPTY, EMPTY, EMPTY), resolve(EMPTY, EMPTY, Attribution("A")))
    }
    assert set(names_in(rows[c.ATTRIBUTION_STATUS][2])) == statuses
    assert set(names_in(rows[c.ORGANIZATION_SOURCE][2])) == sources == set(SOURCES)
    assert [(row[0], names_in(row[1])[0]) for row in RANKS] == [(str(n), name) for n, name in enumerate(SOURCES, 1)]


def test_reasons():
    """The table of reasons is the closed set, in its words."""
    assert {names_in(row[0])[0]: row[1] for row in REASONS} == usage.REASONS


# -- Options and commands --------------------------------------------------------------------------------------------
def default(name):
    value = getattr(Settings(), name)
    return "" if value in (None, frozenset()) else str(value).lower()


def test_options():
    """The table of options is that of the settings, row by row and word by word."""
    expected = [
        [f"`{option.name}`", f"`{option.variable}`", option.allowed, default(option.name), option.doc]
        for option in OPTIONS
    ]
    assert expected == OPTION_ROWS


def test_levels_of_who():
    """Each level is given by its field, and its process default is an option."""
    fields = {field.name for field in dataclasses.fields(Attribution) if not field.name.startswith("_")} - {"tags"}
    assert {name for row in WHO[:-1] for name in names_in(row[1])} == fields
    assert [names_in(row[3]) for row in WHO[:-1]] == [
        [f"OPENAI_METERING_{names_in(row[1])[0].upper()}"] for row in WHO[:-1]
    ]


def test_environment_variables():
    """Every variable of ours that a document names is an option, or one that the Collector's configuration reads."""
    known = {option.variable for option in OPTIONS} | {"OPENAI_METERING_CACHE", "OPENAI_METERING_TEST_SIZE"}
    for config in (ROOT / "collector-config").rglob("*.yaml"):
        known |= set(re.findall(r"OPENAI_METERING_\w+", config.read_text("utf-8")))
    for path in DOCUMENTS:
        assert set(re.findall(r"OPENAI_METERING_[A-Z_]+[A-Z]", path.read_text("utf-8"))) <= known, path


def test_the_report_command():
    """The README's line of the report names each of its options and columns."""
    parser = argparse.ArgumentParser()
    report.add_parser(parser.add_subparsers())
    (usage_line,) = (body for language, body in FENCE.findall(section("Report")) if language == "sh")
    flags = set(re.findall(r"--[a-z-]+", usage_line))
    reported = parser.parse_args(["report", "x"])
    assert flags == {f"--{name.replace('_', '-')}" for name in vars(reported) if name != "paths"}
    assert f"--by {','.join(columns.DEFAULT)}" in usage_line
    assert "|".join(report.WRITERS) in usage_line
    named = section("Report").split("`--by` takes ")[1].split(" in any order")[0]
    assert names_in(named) == [*columns.COLUMNS, f"{columns.TAG_PREFIX}<key>"]


def test_every_command_line_is_understood(capsys):
    """Each `openai-metering` command that a document shows has a subcommand and options that there are."""
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        for line in re.findall(
            r"(?:^|`)openai-metering ((?:report|demo|verify|replay|directory|doctor|reconcile)[^`\n]*)",
            text,
            flags=re.MULTILINE,
        ):
            words = shlex.split(re.sub(r"[\[\]]|\|[a-z|]+|\.\.\.", "", line), comments=True)
            assert main([*words, "--help"]) == 0, line
            known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
            assert {word for word in words if word.startswith("--")} <= known, line


def test_make_targets():
    """Each target that a document names is in the Makefile, and `make help` says what it does."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    described = dict(re.findall(r"^\s+make ([a-z-]+)\s+(\S.*)$", listed, flags=re.MULTILINE))
    assert described.keys() == targets
    for path in DOCUMENTS:
        code = re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text("utf-8"), flags=re.MULTILINE)
        assert set(code) <= targets, path


def test_extras():
    """Each extra that a document installs is one of the package's."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = set(re.findall(r"^(\w+) = \[", project.split("[project.optional-dependencies]")[1], flags=re.MULTILINE))
    for path in DOCUMENTS:
        for named in re.findall(r"(?:openai-metering|\.)\[([\w,]+)\]", path.read_text("utf-8")):
            assert set(named.split(",")) <= extras, path


# -- Code and links --------------------------------------------------------------------------------------------------
def python_blocks():
    return [
        pytest.param(body, id=f"{path.relative_to(ROOT)}-{number}")
        for path in DOCUMENTS
        for number, (language, body) in enumerate(FENCE.findall(path.read_text("utf-8")))
        if language == "python"
    ]


@pytest.mark.parametrize("body", python_blocks())
def test_python_compiles(body):
    """Each block of Python compiles, and imports from us what there is."""
    tree = ast.parse(body)
    imported = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "openai_metering"
    ]
    assert {alias.name for node in imported for alias in node.names} <= set(openai_metering.__all__)


def reference_call(text):
    (call,) = re.findall(
        r"^openai\.chat\.completions\.create\(\n.*?^\)$",
        f"\n{text}".replace("response = ", ""),
        re.MULTILINE | re.DOTALL,
    )
    return call


def test_the_reference_call_is_verbatim():
    """The call of the reference product's documentation stands first, at module level, and is the example's."""
    language, body = FENCE.findall(README)[0]
    (keywords,) = (
        {keyword.arg: keyword.value for keyword in node.value.keywords}
        for node in ast.parse(body).body
        if isinstance(node, ast.Assign)
    )
    assert language == "python"
    assert list(keywords) == ["model", "messages", "max_tokens", "usage_metadata"]
    assert (ast.literal_eval(keywords["model"]), ast.literal_eval(keywords["max_tokens"])) == ("gpt-4", 500)
    assert ast.literal_eval(keywords["usage_metadata"]) == {
        "organization_id": "AcmeSoft",
        "subscriber_identity": "joe@acme.com",
        "subscriber_credential": "key1-hubspot",
    }
    example = (ROOT / "examples" / "reference_example.py").read_text(encoding="utf-8")
    assert reference_call(body) == reference_call(example)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links(path):
    """Each link to a file or to a heading leads somewhere."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        found = (path.parent / place).resolve() if place else path
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text("utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_order():
    """First what it is in three lines and the call, then the two commands, three ways, what is emitted, the options."""
    title, introduction, code, *_ = re.split(r"\n\n", README)
    assert title == "# openai-metering"
    assert len(introduction.splitlines()) == 3
    assert code.startswith("```python")
    headings = re.findall(r"^## (.+)$", README, flags=re.MULTILINE)
    wanted = ["Two commands", "Three ways to use it", "What is emitted", "Options"]
    assert [heading for heading in headings if heading in wanted] == wanted
    assert headings[:2] == wanted[:2]
    assert len(re.findall(r"^make \w+", section("Two commands"), flags=re.MULTILINE)) == 2
    assert re.findall(r"^\*\*(\d)\. ", section("Three ways to use it"), flags=re.MULTILINE) == ["1", "2", "3"]


# -- Cost ------------------------------------------------------------------------------------------------------------
COST = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")


def test_reasons_of_cost():
    """The page names every reason in its own words, and every status."""
    statuses, reasons = tables(COST)[1:3]
    assert {names_in(row[0])[0]: row[2] for row in reasons} == amounts.REASONS
    assert [names_in(row[0])[0] for row in statuses] == list(amounts.STATUSES)


def test_the_price_file():
    """The page's price file is read, and its tables name every field and every rate."""
    (example,) = (body for language, body in FENCE.findall(COST) if language == "toml")
    found = PriceFile.parse(example, "prices.toml")
    assert (len(found.cost), len(found.price)) == (3, 2)
    fields, rates = tables(COST)[3:5]
    named = {name for row in (*fields, *rates) for name in names_in(row[0])}
    assert named == set(pricefile._FIELDS) - {"factor"}


# -- Reconcile -------------------------------------------------------------------------------------------------------
def test_classes_of_difference():
    """The page names every class in its own words."""
    page = (ROOT / "docs" / "reconcile.md").read_text(encoding="utf-8")
    assert {names_in(row[0])[0]: row[1] for row in tables(page)[1]} == reconciling.CLASSES
