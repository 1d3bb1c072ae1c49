"""Every option: where its value comes from, and what is said about a wrong one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from openai_metering.settings import OPTIONS, InvalidOption, Settings, load, resource_from_environment

# name, default, text in the environment, what it means, another keyword, what that means
ROWS = [
    ("enabled", True, "false", False, True, True),
    ("organization_id", None, "AcmeSoft", "AcmeSoft", "Other", "Other"),
    ("subscriber_identity", None, "joe@acme.com", "joe@acme.com", "ann@acme.com", "ann@acme.com"),
    ("subscriber_credential", None, "key1", "key1", "key2", "key2"),
    ("stream_usage", "auto", "never", "never", "auto", "auto"),
    ("spans", "auto", "never", "never", "always", "always"),
    ("records", "auto", "both", "both", "none", "none"),
    ("ledger_dir", None, "/var/ledger", "/var/ledger", Path("/other"), "/other"),
    ("ledger_fsync", "never", "Interval", "interval", "always", "always"),
    ("ledger_rotate_bytes", 67_108_864, "1000", 1000, 2000, 2000),
    ("ledger_rotate_seconds", 3600, "0.5", 0.5, 60, 60),
    ("ledger_max_bytes", None, "1000000", 1_000_000, 5, 5),
    ("ledger_started_after", 5, "1.5", 1.5, 60, 60),
    ("prices", None, "/etc/prices.toml", "/etc/prices.toml", Path("/other.toml"), "/other.toml"),
    ("metrics", "latest", "Legacy", "legacy", "both", "both"),
    (
        "metric_attributes",
        frozenset(),
        "subscriber, Credential",
        frozenset({"subscriber", "credential"}),
        ["credential"],
        frozenset({"credential"}),
    ),
    ("metric_series", 2000, "50", 50, 60, 60),
    ("key_map", None, "/etc/keys.json", "/etc/keys.json", Path("/other.json"), "/other.json"),
    ("fingerprint_secret", None, "mine", "mine", "other", "other"),
    ("unmapped_keys", "absent", "Alias", "alias", "absent", "absent"),
    (
        "baggage",
        frozenset(),
        "organization, tag.Team",
        frozenset({"organization", "tag.Team"}),
        ["subscriber"],
        frozenset({"subscriber"}),
    ),
    ("subscriber_hash_secret", None, "mine", "mine", "other", "other"),
    ("value_length", 256, "64", 64, 128, 128),
    ("max_tags", 32, "0", 0, 8, 8),
]
BROKEN = [
    ("enabled", "perhaps"),
    ("stream_usage", "always"),
    ("spans", "off"),
    ("records", "kafka"),
    ("metrics", "new"),
    ("metric_attributes", "subscriber,team"),
    ("ledger_fsync", "sometimes"),
    ("ledger_rotate_bytes", "64MiB"),
    ("ledger_rotate_bytes", "0"),
    ("ledger_rotate_seconds", "nan"),
    ("ledger_max_bytes", "-1"),
    ("ledger_started_after", "inf"),
    ("metric_series", "many"),
    ("unmapped_keys", "hash"),
    ("baggage", "organization,team"),
    ("value_length", "8"),
    ("max_tags", "-1"),
]
BROKEN_KEYWORDS = [
    ("organization_id", 7),
    ("ledger_dir", ["x"]),
    ("metric_attributes", 7),
    ("enabled", "maybe"),
    ("max_tags", True),
    ("metric_series", 0),
]


def test_the_table_of_this_test_has_every_option():
    """A new option is tested like the others."""
    assert {row[0] for row in ROWS} == {option.name for option in OPTIONS}


@pytest.mark.parametrize(("name", "default", "text", "meant", "keyword", "keyword_meant"), ROWS)
def test_keyword_beats_environment_beats_default(name, default, text, meant, keyword, keyword_meant):
    """The nearest place that says something decides."""
    environ = {f"OPENAI_METERING_{name.upper()}": text}
    assert getattr(load({}, {})[0], name) == default
    assert load({}, environ) == (Settings(**{name: meant}), [])
    assert load({name: keyword}, environ) == (Settings(**{name: keyword_meant}), [])
    assert load({name: None}, environ) == (Settings(**{name: meant}), [])


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_empty_variable_is_unset(option):
    """`OPENAI_METERING_X=` in a unit file is the default, not an error."""
    assert load({}, {option.variable: ""}) == (Settings(), [])
    assert load({option.name: ""}, {}) == (Settings(), [])


@pytest.mark.parametrize(
    ("text", "meant"),
    [(text, True) for text in ("true", "TRUE", "1", "yes", " on ")]
    + [(text, False) for text in ("false", "0", "No", "off")],
)
def test_a_switch_understands_the_usual_words(text, meant):
    """Nobody has to look up how a boolean is written."""
    assert load({}, {"OPENAI_METERING_ENABLED": text}) == (Settings(enabled=meant), [])


def test_letter_case_and_space_do_not_matter_for_a_choice():
    """`RECORDS= Ledger ` means `ledger`."""
    assert load({}, {"OPENAI_METERING_RECORDS": " Ledger "}) == (Settings(records="ledger"), [])


@pytest.mark.parametrize(("name", "text"), BROKEN)
def test_a_broken_variable_gives_the_default_and_says_why(name, text):
    """The message names the variable, its value and what is allowed, so that it can be put right at once."""
    option = next(option for option in OPTIONS if option.name == name)
    settings, (problem,) = load({}, {option.variable: text})
    assert settings == Settings()
    assert isinstance(problem, InvalidOption)
    assert all(part in str(problem) for part in (option.variable, repr(text), option.allowed))


@pytest.mark.parametrize(("name", "value"), BROKEN_KEYWORDS)
def test_a_broken_keyword_gives_the_default_and_says_why(name, value):
    """A keyword is named as the caller wrote it; where a text is expected, only the value's type is said."""
    option = next(option for option in OPTIONS if option.name == name)
    settings, (problem,) = load({name: value}, {})
    assert settings == Settings()
    said = type(value).__name__ if option.allowed in ("text", "a folder") or "text;" in option.allowed else repr(value)
    assert all(part in str(problem) for part in (f"{name} has", said, option.allowed))


def test_a_key_in_the_wrong_place_is_not_said():
    """A key that was given as an option of another shape appears in no message."""
    key = "sk-proj-abcdefgh12345678abcdefgh"
    for overrides in ({"subscriber_credential": [key]}, {"subscriber_identity": key.encode()}, {"records": key}):
        _, (problem,) = load(overrides, {})
        assert key not in str(problem)


def test_the_ledgers_folder_is_where_the_process_was_when_it_was_set(monkeypatch, tmp_path):
    """`~` is the user's home, and a relative folder does not move with the process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load({"ledger_dir": "ledger"}, {})[0].ledger_dir == str(tmp_path / "ledger")
    assert load({"ledger_dir": "~/ledger"}, {})[0].ledger_dir == str(tmp_path / "home" / "ledger")


def test_one_broken_option_costs_no_other():
    """The rest of the configuration stays in force."""
    settings, problems = load({"records": "kafka", "organization_id": "AcmeSoft"}, {"OPENAI_METERING_SPANS": "never"})
    assert settings == Settings(organization_id="AcmeSoft", spans="never")
    assert len(problems) == 1


def test_an_unknown_keyword_is_named_together_with_those_there_are():
    """A misspelt option is not silently ignored."""
    settings, (problem,) = load({"organisation_id": "AcmeSoft"}, {})
    assert settings == Settings()
    assert "organisation_id" in str(problem)
    assert all(option.name in str(problem) for option in OPTIONS)


def test_the_environment_is_read_when_options_are_loaded(monkeypatch):
    """Options are read at each `instrument()`, not at import."""
    monkeypatch.setenv("OPENAI_METERING_SPANS", "never")
    assert load({})[0].spans == "never"
    monkeypatch.setenv("OPENAI_METERING_SPANS", "always")
    assert load({})[0].spans == "always"


@pytest.mark.parametrize(
    ("environ", "resource"),
    [
        ({}, {"service.name": "unknown_service"}),
        ({"OTEL_SERVICE_NAME": "shop"}, {"service.name": "shop"}),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a, team = blue%20ish ,broken,x=y=z"},
            {"service.name": "a", "team": "blue ish", "x": "y=z"},
        ),
        ({"OTEL_SERVICE_NAME": "b", "OTEL_RESOURCE_ATTRIBUTES": "service.name=a"}, {"service.name": "b"}),
        ({"OTEL_SERVICE_NAME": "", "OTEL_RESOURCE_ATTRIBUTES": ""}, {"service.name": "unknown_service"}),
    ],
)
def test_the_resource_comes_from_opentelemetrys_own_variables(environ, resource):
    """A ledger without an SDK is labelled with the service as any OpenTelemetry user sets it."""
    assert resource_from_environment(environ) == resource


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("OPENAI_METERING_ENABLD", "OPENAI_METERING_ENABLED"),
        ("OPENAI_METERING_ORGANISATION_ID", "OPENAI_METERING_ORGANIZATION_ID"),
        ("OPENAI_METERING_LEDGER_DIRS", "OPENAI_METERING_LEDGER_DIR"),
        ("openai_metering_spans", "OPENAI_METERING_SPANS"),
    ],
)
def test_a_misspelt_variable_is_named_with_the_one_that_was_meant(variable, meant):
    """A variable that is nearly an option is no option, and says nothing of its value."""
    settings, problems = load({}, {variable: "never-said"})
    assert settings == Settings()
    (problem,) = map(str, problems)
    assert problem == f"{variable}: no such option. Did you mean {meant}?"


def test_variables_of_the_collector_are_not_taken_for_misspelt_ones():
    """What the Collector's configuration reads has our prefix, too, and is nobody's mistake."""
    root = Path(__file__).parents[2] / "collector-config"
    texts = [file.read_text() for file in root.rglob("*") if file.is_file() and file.suffix in (".yaml", ".sh", ".env")]
    found = {name for text in texts for name in re.findall(r"OPENAI_METERING_[A-Z_]+", text)}
    assert len(found) > 50
    others = {"OPENAI_METERING_TEST_SIZE": "full", "OPENAI_METERING_CACHE": "/x"}
    options = {option.variable for option in OPTIONS}
    assert load({}, dict.fromkeys(found - options, "1") | others)[1] == []
