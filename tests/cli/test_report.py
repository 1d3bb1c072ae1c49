"""The report command: who used how much, from usage records in files."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import pytest
from rich.console import Console
from usage_lines import JULY, NOBODY, line, record

from openai_metering.cli import main, table
from openai_metering.cli.columns import columns_of
from openai_metering.cli.grouping import group
from openai_metering.cli.records import parse


@pytest.fixture
def ledger(tmp_path):
    folder = tmp_path / "ledger"
    folder.mkdir()

    def write(*lines, name="a.jsonl"):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(f"{item}\n" for item in lines), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def report(capsys):
    def run(*args):
        status = main(["report", *map(str, args), "--format", "json", "--no-cost"])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        return json.loads(captured.out)

    return run


@pytest.fixture
def failing(capsys):
    def run(*args):
        assert main(["report", *map(str, args)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    return run


# -- What counts -----------------------------------------------------------------------------------------------------


def test_who_and_how_much(ledger, report):
    """A call is shown under its organization, subscriber, credential and the model that answered."""
    assert report(ledger(line(record()))) == {
        "columns": [
            "organization",
            "subscriber",
            "credential",
            "model",
            "calls",
            "input_tokens",
            "cached_tokens",
            "output_tokens",
            "reasoning_tokens",
        ],
        "rows": [
            {
                "kind": "owned",
                "organization": "AcmeSoft",
                "subscriber": "alice",
                "credential": "prod",
                "model": "gpt-5-2025-08-07",
                "calls": 1,
                "input_tokens": 100,
                "cached_tokens": 40,
                "output_tokens": 10,
                "reasoning_tokens": 4,
            }
        ],
        "total": {
            "calls": 1,
            "input_tokens": 100,
            "cached_tokens": 40,
            "output_tokens": 10,
            "reasoning_tokens": 4,
        },
        "records": 1,
        "duplicates": 0,
        "bad_lines": 0,
    }


def test_the_model_asked_for_stands_in(ledger, report):
    """Without a model in the answer the one asked for is shown."""
    assert report(ledger(line(record(model=None))))["rows"][0]["model"] == "gpt-5"


def test_repeated_records_count_once(ledger, report):
    """A record found again, in another line or another file, is one call."""
    folder = ledger(line(record("a"), record("a")), line(record("b")))
    ledger(line(record("b")), name="copy/b.jsonl")
    result = report(folder)
    assert (result["records"], result["duplicates"], result["total"]["input_tokens"]) == (2, 2, 200)


def test_a_file_named_twice_is_read_once(ledger, report):
    """A folder and a file in it do not make duplicates."""
    folder = ledger(line(record()))
    assert report(folder, folder / "a.jsonl")["duplicates"] == 0


def test_states_of_one_call_join(ledger, report):
    """The final record counts, wherever it stands, and the states before it are no duplicates."""
    folder = ledger(
        line(record("a", state="started", usage="unknown")),
        line(record("a", input=7)),
        line(record("a", state="pending", usage="unknown")),
    )
    result = report(folder)
    assert (result["records"], result["duplicates"], result["total"]["input_tokens"]) == (1, 0, 7)


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_finals_the_attributed_one_counts(ledger, report, order):
    """Complete attribution beats partial, partial beats none."""
    finals = [
        line(record("a", input=1, **NOBODY)),
        line(record("a", input=2, status="partial", subscriber=None, credential=None)),
        line(record("a", input=3)),
    ]
    assert report(ledger(*finals[::order]))["total"]["input_tokens"] == 3
    assert report(ledger(*finals[:2][::order]))["total"]["input_tokens"] == 2


@pytest.mark.parametrize("order", [1, -1])
def test_a_job_that_another_process_saw_the_end_of_is_billed_to_who_ordered_it(ledger, report, order):
    """Who comes from the pending record, how much from the final one."""
    records = [
        line(record("a", state="pending", usage="unknown", input=None, output=None)),
        line(record("a", input=7, **NOBODY)),
    ]
    result = report(ledger(*records[::order]))
    (row,) = result["rows"]
    assert (row["organization"], row["subscriber"], row["input_tokens"]) == ("AcmeSoft", "alice", 7)
    assert (row["kind"], row["calls"], result["duplicates"]) == ("owned", 1, 0)


def test_a_second_final_does_not_move_a_call_into_the_next_month(ledger, report):
    """Of two equal finals the earlier one counts."""
    later = JULY + 30 * 86_400 * 10**9
    folder = ledger(line(record("a", time=later)), line(record("a")))
    assert report(folder, "--by", "month")["rows"][0]["month"] == "2026-07"


@pytest.mark.parametrize("state", ["started", "pending"])
def test_a_call_that_never_ended_has_unknown_usage(ledger, report, state):
    """Without a final record a call counts, and its tokens do not."""
    row = report(ledger(line(record(state=state))))["rows"][0]
    assert (row["kind"], row["calls"], row["input_tokens"], row["reasons"]) == ("unknown", 1, None, {state: 1})


def test_unknown_usage_is_nobodys_tokens(ledger, report):
    """Calls with unknown usage are one row, with their reasons, also the unattributed ones among them."""
    folder = ledger(
        line(record("a", usage="unknown", reason="cut")),
        line(record("b", usage="unknown", reason="closed_before_usage", organization="Globex")),
        line(record("c", usage="unknown", reason="closed_before_usage", **NOBODY)),
        line(record("d")),
    )
    result = report(folder)
    assert [(row["kind"], row["calls"]) for row in result["rows"]] == [("owned", 1), ("unknown", 3)]
    assert result["rows"][1]["reasons"] == {"closed_before_usage": 2, "cut": 1}
    assert result["total"] == {
        "calls": 4,
        "input_tokens": 100,
        "cached_tokens": 40,
        "output_tokens": 10,
        "reasoning_tokens": 4,
    }


def test_calls_without_an_owner_show(ledger, report):
    """Unattributed calls are one row with their tokens, whatever their model."""
    folder = ledger(line(record("a", **NOBODY)), line(record("b", model="other", **NOBODY)))
    (row,) = report(folder)["rows"]
    assert (row["kind"], row["organization"], row["calls"], row["input_tokens"]) == ("unattributed", None, 2, 200)


def test_refused_calls_are_not_billed(ledger, report):
    """Calls the provider refused are one row and add no tokens."""
    folder = ledger(line(record("a", usage="not_billed")), line(record("b")))
    result = report(folder)
    assert [(row["kind"], row["calls"], row["input_tokens"]) for row in result["rows"]] == [
        ("owned", 1, 100),
        ("not_billed", 1, 0),
    ]
    assert result["total"]["input_tokens"] == 100


def test_estimates_stand_apart(ledger, report):
    """Estimated usage is grouped like the rest, in rows of its own."""
    folder = ledger(line(record("a")), line(record("b", usage="estimated", input=5)))
    assert [(row["kind"], row["organization"], row["input_tokens"]) for row in report(folder)["rows"]] == [
        ("owned", "AcmeSoft", 100),
        ("estimated", "AcmeSoft", 5),
    ]


def test_partial_attribution_is_an_owner(ledger, report):
    """A call with some of the levels is in the normal rows, without the others."""
    (row,) = report(ledger(line(record(status="partial", subscriber=None))))["rows"]
    assert (row["kind"], row["organization"], row["subscriber"]) == ("owned", "AcmeSoft", None)


def test_no_status_is_not_reported(ledger, report):
    """A record that does not say how sure its usage is has unknown usage."""
    assert report(ledger(line(record(usage=None))))["rows"][0]["reasons"] == {"no_status": 1}


def test_large_sums_are_exact(ledger, report):
    """Sums beyond what a float holds are exact."""
    folder = ledger(line(record("a", input=2**63 - 1), record("b", input=2**63 - 1), record("c", input=1)))
    assert report(folder)["total"]["input_tokens"] == 2**64 - 1


# -- Grouping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "cell"),
    [
        ("operation", "responses"),
        ("provider", "openai"),
        ("day", "2026-07-25"),
        ("month", "2026-07"),
        ("tag:project", "apollo"),
        ("tag:nothing", None),
    ],
)
def test_columns(ledger, report, by, cell):
    """Calls can be grouped by operation, provider, day, month and any tag."""
    result = report(ledger(line(record(project="apollo"))), "--by", by)
    assert (result["columns"][0], result["rows"][0][by]) == (by, cell)


def test_columns_come_in_the_order_asked_for(ledger, report):
    """The order of --by is the order of the columns and of the sorting."""
    folder = ledger(line(record("a", organization="b", model="x"), record("b", organization="a", model="y")))
    rows = report(folder, "--by", "model, organization")["rows"]
    assert [(row["model"], row["organization"]) for row in rows] == [("x", "b"), ("y", "a")]


def test_rows_sort_without_regard_to_case_and_missing_last(ledger, report):
    """Rows are sorted as a person would look for them."""
    names = ["beta", "Alpha", None, "alpha", "Gamma"]
    folder = ledger(line(*(record(str(n), organization=name, status="partial") for n, name in enumerate(names))))
    rows = report(folder, "--by", "organization")["rows"]
    assert [row["organization"] for row in rows] == ["Alpha", "alpha", "beta", "Gamma", None]


@pytest.mark.parametrize(
    ("typed", "meant"), [("organisation", "organization"), ("org", "organization"), ("Dya", "day")]
)
def test_an_unknown_column_is_refused_with_the_nearest(ledger, failing, typed, meant):
    """A mistyped column is an error that names the one meant."""
    assert f"Did you mean '{meant}'?" in failing(ledger(line(record())), "--by", typed)


@pytest.mark.parametrize("by", ["", " , ", "tag:"])
def test_an_empty_column_is_refused(ledger, failing, by):
    """--by has to name something."""
    assert "tag:<key>" in failing(ledger(line(record())), "--by", by)


# -- Files -----------------------------------------------------------------------------------------------------------


def test_other_signals_are_passed_over(ledger, report):
    """Spans, metrics, other log records and other files in the folder are ignored quietly."""
    folder = ledger(
        json.dumps({"resourceSpans": [{"anything": 1}]}),
        json.dumps({"resourceMetrics": []}),
        json.dumps({"hello": "world"}),
        line(record("other", event="something.else")),
        "",
        line(record()),
    )
    ledger("not ours", name="notes.txt")
    result = report(folder)
    assert (result["records"], result["bad_lines"]) == (1, 0)


def test_unreadable_lines_are_counted_and_named(ledger, capsys):
    """Bad lines do not end the report; the first are named by file and line, the rest by number."""
    folder = ledger(line(record()), *["{torn"] * 9)
    assert main(["report", str(folder), "--format", "json", "--no-cost"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["bad_lines"] == 9
    assert f"{folder / 'a.jsonl'}:2: torn, or not JSON" in captured.err
    assert "... and 4 more lines" in captured.err


def test_a_whole_record_behind_a_torn_one_counts(ledger, report):
    """What was written behind the torn end of a killed process is not lost with it."""
    result = report(ledger(line(record("torn"))[:200] + line(record("whole"))))
    assert (result["records"], result["bad_lines"]) == (1, 1)


def test_an_unreadable_count_is_unknown_usage(ledger, report):
    """A call whose tokens cannot be read is still a call, and nobody invents its tokens."""
    broken = record()
    broken["attributes"][-1]["value"] = {"stringValue": "many"}
    result = report(ledger(line(broken, record("two"))))
    assert [(row["kind"], row["calls"]) for row in result["rows"]] == [("owned", 1), ("unknown", 1)]
    assert result["bad_lines"] == 1


def test_integers_may_be_numbers(ledger, report):
    """OTLP JSON writes 64-bit integers as strings; numbers are accepted too."""
    numbers = json.loads(line(record()), object_hook=lambda item: item)
    for log in numbers["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
        log["timeUnixNano"] = int(log["timeUnixNano"])
        for attribute in log["attributes"]:
            if "intValue" in attribute["value"]:
                attribute["value"]["intValue"] = int(attribute["value"]["intValue"])
    result = report(ledger(json.dumps(numbers)), "--by", "day")
    assert (result["rows"][0]["day"], result["total"]["input_tokens"]) == ("2026-07-25", 100)


def test_nothing_to_read_says_what_to_do(tmp_path, ledger, failing):
    """A missing path, an empty folder and files without usage records are errors that say what to do next."""
    (tmp_path / "empty").mkdir()
    assert "does not exist" in failing(tmp_path / "nowhere")
    assert "no *.jsonl file" in failing(tmp_path / "empty")
    assert "OPENAI_METERING_LEDGER_DIR" in failing(ledger('{"resourceSpans": []}'))


# -- Formats ---------------------------------------------------------------------------------------------------------


def test_csv(ledger, capsys):
    """CSV has the kind first, whole cells in every line, nothing where nothing is known, and no totals."""
    folder = ledger(line(record("a"), record("b", model="x,y"), record("c", usage="unknown", reason="cut")))
    assert main(["report", str(folder), "--by", "organization,model", "--format", "csv", "--no-cost"]) == 0
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [
        [
            "kind",
            "organization",
            "model",
            "calls",
            "input_tokens",
            "cached_tokens",
            "output_tokens",
            "reasoning_tokens",
        ],
        ["owned", "AcmeSoft", "gpt-5-2025-08-07", "1", "100", "40", "10", "4"],
        ["owned", "AcmeSoft", "x,y", "1", "100", "40", "10", "4"],
        ["unknown", "", "", "1", "", "", "", ""],
    ]


TABLE = [
    "                                              of which            of which",
    "organization  model                calls  input  cached  output  reasoning",
    "AcmeSoft      gpt-5                    1  1,500      40      10          4",
    "              gpt-5 (estimated)        1    100      40      10          4",
    "subtotal                               2  1,600      80      20          8",
    "Globex        a\\x1b[31m-long-model      1    100      40      10          4",
    "unattributed                           1    100      40      10          4",
    "usage unknown                          2      ?       ?       ?          ?",
    "not billed                             1      0       0       0          0",
    "total                                  7  1,800     160      40         16",
    "Cached tokens are part of input, reasoning tokens are part of output.",
    "Estimated: 1 call; the totals include the estimate.",
    "Usage unknown: closed_before_usage 1, cut 1. The total is without the tokens of 2 calls.",
]


@pytest.fixture
def every_kind(ledger):
    return ledger(
        line(record("a", model="gpt-5", input=1500), record("b", model="gpt-5", usage="estimated")),
        line(record("c", organization="Globex", model="a\x1b[31m-long-model"), record("d", **NOBODY)),
        line(record("e", usage="unknown", reason="cut"), record("f", usage="unknown", reason="closed_before_usage")),
        line(record("g", usage="not_billed")),
    )


def test_table(every_kind, capsys):
    """The piped table has no colours, blanks what repeats, and ends with what its numbers leave out."""
    assert main(["report", str(every_kind), "--by", "organization,model", "--no-cost"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    shown = [item for item in out.splitlines() if item and "─" not in item]
    assert [" ".join(item.split()) for item in shown] == [" ".join(item.split()) for item in TABLE]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_no_digit_is_cut_off_on_any_terminal(width):
    """However narrow the terminal and long the names, every number and every character of a name is there."""
    long_name = "x" * 150
    rows = [parse(line(record("a", organization=long_name, input=123_456_789_012)).encode())[0][0]]
    console = Console(file=io.StringIO(), width=width)
    table._print(group(rows, columns_of("organization,subscriber,credential,model")), console)
    out = console.file.getvalue()
    assert out.count("123,456,789,012") == 2
    assert out.count("x") == 150
    assert "…" not in out


def test_output_goes_to_a_file(ledger, tmp_path, capsys):
    """--output writes the report to a file and leaves the terminal alone."""
    target = tmp_path / "july.json"
    assert main(["report", str(ledger(line(record()))), "--format", "json", "--output", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(target.read_text(encoding="utf-8"))["records"] == 1


def test_output_never_overwrites_what_is_read(ledger, failing):
    """A report does not replace the ledger it is made from."""
    folder = ledger(line(record()))
    assert "would be lost" in failing(folder, "--output", folder / "a.jsonl")
    assert (folder / "a.jsonl").read_text(encoding="utf-8") == line(record()) + "\n"


def test_without_rich_only_the_table_is_missing(ledger, tmp_path):
    """Without the report extra the table says what to install, and CSV and JSON work."""
    (tmp_path / "rich.py").write_text("raise ModuleNotFoundError(name='rich')", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "import sys; from openai_metering.cli import main; sys.exit(main())", "report"]
    command.append(str(ledger(line(record()))))
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert "pip install 'openai-metering[report]'" in shown.stderr
    assert (
        subprocess.run([*command, "--format", "csv"], env=environment, capture_output=True, check=False).returncode == 0
    )


# -- The command -----------------------------------------------------------------------------------------------------


def test_help_and_version(capsys):
    """Help shows examples, the version is the distribution's, and no command at all shows the help."""
    assert main(["--help"]) == 0
    assert "report" in capsys.readouterr().out
    assert main(["report", "--help"]) == 0
    assert "openai-metering report ./ledger --by" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("openai-metering ")
    assert main([]) == 2
    assert "report" in capsys.readouterr().err
    assert main(["report"]) == 2


def test_a_reader_that_goes_away_ends_it_quietly(ledger):
    """A closed pipe leaves no traceback."""
    folder = ledger(*(line(record(str(n), model=f"model-{n}")) for n in range(3000)))
    code = "import sys; from openai_metering.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "report", str(folder), "--format", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


# -- What nobody owns, and what was priced again -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [NOBODY, {"usage": "unknown", "reason": "not_sent", "input": None, "output": None}],
    ids=["nobody", "unknown"],
)
def test_a_ledger_without_an_owned_call_is_shown(ledger, capsys, changes):
    """The table has no group then, and says what there is."""
    folder = ledger(line(record("one", **changes)))
    assert main(["report", str(folder), "--no-cost"]) == 0
    shown = capsys.readouterr().out
    assert "total" in shown
    assert ("unattributed" if changes is NOBODY else "usage unknown") in shown


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_copies_the_one_that_was_priced_last_counts(ledger, capsys, turned):
    """A record that was sent again with its cost, or with that of a newer price table."""

    def priced(amount, version):
        facts = {"status": "priced", "amount": amount, "currency": "USD", "source": "file", "table_version": version}
        return {f"openai_metering.cost.{name}": value for name, value in facts.items()}

    copies = [record("one"), record("one", **priced("1.5", "1")), record("one", **priced("0.5", "2"))]
    folder = ledger(*(line(one) for one in (reversed(copies) if turned else copies)))
    assert main(["report", str(folder), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["cost"] == "0.5"
