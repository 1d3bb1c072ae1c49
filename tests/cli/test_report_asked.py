"""What a report is about: periods, time zones, filters, the largest, the period before, budgets; tables in and out."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import resource
import threading
from decimal import Decimal

import duckdb
import pytest
from usage_lines import NOBODY, line, record

from openai_metering.cli import main
from openai_metering.cli.period import Period, dates, months, nanoseconds, period_of, within, zone_of

BERLIN = zone_of("Europe/Berlin")


def at(text):
    """A moment in UTC as nanoseconds."""
    return nanoseconds(dt.datetime.fromisoformat(f"{text}+00:00"))


def cost(amount):
    return {
        "openai_metering.cost.status": "priced",
        "openai_metering.cost.amount": amount,
        "openai_metering.cost.currency": "USD",
        "openai_metering.cost.source": "list",
    }


@pytest.fixture
def ledger(tmp_path):
    """Two organizations over the turn of a month, one call of unknown usage, one of nobody, and one without a time."""
    folder = tmp_path / "ledger"
    folder.mkdir()
    records = [
        record("june", time=at("2026-06-30T12:00:00"), input=10, **cost("1.10")),
        record("night", time=at("2026-06-30T22:30:00"), input=20, **cost("2.20")),  # 1 July in Berlin
        record("july", time=at("2026-07-15T00:00:00"), input=40, model="gpt-4o", **cost("4.40")),
        record("other", time=at("2026-07-15T00:00:00"), input=80, organization="Nord", **cost("8.80")),
        record("small", time=at("2026-07-16T00:00:00"), input=1, organization="Tiny", **cost("0.10")),
        record("lost", time=at("2026-07-17T00:00:00"), usage="unknown", reason="cut", input=None),
        record("nobody", time=at("2026-07-18T00:00:00"), input=160, **NOBODY, **cost("16")),
        record("august", time=at("2026-08-01T00:00:00"), input=320, **cost("32")),
        record("timeless", time=0, input=640, **cost("64")),
    ]
    (folder / "a.jsonl").write_text("".join(f"{line(one)}\n" for one in records), encoding="utf-8")
    return folder


@pytest.fixture
def report(capsys):
    def run(*args):
        status = main(["report", *map(str, args), "--format", "json"])
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


def inputs(found, *by):
    """Input tokens by kind and the named columns."""
    return {(row["kind"], *(row[name] for name in by)): row["input_tokens"] for row in found["rows"]}


# -- Periods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [("--month", "2026-07"), ("--from", "2026-07", "--to", "2026-08-01T00:00Z")])
def test_a_month(ledger, report, asked):
    """A month is from its first moment up to but without that of the next; what has no time is said, not hidden."""
    found = report(ledger, "--by", "organization", *asked)
    assert inputs(found, "organization") == {
        ("owned", "AcmeSoft"): 40,
        ("owned", "Nord"): 80,
        ("owned", "Tiny"): 1,
        ("unattributed", None): 160,
        ("unknown", None): None,
    }
    assert found["untimed"] == 1
    assert found["total"]["cost"] == "29.3"
    assert found["period"] == "2026-07"


def test_a_month_of_a_time_zone(ledger, report):
    """Days and months are those of the clock that is named."""
    found = report(ledger, "--by", "organization,day", "--month", "2026-07", "--timezone", "Europe/Berlin")
    assert inputs(found, "organization", "day")["owned", "AcmeSoft", "2026-07-01"] == 20


def test_weeks(ledger, report):
    """A week is that of ISO 8601."""
    found = report(ledger, "--by", "week", "--where", "organization=Nord")
    assert inputs(found, "week") == {("owned", "2026-W29"): 80}


@pytest.mark.parametrize(
    ("since", "until", "before", "words"),
    [
        ("2026-03", "2026-04", ("2026-02-01", "2026-03-01"), "2026-03"),
        ("2026-01", "2026-03", ("2025-11-01", "2026-01-01"), "2026-01 to 2026-02"),
        ("2026-03-29", "2026-03-30", ("2026-03-28", "2026-03-29"), "2026-03-29"),  # 23 hours in Berlin
        ("2026-07-08", "2026-07-15", ("2026-07-01", "2026-07-08"), "2026-07-08 to 2026-07-14"),
    ],
)
def test_the_period_before(since, until, before, words):
    """Before whole months come as many months, before days as many days, also where a clock is changed."""
    period = period_of(since, until, None, BERLIN)
    earlier = period.before()
    assert str(period) == words
    assert tuple(f"{one:%Y-%m-%d %H:%M}" for one in (earlier.start, earlier.end)) == tuple(
        f"{day} 00:00" for day in before
    )
    assert earlier.end == period.start


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        ("2026-07", "2026-08", "in 2026-07"),
        ("2026-05", "2026-08", "from 2026-05 to 2026-07"),
        ("2026-07-08", "2026-07-09", "on 2026-07-08"),
        ("2026-07-08", "2026-07-15", "from 2026-07-08 to 2026-07-14"),
        ("2026-07-31T12:00", "2026-08-01", "from 2026-07-31 12:00+00:00 to 2026-08-01 00:00+00:00"),
        ("2026-07-31T12:00", None, "from 2026-07-31 12:00+00:00"),
        (None, "2026-07-31T12:00", "up to 2026-07-31 12:00+00:00"),
        (None, "2026-08", "up to 2026-07-31"),
    ],
)
def test_a_period_in_a_sentence(since, until, words):
    """A sentence has one preposition for its period."""
    assert within(str(period_of(since, until, None, zone_of(None)))) == words


def test_a_note_names_the_period(ledger, capsys):
    """The note below the table is a sentence, whatever its bounds are."""
    words = ["report", str(ledger), "--from", "2026-07-15", "--to", "2026-07-15T12:00", "--no-cost", "--by", "model"]
    assert main(words) == 0
    shown = "Calls that ended from 2026-07-15 00:00+00:00 to 2026-07-15 12:00+00:00."
    assert shown in capsys.readouterr().out
    main(["report", str(ledger), "--month", "2026-07", "--compare", "--no-cost"])
    assert "Calls that ended in 2026-07, beside those in 2026-06." in capsys.readouterr().out


def test_months_are_whole():
    """Only what begins and ends with a month is months."""
    assert months(period_of("2026-11", "2027-02", None, BERLIN)) == ["2026-11", "2026-12", "2027-01"]
    assert months(period_of("2026-11-02", "2026-12-01", None, BERLIN)) is None
    assert months(Period()) is None


def test_dates_on_both_sides_of_a_change_of_the_clock():
    """The last minute of a day with 25 hours belongs to it."""
    date = dates(BERLIN)
    assert date(at("2026-10-25T22:59:59")).isoformat() == "2026-10-25"
    assert date(at("2026-10-25T23:00:00")).isoformat() == "2026-10-26"


# -- Filters, the largest --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["organization=Nord"], {"Nord"}),
        (["organization=Nord", "organization=Tiny"], {"Nord", "Tiny"}),
        (["organization=*o*", "model=gpt-5*"], {"AcmeSoft", "Nord"}),
        (["organization!=AcmeSoft", "organization!="], {"Nord", "Tiny"}),
        (["month=2026-08"], {"AcmeSoft"}),
    ],
)
def test_filters(ledger, report, where, expected):
    """Conditions on several columns must all hold, those on one are alternatives, and all may be turned round."""
    found = report(ledger, "--by", "organization", *(word for one in where for word in ("--where", one)))
    assert {row["organization"] for row in found["rows"]} - {None} == expected


def test_the_largest(ledger, report):
    """The largest come first; the rest is one row, so that the total stays whole."""
    whole = report(ledger, "--by", "organization")
    found = report(ledger, "--by", "organization", "--top", 1)
    kinds = [(row["kind"], row["organization"], row["cost"]) for row in found["rows"]]
    assert kinds[:2] == [("owned", "AcmeSoft", "103.7"), ("others", None, "8.9")]
    assert found["total"] == whole["total"]
    assert found["groups_in_others"] == 2


def test_the_largest_of_an_organization_stay_together(tmp_path, capsys):
    """With --top the rows of an organization are one block with one subtotal, which also has its period before."""
    rows = [("A", "m1", 100), ("B", "m1", 90), ("A", "m2", 50), ("B", "m2", 80), ("C", "m1", 1)]
    july, june = at("2026-07-02T00:00:00"), at("2026-06-02T00:00:00")
    records = [
        record(f"{month}{place}", time=time, organization=name, model=model, input=count // part, output=0)
        for month, (time, part) in enumerate([(july, 1), (june, 2)])
        for place, (name, model, count) in enumerate(rows)
    ]
    (tmp_path / "a.jsonl").write_text("".join(f"{line(one)}\n" for one in records), encoding="utf-8")
    words = ["report", str(tmp_path), "--by", "organization,model", "--top", "4", "--no-cost", "--month", "2026-07"]
    assert main([*words, "--compare"]) == 0
    lines = [one.split() for one in capsys.readouterr().out.splitlines()]
    names = [one[0] for one in lines if one and one[0] in {"A", "B", "m2", "subtotal", "others", "C"}]
    assert names == ["B", "m2", "subtotal", "A", "m2", "subtotal", "others"]
    sums = [one for one in lines if one and one[0] == "subtotal"]
    assert [(one[2], one[6:]) for one in sums] == [
        ("170", ["85", "+100.0", "%"]),
        ("150", ["75", "+100.0", "%"]),
    ]


# -- Beside others ---------------------------------------------------------------------------------------------------


def test_compared(ledger, report, capsys):
    """Each row stands beside that of the period before, also where there is nothing now or was nothing then."""
    found = report(ledger, "--by", "organization", "--from", "2026-08", "--to", "2026-09", "--compare")
    rows = {
        row["organization"] or row["kind"]: (row["calls"], row["before_calls"], row["before_cost"])
        for row in found["rows"]
    }
    assert rows == {
        "AcmeSoft": (1, 1, "4.4"),
        "Nord": (0, 1, "8.8"),
        "Tiny": (0, 1, "0.1"),
        "unattributed": (0, 1, "16"),
        "unknown": (0, 1, None),
    }
    assert found["before_period"] == "2026-07"
    main(["report", str(ledger), "--by", "organization", "--month", "2026-08", "--compare"])
    shown = capsys.readouterr().out
    assert "+627.3 %" in shown
    assert "-100.0 %" in shown


def test_budgets(ledger, report, tmp_path, capsys):
    """A budget is of a month; of several months it is their sum, and beside months each its own."""
    file = tmp_path / "budgets.csv"
    file.write_text("id,budget,month\nacmesoft,10,\nAcmeSoft,8,2026-07\nNord,5.5,\n", encoding="utf-8")
    found = report(ledger, "--by", "organization", "--from", "2026-06", "--to", "2026-08", "--budgets", file)
    assert {row["organization"]: row["budget"] for row in found["rows"] if row["kind"] == "owned"} == {
        "AcmeSoft": "18",
        "Nord": "11",
        "Tiny": None,
    }
    found = report(ledger, "--by", "organization,month", "--budgets", file)
    assert inputs(found, "organization", "month", "budget").keys() >= {
        ("owned", "AcmeSoft", "2026-06", "10"),
        ("owned", "AcmeSoft", "2026-07", "8"),
    }
    main(["report", str(ledger), "--by", "organization", "--month", "2026-07", "--budgets", str(file)])
    assert "160.0 %" in capsys.readouterr().out


def test_budgets_of_a_directory(ledger, report, tmp_path, capsys):
    """A directory's column meta.budget is shown without being asked for, as it was in each month."""
    folder = str(tmp_path / "directory")
    run = [
        ["init"],
        ["add", "organization", "AcmeSoft", "meta.budget=7"],
        ["set", "organization", "AcmeSoft", "meta.budget=9", "--from", "2026-07-01"],
    ]
    for words in run:
        assert main(["directory", words[0], "--directory", folder, *words[1:]]) == 0
    capsys.readouterr()
    found = report(ledger, "--directory", folder, "--by", "organization", "--from", "2026-06", "--to", "2026-08")
    assert {row["organization"]: row["budget"] for row in found["rows"]}["AcmeSoft"] == "16"


# -- Errors say what to do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--month", "2020-01"], "no call ended in the period 2020-01. The calls there are end from 2026-06-30 12:00"),
        (["--month", "July"], "not a month such as 2026-07"),
        (["--month", "2026-07", "--from", "2026-07"], "leave --from and --to out"),
        (["--from", "2026-08", "--to", "2026-07"], "nothing is between them"),
        (["--from", "2026-02-30"], "is not a month such as"),
        (["--timezone", "Europe/Berln"], "Did you mean 'Europe/Berlin'?"),
        (["--where", "organisation=X"], "Did you mean 'organization'?"),
        (["--where", "organization=acmesoft"], "Did you mean organization=AcmeSoft?"),
        (["--where", "organization"], "is not column=value"),
        (["--top", "0"], "--top takes"),
        (["--compare"], "give --month, or --from and --to"),
        (["--compare", "--month", "2026-07", "--by", "day"], "leave day out of --by"),
        (["--format", "parquet"], "give --output FILE"),
        (["--by", "account"], "give --directory DIR"),
        (["--invoice", "Nord", "--month", "2026-07", "--format", "json"], "leave --format json out"),
        (["--invoice", "Nord", "--month", "2026-07", "--by", "model"], "leave --by out"),
        (["--invoice", "Nord", "--month", "2026-07", "--top", "3"], "leave --top out"),
        (["--minutes", "5"], "give --watch too"),
    ],
)
def test_errors(ledger, failing, args, said):
    """Whatever cannot be done says why, and what would do."""
    assert said in failing(ledger, *args)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing.parquet", "does not exist"),
        ("clickhouse://localhost/one", "clickhouse://[user@]host[:port]/database/table"),
        ("clickhouse://me:secret@localhost/one/two", "Set CLICKHOUSE_PASSWORD"),
        ("clickhouse://127.0.0.1:1/one/two", "cannot be reached"),
        ("https://example.org/records", "only clickhouse://"),
    ],
)
def test_errors_of_tables(failing, path, said):
    """A table that is not there says what is read, and no password is repeated."""
    found = failing(path)
    assert said in found
    assert "secret" not in found


# -- Tables in and out -----------------------------------------------------------------------------------------------


def table_of(ledger):
    """The records of a ledger as rows: time, event and a map of attributes."""
    for text in (ledger / "a.jsonl").read_text().splitlines():
        (one,) = json.loads(text)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
        values = {item["key"]: next(iter(item["value"].values())) for item in one["attributes"]}
        yield int(one["timeUnixNano"]), one["eventName"], values


@pytest.mark.parametrize("kind", ["columns.parquet", "map.parquet", "file.duckdb", "file.duckdb#other"])
def test_tables_are_read_like_lines(ledger, report, tmp_path, kind):
    """Parquet and DuckDB give the same report as the lines, with attributes as columns or in a map."""
    name, _, table = kind.partition("#")
    file = tmp_path / name
    rows = list(table_of(ledger))
    with duckdb.connect(str(file) if name.endswith("duckdb") else ":memory:") as connection:
        if name == "columns.parquet":
            names = sorted({key for _, _, values in rows for key in values})
            typed = ", ".join(f'"{key}" {"BIGINT" if "tokens" in key else "VARCHAR"}' for key in names)
            connection.execute(f"CREATE TABLE t (timeUnixNano BIGINT, {typed})")
            given = [(time, *(values.get(key) for key in names)) for time, _, values in rows]
            connection.executemany(f"INSERT INTO t VALUES (?, {', '.join('?' * len(names))})", given)
            connection.table("t").write_parquet(str(file))
        else:
            table = table or ("usage" if name.endswith("duckdb") else "t")
            connection.execute(
                f"CREATE TABLE {table} (Timestamp BIGINT, EventName VARCHAR, LogAttributes MAP(VARCHAR, VARCHAR))"
            )
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
            connection.execute(f"INSERT INTO {table} VALUES (1, 'another.event', MAP {{}})")
            if name.endswith("parquet"):
                connection.table(table).write_parquet(str(file))
    path = f"{file}{kind[len(name) :]}"
    assert report(path, "--by", "organization,month") == report(ledger, "--by", "organization,month")


def test_clickhouse_is_asked_over_http(ledger, report):
    """A table of the Collector's ClickHouse exporter is read over the HTTP interface, line by line."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.rfile.read(int(self.headers["content-length"])).decode(), self.headers["authorization"]))
            lines = [
                json.dumps({"timeUnixNano": str(time), "LogAttributes": values}) for time, _, values in table_of(ledger)
            ]
            body = "".join(f"{text}\n" for text in lines).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"clickhouse://reader@127.0.0.1:{server.server_port}/default/otel_logs"
            assert report(url, "--by", "organization") == report(ledger, "--by", "organization")
        finally:
            server.shutdown()
            thread.join()
    ((query, authorization),) = asked
    assert "FROM default.otel_logs WHERE EventName = 'openai_metering.usage' FORMAT JSONEachRow" in query
    assert authorization == "Basic cmVhZGVyOg=="


def test_parquet(ledger, report, tmp_path):
    """The Parquet file has the rows of the report, with exact numbers of their own types."""
    file = tmp_path / "report.parquet"
    assert main(["report", str(ledger), "--by", "organization", "--format", "parquet", "--output", str(file)]) == 0
    found = report(ledger, "--by", "organization")
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT kind, organization, calls, input_tokens, cost FROM read_parquet(?)", [str(file)]
        )
        assert [(*row[:4], row[4] and row[4].normalize()) for row in rows.fetchall()] == [
            (row["kind"], row["organization"], row["calls"], row["input_tokens"], row["cost"] and Decimal(row["cost"]))
            for row in found["rows"]
        ]


def test_parquet_counts_are_whole_numbers(ledger, tmp_path):
    """Counts are INT64 in the Parquet file, exact up to the largest that a call can have."""
    file = tmp_path / "report.parquet"
    text = line(record("x", input=2**62 + 1))
    (ledger / "a.jsonl").write_text(f"{text}\n", encoding="utf-8")
    assert main(["report", str(ledger), "--format", "parquet", "--output", str(file)]) == 0
    with duckdb.connect() as connection:
        found = connection.execute("SELECT name, type FROM parquet_schema(?)", [str(file)]).fetchall()
        types = {name: kind for name, kind in found if name == "calls" or name.endswith("_tokens")}
        assert types == dict.fromkeys(types, "INT64")
        assert len(types) == 5
        assert connection.execute("SELECT input_tokens FROM read_parquet(?)", [str(file)]).fetchall() == [(2**62 + 1,)]


def test_parquet_says_what_is_too_large(ledger, tmp_path, capsys):
    """A sum that no INT64 holds is an error, never another number."""
    file = tmp_path / "report.parquet"
    text = line(record("x", input=2**63 - 1), record("y", input=2**63 - 1))
    (ledger / "a.jsonl").write_text(f"{text}\n", encoding="utf-8")
    assert main(["report", str(ledger), "--format", "parquet", "--output", str(file)]) == 2
    assert "the Parquet file cannot be written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [ledger]


@pytest.mark.parametrize("words", [["--invoice", "Nobody"], ["--format", "html", "--budgets", "budgets.csv"]])
def test_a_report_that_cannot_be_made_leaves_the_file_as_it_was(ledger, failing, tmp_path, words, monkeypatch):
    """An existing --output is not touched by a report that fails."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "budgets.csv").write_text("id,budget\nNord,1\n")
    there = sorted(tmp_path.iterdir())
    file = tmp_path / "budgets.csv" if words[-1] == "Nobody" else ledger / "kept"
    file.write_text(old := "id,budget\nNord,2\n")
    period = ["--month", "2026-07"] if words[-1] == "Nobody" else []
    failing(ledger, *words, *period, "--output", file)
    assert file.read_text() == old
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.parametrize("form", ["csv", "json", "markdown", "table", "html", "parquet"])
def test_a_full_disk_leaves_the_file_as_it_was(ledger, tmp_path, form, capsys):
    """Every format takes the place of an existing --output when it is whole, and not before; nothing stays beside it."""
    file = tmp_path / "kept"
    file.write_text("kept")
    words = ["report", str(ledger), "--format", form, "--output", str(file)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        assert main(words) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written" in capsys.readouterr().err
    assert file.read_text() == "kept"
    assert sorted(tmp_path.iterdir()) == [file, ledger]
    assert main(words) == 0
    assert file.read_bytes() != b"kept"
    assert sorted(tmp_path.iterdir()) == [file, ledger]


def test_a_link_and_a_device_stay_what_they_are(ledger, tmp_path, capsys):
    """Behind a link the file is replaced, with the rights that it had; a device is written to."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    words = ["report", str(ledger), "--format", "csv", "--output"]
    assert main([*words, str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text().startswith("kind,")
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    assert main([*words, "/dev/null"]) == 0
    assert main([*words, "/dev/full"]) == 2
    assert "/dev/full cannot be written: No space left on device" in capsys.readouterr().err


def test_markdown(ledger, capsys):
    """A document gets a table whose names cannot break it."""
    text = line(record("x", organization="A|B <b>"))
    (ledger / "a.jsonl").write_text(f"{text}\n", encoding="utf-8")
    assert main(["report", str(ledger), "--by", "organization", "--format", "markdown", "--no-cost"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| kind | organization | calls | input_tokens | cached_tokens | output_tokens | reasoning_tokens |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| owned | A\\|B &lt;b> | 1 | 100 | 40 | 10 | 4 |",
        "| **total** |  | 1 | 100 | 40 | 10 | 4 |",
    ]
