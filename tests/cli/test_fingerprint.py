"""`openai-metering fingerprint`: from a key on standard input to what stands for it in a key map."""

from __future__ import annotations

import io

import pytest

from openai_metering.cli import main
from openai_metering.keys import fingerprint

KEY = "sk-proj-abcDEF0123456789abcDEF0123456789"
SECRET = "a secret of one's own"


@pytest.fixture(autouse=True)
def _secret(monkeypatch):
    monkeypatch.setenv("OPENAI_METERING_FINGERPRINT_SECRET", SECRET)


@pytest.mark.parametrize("given", [KEY, f"{KEY}\n", f"  {KEY}\r\n", f"{KEY}\nsecond line\n"])
def test_it_prints_the_fingerprint_of_the_first_line(monkeypatch, capsys, given):
    """What `printenv`, a file or a secret store's command writes is taken without its line end."""
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    assert main(["fingerprint"]) == 0
    assert capsys.readouterr() == (f"{fingerprint(KEY, SECRET)}\n", "")


@pytest.mark.parametrize("arguments", [[KEY], ["--", KEY], [KEY, KEY]])
def test_a_key_on_the_command_line_is_refused_and_not_repeated(monkeypatch, capsys, arguments):
    """The shell's history has it already; the terminal and its log need not have it as well."""
    monkeypatch.setattr("sys.stdin", io.StringIO(KEY))
    assert main(["fingerprint", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "standard input" in err
    assert KEY not in err


@pytest.mark.parametrize("given", ["", "\n", "   \n"])
def test_no_key_is_no_fingerprint(monkeypatch, capsys, given):
    """An unset variable must not end up in a map."""
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    assert main(["fingerprint"]) == 2
    assert "no key" in capsys.readouterr().err


def test_without_a_secret_it_says_how_to_get_one(monkeypatch, capsys):
    """The message names the variable and a command that makes a value."""
    monkeypatch.delenv("OPENAI_METERING_FINGERPRINT_SECRET")
    monkeypatch.setattr("sys.stdin", io.StringIO(KEY))
    assert main(["fingerprint"]) == 2
    err = capsys.readouterr().err
    assert "OPENAI_METERING_FINGERPRINT_SECRET" in err
    assert "openssl rand" in err
