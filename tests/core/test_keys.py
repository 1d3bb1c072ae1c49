"""Which credential an API key is."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging

import pytest

from openai_metering import Attribution, OpenAIInstrumentor
from openai_metering.keys import KeyMap, fingerprint, pseudonym, read_map

KEY = "sk-proj-abcDEF0123456789abcDEF0123456789"
SECRET = "a secret of one's own"
PRINT = fingerprint(KEY, SECRET)


def test_a_fingerprint_is_what_the_documentation_says():
    """HMAC-SHA256 under the user's secret, its first 16 hexadecimal digits: anybody can make one with other tools."""
    assert hmac.new(SECRET.encode(), KEY.encode(), hashlib.sha256).hexdigest()[:16] == PRINT
    assert fingerprint(KEY, "another") != PRINT


@pytest.mark.parametrize(
    ("entry", "who"),
    [
        ("key1-hubspot", Attribution(subscriber_credential="key1-hubspot")),
        (
            {"subscriber_credential": "key2", "organizationId": "Finance", "team": "blue"},
            Attribution("Finance", None, "key2", (("team", "blue"),)),
        ),
        ({"subscriber": {"email": "joe@acme.com"}}, Attribution(None, "joe@acme.com")),
    ],
    ids=str,
)
def test_an_entry_is_an_alias_or_whatever_a_keyword_takes(entry, who, tmp_path):
    """Inline or from a file, an entry says the credential, and more if it likes."""
    text = json.dumps({PRINT.upper(): entry})
    file = tmp_path / "keys.json"
    file.write_text(text, encoding="utf-8")
    for given in (text, str(file)):
        entries, problems = read_map(given)
        assert problems == []
        assert KeyMap(entries, SECRET).of_key(KEY) == who


def test_pairs_need_no_json(tmp_path):
    """In an environment variable pairs are enough, and a file may have one on each line."""
    other = "0" * 16
    file = tmp_path / "keys.txt"
    file.write_text(f"# the marketing key\n{PRINT} = key1\n\n{other}=key2\n", encoding="utf-8")
    expected = {PRINT: Attribution(subscriber_credential="key1"), other: Attribution(subscriber_credential="key2")}
    assert read_map(f"{PRINT}=key1, {other}=key2") == (expected, [])
    assert read_map(str(file)) == (expected, [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("/no/such/file.json", "cannot be read"),
        ('{"a": ', "not valid JSON"),
        (json.dumps({KEY: "key1"}), "Entry 1"),
        (json.dumps({PRINT: {}}), "says nobody"),
        (f"{KEY}=key1", "Entry 1"),
    ],
)
def test_what_is_wrong_with_a_map_is_said_and_nothing_of_it_quoted(given, said):
    """A key in the place of a fingerprint is the likely mistake: it reaches no log."""
    entries, (problem,) = read_map(given)
    assert entries == {}
    assert said in problem
    assert KEY not in problem


def test_one_wrong_entry_costs_no_other():
    """The rest of the map holds."""
    entries, problems = read_map(json.dumps({"x": "key0", PRINT: "key1"}))
    assert list(entries) == [PRINT]
    assert len(problems) == 1


def test_an_unmapped_key_is_nobody_unless_names_are_asked_for():
    """A pseudonymous alias is stable, tells nothing of the key, and is given only on request."""
    assert KeyMap({}, SECRET).of_key(KEY) is None
    named = KeyMap({}, SECRET, name_unmapped=True)
    assert named.of_key(KEY) == Attribution(subscriber_credential=f"key-{PRINT}")
    assert named.of_key(KEY) is named.of_key(KEY)


def test_a_key_is_fingerprinted_once():
    """The hash is not on the path of every call."""
    key_map = KeyMap({PRINT: Attribution(subscriber_credential="key1")}, SECRET)
    first = key_map.of_key(KEY)
    object.__setattr__(key_map, "_secret", None)  # a second fingerprint would fail
    assert key_map.of_key(KEY) is first


def test_keys_that_live_for_one_call_do_not_pile_up():
    """A gateway that mints a key for each call does not grow the process."""
    key_map = KeyMap({}, SECRET, name_unmapped=True)
    for number in range(1000):
        key_map.of_key(f"{KEY}{number}")
    assert len(key_map._known) <= 256


def test_neither_secret_nor_key_is_shown():
    """A key map in a traceback or a debugger's list shows neither."""
    key_map = KeyMap({}, SECRET, name_unmapped=True)
    key_map.of_key(KEY)
    assert SECRET not in repr(key_map)
    assert KEY not in repr(key_map)


def test_a_map_without_the_secret_is_off_and_that_is_said_once(caplog):
    """Fingerprints without a secret could be guessed, so none is made."""
    instrumentor = OpenAIInstrumentor()
    with caplog.at_level(logging.WARNING):
        instrumentor.instrument(key_map=f"{PRINT}=key1")
        try:
            assert instrumentor._installation.metering.key_map is None
        finally:
            instrumentor.uninstrument()
    assert [r.getMessage() for r in caplog.records].count(caplog.records[0].getMessage()) == 1
    assert "OPENAI_METERING_FINGERPRINT_SECRET" in caplog.text


def test_a_pseudonym_is_keyed_and_stable():
    """The same person is the same hash, and another secret's hash is another one."""
    assert pseudonym("joe@acme.com", SECRET) == pseudonym("joe@acme.com", SECRET)
    assert pseudonym("joe@acme.com", SECRET) != pseudonym("joe@acme.com", "another")
    assert len(pseudonym("joe@acme.com", SECRET)) == 32
