"""Changes keep what was: history, spelling, and everything they are not about."""

from __future__ import annotations

import pytest
from folders import tables

from openai_metering.directory import edits
from openai_metering.directory.checks import check
from openai_metering.directory.periods import moment
from openai_metering.directory.tables import DirectoryError

JULY = moment("2026-07-16")


def rows(table, *columns):
    return [tuple(entry.get(name) for name in columns) for entry in table.entries()]


def company():
    return tables(["acme,Acme,,,,", "nord,Nordbank,,,,"], ["joe@acme.com,Joe,acme,,,"], ["key1,joe@acme.com,,,,,,"])


def test_a_move_is_history():
    """The row before ends where the new one begins, and says what it said."""
    made = company()
    made["subscriber"] = edits.change(made, "subscriber", " JOE@acme.com ", {"organization": "NORD"}, JULY)
    assert rows(made["subscriber"], "organization", "name", "valid_from", "valid_to") == [
        ("acme", "Joe", "", "2026-07-16"),
        ("nord", "Joe", "2026-07-16", ""),
    ]
    assert check(made) == []


def test_a_move_within_history_leaves_what_came_later():
    """Only the row that holds at that moment is divided."""
    made = company()
    made["subscriber"] = edits.change(made, "subscriber", "joe@acme.com", {"organization": "nord"}, JULY)
    earlier = moment("2026-07-01")
    made["subscriber"] = edits.change(made, "subscriber", "joe@acme.com", {"name": "Joseph"}, earlier)
    assert rows(made["subscriber"], "organization", "name", "valid_from", "valid_to") == [
        ("acme", "Joe", "", "2026-07-01"),
        ("acme", "Joseph", "2026-07-01", "2026-07-16"),
        ("nord", "Joe", "2026-07-16", ""),
    ]


def test_what_was_always_wrong_is_put_right():
    """A rewrite leaves no history, and a blank value clears a cell."""
    made = company()
    table = edits.change(made, "subscriber", "joe@acme.com", {"name": "", "meta.team": "a"}, JULY, rewrite=True)
    assert rows(table, "id", "name", "organization", "meta.team", "valid_from") == [
        ("joe@acme.com", "", "acme", "a", "")
    ]


def test_an_end_leaves_history_and_what_comes_later_goes():
    """A row that has ended stays for the bills of its time."""
    made = company()
    made["credential"] = edits.end(made, "credential", "key1", JULY)
    assert rows(made["credential"], "alias", "valid_to") == [("key1", "2026-07-16")]
    with pytest.raises(DirectoryError, match="is not valid at 2026-07-16, only from ever to 2026-07-16"):
        edits.end(made, "credential", "key1", JULY)


def test_who_is_referred_to_cannot_go():
    """The check of the change names who still refers to it."""
    made = company()
    made["subscriber"] = edits.end(made, "subscriber", "joe@acme.com", JULY)
    (problem,) = check(made)
    assert "subscriber 'joe@acme.com' is not valid from 2026-07-16 on" in str(problem)
    made["subscriber"] = edits.erase(made, "subscriber", "joe@acme.com")
    assert "there is no subscriber 'joe@acme.com'" in str(check(made)[0])


def test_who_is_not_there_cannot_change():
    """A misspelt id, or a key in its place, changes nothing and is not repeated where it may be secret."""
    key = "sk-proj-Zq3vR8mW1xT5yB7nK2dL9p"
    with pytest.raises(DirectoryError, match="there is no credential 'key2'"):
        edits.change(company(), "credential", "key2", {}, JULY)
    with pytest.raises(DirectoryError) as caught:
        edits.erase(company(), "credential", key)
    assert key not in str(caught.value)


def test_rows_of_another_system_are_merged():
    """New ids are added, changed cells are history, and what the other system does not say stays."""
    made = company()
    incoming = [
        {"id": "ACME", "name": "AcmeSoft"},
        {"id": "nord", "name": "Nordbank"},
        {"id": "bright", "name": "BrightHealth", "external.crm": "1"},
    ]
    table, changes = edits.merge(made, "organization", incoming, JULY)
    assert rows(table, "id", "name", "valid_from", "valid_to", "external.crm") == [
        ("acme", "Acme", "", "2026-07-16", ""),
        ("acme", "AcmeSoft", "2026-07-16", "", ""),
        ("nord", "Nordbank", "", "", ""),
        ("bright", "BrightHealth", "", "", "1"),
    ]
    assert [(change.id, change.new, change.fields) for change in changes] == [
        ("acme", False, (("name", "Acme", "AcmeSoft"),)),
        ("bright", True, (("id", "", "bright"), ("name", "", "BrightHealth"), ("external.crm", "", "1"))),
    ]


def test_a_second_merge_changes_nothing():
    """An import can be run every night."""
    made = company()
    incoming = [{"id": "acme", "name": "AcmeSoft"}]
    made["organization"], _ = edits.merge(made, "organization", incoming, JULY)
    again, changes = edits.merge(made, "organization", incoming, JULY + 10**9)
    assert changes == []
    assert again is made["organization"]


@pytest.mark.parametrize("incoming", [[{"name": "x"}], [{"id": " "}], [{"id": "a"}, {"id": " A"}]])
def test_a_merge_needs_each_id_once(incoming):
    """Rows without an id, or with one in two spellings, are refused."""
    with pytest.raises(DirectoryError):
        edits.merge(tables(), "organization", incoming, JULY)
