"""The files as values: what is read, what is refused and where, and what is written back."""

from __future__ import annotations

import pytest
from folders import CREDENTIALS, ORGANIZATIONS, SUBSCRIBERS
from hypothesis import given, strategies as st

from openai_metering.directory.periods import ALWAYS, FOREVER, moment
from openai_metering.directory.schema import KINDS
from openai_metering.directory.tables import Table, entry_of, parse, text_of

ORGANIZATION, SUBSCRIBER, CREDENTIAL = KINDS.values()


def problems(kind, text):
    return [str(problem) for problem in parse(kind, text)[1]]


def test_a_row_is_read():
    """Cells by column without blank ones, and a period whose end is not in it."""
    table, wrong = parse(SUBSCRIBER, f'{SUBSCRIBERS}\njoe@acme.com,"Joe, A.",acme,,2026-07-01,2026-07-02T12:00:00Z\n')
    (entry,) = table.entries()
    assert wrong == []
    assert (entry.id, entry.get("name"), entry.get("status"), entry.line) == ("joe@acme.com", "Joe, A.", "", 2)
    start, end = moment("2026-07-01"), moment("2026-07-02T14:00:00+02:00")
    assert (entry.start, entry.end) == (start, end)
    assert [entry.valid(time) for time in (start - 1, start, end - 1, end, None)] == [False, True, True, False, False]


def test_what_spreadsheets_write_is_read():
    """A byte order mark, Windows line ends, blank lines and columns in another order are no problem."""
    table, wrong = parse(ORGANIZATION, "\ufeffname,id\r\nAcmeSoft,acme\r\n\r\n")
    assert wrong == []
    assert [(entry.id, entry.get("name")) for entry in table.entries()] == [("acme", "AcmeSoft")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name\nAcme\n", "organizations.csv:1:1: the first line names the columns"),
        ("id,valid_form\n", "organizations.csv:1:1: there is no column 'valid_form'. Did you mean 'valid_from'?"),
        ("id,id\n", "organizations.csv:1:1: the column 'id' is there twice."),
        ("id,meta.\n", "organizations.csv:1:1: there is no column 'meta.'"),
        ("id,name\nacme\n", "organizations.csv:2:1: 1 cells, but the header has 2"),
        ('id,name\nacme,"Acme\n', "organizations.csv:2:1: a quoted cell is not closed"),
        ("id,name\na,b\n<<<<<<< mine\n", "organizations.csv:3:1: a merge conflict is not resolved."),
        ('id,name,valid_to\nacme,"A, B",soon\n', "organizations.csv:2:13: valid_to: 'soon' is not a date"),
        ("id,valid_from,valid_to\na,2026-07-02,2026-07-01\n", "organizations.csv:2:14: valid_to: the row ends before"),
        ("id,valid_from,valid_to\na,2026-07-02,2026-07-02\n", "organizations.csv:2:14: valid_to: the row ends before"),
    ],
)
def test_what_cannot_be_read_is_named_with_line_and_column(text, expected):
    """Each problem says file, line, column and what to do."""
    (problem,) = problems(ORGANIZATION, text)
    assert problem.startswith(expected)


def test_rows_that_were_not_changed_keep_their_text():
    """A change is a small difference in version control: what was read is written as it stood, quotes included."""
    text = f'{ORGANIZATIONS}\n"acme",AcmeSoft,,,,\nnord,"Nord, Inc.",,,,\n'
    assert text_of(parse(ORGANIZATION, text)[0]) == text


cells = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=12)


@given(cells.filter(bool), cells, cells)
def test_any_cell_survives_writing_and_reading(alias, project, metadata):
    """Whatever can be printed is the same after it was written and read."""
    values = {name: cell for name, cell in (("alias", alias), ("project", project), ("meta.x", metadata)) if cell}
    table = Table(CREDENTIAL, (*CREDENTIALS.split(","), "meta.x"), {"x": (entry_of(CREDENTIAL, values),)})
    read, wrong = parse(CREDENTIAL, text_of(table))
    assert wrong == []
    assert [dict(entry.values) for entry in read.entries()] == [values]


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_exception(text):
    """What somebody else wrote gives rows or problems, never a traceback."""
    table, wrong = parse(CREDENTIAL, text)
    assert wrong or all(ALWAYS <= entry.start < entry.end <= FOREVER for entry in table.entries())
