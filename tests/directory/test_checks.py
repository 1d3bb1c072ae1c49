"""Every rule of a directory is held, and says where it is broken."""

from __future__ import annotations

import pytest
from folders import tables

from openai_metering.directory.checks import check
from openai_metering.directory.tables import entry_of

KEY = "sk-proj-Zq3vR8mW1xT5yB7nK2dL9p"
BARE = "0123456789abcdef0123456789abcdef"


def problems(**rows):
    return [str(problem) for problem in check(tables(**rows))]


def test_a_directory_in_order_has_no_problems():
    """Names, history, moves, shared keys, units above units and ids of other systems are all in order."""
    assert (
        problems(
            organizations=[
                "group,The Group,internal,,,",
                "acme,Acme,,group,,2026-07-01",
                "acme,AcmeSoft,customer,,2026-07-01,",
            ],
            subscribers=["joe@acme.com,Joe,acme,active,,2026-07-16", "joe@acme.com,Joe,group,active,2026-07-16,"],
            credentials=[
                "key1,joe@acme.com,,0123456789abcdef,key_AbCd1234,proj_AbCd1234567890abcdefghij,,",
                "shared,joe@acme.com,acme,,,,,",
                "old,,acme,0123456789abcdee,,,,2026-07-01",
                "new,,acme,0123456789abcdee,,,2026-07-01,",
            ],
        )
        == []
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({"organizations": [",Acme,,,,"]}, "organizations.csv:2:1: id: is missing"),
        ({"organizations": ["acme,,client,,,"]}, "organizations.csv:2:7: kind: 'client' is not allowed: customer or"),
        ({"organizations": ["acme ,,,,,"]}, "organizations.csv:2:1: id: has blanks at its beginning or end."),
        ({"organizations": ["a;b,,,,,"]}, "organizations.csv:2:1: id: must not hold ';'"),
        ({"organizations": ["a\tb,,,,,"]}, "organizations.csv:2:1: id: holds a line break, a tab"),
        ({"organizations": [f"{'a' * 257},,,,,"]}, "organizations.csv:2:1: id: is longer than 256"),
        ({"organizations": ["acme,,,none,,"]}, "organizations.csv:2:8: parent: there is no organization 'none'"),
        ({"organizations": ["acme,,,acme,,"]}, "organizations.csv:2:8: parent: goes round in a circle: 'acme > acme'"),
        ({"organizations": ["a,,,b,,", "b,,,c,,", "c,,,a,,"]}, "organizations.csv:2:5: parent: goes round in a circle"),
        (
            {"organizations": ["acme,,,,,", "ACME,,,,,"]},
            "organizations.csv:3:1: id: 'ACME' differs from 'acme' (line 2) only in case or blanks.",
        ),
        (
            {"subscribers": ["joe@acme.com,,,,,", '"Joe@ACME.com",,,,,']},
            "subscribers.csv:3:1: id: 'Joe@ACME.com' differs from 'joe@acme.com' (line 2) only in case or blanks.",
        ),
        (
            {"organizations": ["a,,,,,", "b,,,,,"], "subscribers": ["joe,,a,,,", "joe,,b,,2026-07-16,"]},
            "subscribers.csv:3:1: id: is in two organizations from 2026-07-16 on: 'a' (line 2) and 'b'.",
        ),
        ({"subscribers": ["joe,,acme,,,"]}, "subscribers.csv:2:6: organization: there is no organization 'acme'"),
        (
            {"organizations": ["acme,,,,,"], "subscribers": ["joe,,ACME,,,"]},
            "subscribers.csv:2:6: organization: 'ACME' is written 'acme' there.",
        ),
        (
            {"organizations": ["acme,,,,,2026-07-01"], "subscribers": ["joe,,acme,,,"]},
            "subscribers.csv:2:6: organization: organization 'acme' is not valid from 2026-07-01 on, but this row is.",
        ),
        ({"credentials": ["key1,,,,,,,", "key1,,,,,,,"]}, "credentials.csv:3:1: alias: 'key1' is there twice"),
        ({"credentials": ["key1,joe,,,,,,"]}, "credentials.csv:2:6: subscriber: there is no subscriber 'joe'"),
        (
            {"subscribers": ["joe,,,,,"], "credentials": ["key1,joe;jane,,,,,,"]},
            "credentials.csv:2:6: subscriber: there is no subscriber 'jane'",
        ),
        ({"credentials": ["key1,,,0123,,,,"]}, "credentials.csv:2:8: fingerprint: must be 16 hexadecimal digits"),
        (
            {"credentials": ["key1,,,0123456789abcdef,,,,", "key2,,,0123456789abcdef,,,,"]},
            "credentials.csv:3:8: fingerprint: is that of 'key1' (line 2), too",
        ),
    ],
)
def test_what_is_wrong_is_named_with_line_and_column(rows, expected):
    """One problem, one message, at its place."""
    (problem,) = problems(**rows)
    assert problem.startswith(expected)


def test_an_unknown_name_comes_with_the_closest_known_one():
    """A typing error is told from a missing row."""
    (problem,) = problems(subscribers=["joe@acme.com,,,,,"], credentials=["key1,jo@acme.com,,,,,,"])
    assert problem.endswith("Did you mean 'joe@acme.com'?")


@pytest.mark.parametrize("column", range(8))
@pytest.mark.parametrize("key", [KEY, BARE, f"Bearer {KEY}"])
def test_no_key_stands_in_a_credential(column, key):
    """Whatever the cell, what is shaped like a key is refused, and is in no message."""
    cells = ["key1"] + [""] * 7
    cells[column] = key
    try:
        found = problems(credentials=[",".join(cells)])
    except AssertionError as error:  # a period that is none
        found = [str(error)]
    assert found
    assert key not in "".join(found)
    assert KEY not in "".join(found)


def test_no_key_stands_anywhere():
    """Nor in the other files, and nothing else of such a row is quoted."""
    found = problems(organizations=[f"{KEY},{KEY},wrong,none,,"], subscribers=[f"joe,{KEY},,,,"])
    assert [problem.partition(" is shaped")[0] for problem in found] == [
        "organizations.csv:2:1: id:",
        "subscribers.csv:2:5: name:",
    ]
    assert KEY not in "".join(found)


def test_a_circle_counts_only_where_its_rows_meet():
    """Two organizations may change places in the course of time."""
    assert (
        problems(organizations=["a,,,b,,2026-07-01", "a,,,,2026-07-01,", "b,,,,,2026-07-01", "b,,,a,2026-07-01,"]) == []
    )
    (problem,) = problems(
        organizations=["a,,,b,,2026-07-02", "a,,,,2026-07-02,", "b,,,,,2026-07-01", "b,,,a,2026-07-01,"]
    )
    assert "goes round in a circle" in problem


def test_a_new_row_is_named_by_its_id():
    """What stands in no file yet has no line."""
    made = tables()
    entry = entry_of(made["organization"].kind, {"id": "acme", "kind": "client"})
    made["organization"] = type(made["organization"])(
        made["organization"].kind, made["organization"].header, {"acme": (entry,)}
    )
    assert str(check(made)[0]).startswith("organization 'acme': kind: 'client' is not allowed")
