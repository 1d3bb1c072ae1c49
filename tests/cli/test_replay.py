"""The replay command: a ledger, or a part of it, sent to a receiver again."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
from decimal import Decimal
from typing import Any

import pytest
from usage_lines import JULY, line, record

from openai_metering.cli import main
from openai_metering.cli.replay import BATCH_LINES

SECOND = 10**9


class Receiver(http.server.ThreadingHTTPServer):
    """An OTLP/HTTP receiver that answers as it is told, and keeps what it acknowledged."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        """The next answers; 200 when there is none."""
        self.poison = ""
        self.headers: list[dict[str, str]] = []
        self.records: list[dict[str, Any]] = []
        self.partial: dict[str, Any] = {}

    @property
    def ids(self) -> list[str]:
        """The ids of what was acknowledged."""
        return [one["attributes"][0]["value"]["stringValue"] for one in self.records]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(gzip.decompress(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.headers.append({"path": self.path, **{key.lower(): item for key, item in self.headers.items()}})
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if self.server.poison and self.server.poison in json.dumps(body):
            status = 400
        if status == 200:
            self.server.records += [
                one
                for resource in body["resourceLogs"]
                for scope in resource["scopeLogs"]
                for one in scope["logRecords"]
            ]
        answer = json.dumps(self.server.partial if status == 200 else {"message": "secret"}).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def receiver():
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(30)


@pytest.fixture
def ledger(tmp_path):
    folder = tmp_path / "ledger"
    folder.mkdir()

    def write(*ids, name="usage.jsonl", end=""):
        with (folder / name).open("a") as file:
            file.write("".join(line(record(one, time=JULY + number * SECOND)) + "\n" for number, one in enumerate(ids)))
            file.write(end)
        return folder

    return write


def replay(receiver, folder, *arguments):
    return main(["replay", str(folder), "--endpoint", f"http://127.0.0.1:{receiver.server_port}", *arguments])


def test_everything_is_sent(receiver, ledger, capsys):
    """Every record of every file arrives, in batches, at the path of OTLP's logs."""
    ids = [f"{number}" for number in range(2 * BATCH_LINES + 10)]
    ledger(*ids[:100], name="a.jsonl")
    folder = ledger(*ids[100:], name="b.jsonl")
    assert replay(receiver, folder, "--header", "authorization=Bearer x") == 0
    assert receiver.ids == ids
    assert len(receiver.headers) == 3
    assert {headers["path"] for headers in receiver.headers} == {"/v1/logs"}
    assert {headers["content-type"] for headers in receiver.headers} == {"application/json"}
    assert {headers["authorization"] for headers in receiver.headers} == {"Bearer x"}
    assert f"{len(ids):,} lines sent" in capsys.readouterr().out


PRICES = """
version = "7"
[[cost]]
model = "gpt-5-*"
input_mtok = 1
output_mtok = 10
[[price]]
organization = "AcmeSoft"
factor = 2
"""


def test_records_are_priced_on_their_way(receiver, ledger, tmp_path):
    """With a price file each record has its cost and price, also again; the ledger stays as it is."""
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    folder = ledger(
        "1",
        "2",
        end='{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"eventName": "openai_metering.usage", "attributes": [{"key": "a", "value": {"intValue": "1"}}]}]}]}]}\n',
    )
    before = (folder / "usage.jsonl").read_text()
    assert replay(receiver, folder) == 0
    assert [costs(one) for one in receiver.records[:2]] == [{}, {}]
    assert replay(receiver, folder, "--prices", str(prices)) == 0
    assert len(receiver.records) == 6
    for one in receiver.records[3:5]:
        found = costs(one)
        assert Decimal(found["openai_metering.cost.amount"]) == Decimal("0.0002")  # 100 at 1, 10 at 10 a million
        assert Decimal(found["openai_metering.price.amount"]) == Decimal("0.0004")
        assert found["openai_metering.cost.source"] == "file"
    assert (folder / "usage.jsonl").read_text() == before
    prices.write_text(PRICES.replace("input_mtok", "input"))
    assert replay(receiver, folder, "--prices", str(prices)) == 2


def costs(one):
    """What a record says of cost and price."""
    return {
        attribute["key"]: attribute["value"]["stringValue"]
        for attribute in one["attributes"]
        if attribute["key"].startswith(("openai_metering.cost.", "openai_metering.price."))
    }


def test_the_same_command_sends_what_is_new(receiver, ledger):
    """What was acknowledged is not sent again, but on demand; a line that was still being written is, once it is whole."""
    whole = line(record("3"))
    folder = ledger("1", "2", end=whole[:100])
    assert replay(receiver, folder) == 0
    assert receiver.ids == ["1", "2"]
    ledger(end=whole[100:] + "\n")
    assert replay(receiver, folder) == 0
    assert receiver.ids == ["1", "2", "3"]
    assert replay(receiver, folder, "--restart") == 0
    assert receiver.ids == ["1", "2", "3"] * 2


def test_an_interrupted_replay_goes_on(receiver, ledger, capsys):
    """A receiver that goes away in the middle costs nothing that it acknowledged, and nothing is left out."""
    ids = [f"{number}" for number in range(3 * BATCH_LINES)]
    folder = ledger(*ids)
    receiver.statuses = [200, 503, 503, 503]
    assert replay(receiver, folder, "--patience", "0.1") == 2
    assert "run the same command again" in capsys.readouterr().err
    assert receiver.ids == ids[:BATCH_LINES]
    receiver.statuses = []
    assert replay(receiver, folder) == 0
    assert receiver.ids == ids


def test_a_busy_receiver_is_waited_for(receiver, ledger):
    """Statuses that OTLP calls retryable are retried."""
    receiver.statuses = [429, 429]
    assert replay(receiver, ledger("1")) == 0
    assert receiver.ids == ["1"]


def test_a_range_of_time(receiver, ledger):
    """From is inclusive and to is exclusive, as months of a bill are."""
    folder = ledger("0", "1", "2", "3")
    assert replay(receiver, folder, "--from", "2026-07-25T17:20:01", "--to", "2026-07-25T17:20:03Z") == 0
    assert receiver.ids == ["1", "2"]


def test_a_line_that_is_refused_costs_no_other(receiver, ledger, capsys):
    """The receiver refuses a batch because of one line: that one is named, the others arrive."""
    receiver.poison = '"poison"'
    folder = ledger(*"abcdefg", "poison", *"hijk")
    assert replay(receiver, folder) == 1
    assert sorted(receiver.ids) == sorted("abcdefghijk")
    assert "usage.jsonl:8: refused with status 400" in capsys.readouterr().err


def test_a_torn_line_is_named_and_left_out(receiver, ledger, capsys):
    """What cannot be read is not sent, and the exit status says so."""
    folder = ledger("1", end='{"resourceLogs":[{"cut\n')
    ledger("2")
    assert replay(receiver, folder) == 1
    assert receiver.ids == ["1", "2"]
    assert "usage.jsonl:2: torn" in capsys.readouterr().err


def test_records_that_the_receiver_dropped_are_told(receiver, ledger, capsys):
    """A partial success is not a success."""
    receiver.partial = {"partialSuccess": {"rejectedLogRecords": "2"}}
    assert replay(receiver, ledger("1", "2", "3")) == 1
    assert "2 not accepted" in capsys.readouterr().out


def test_a_receiver_that_refuses_everything(receiver, ledger, capsys):
    """A wrong password is said at once, in our words and not in the receiver's."""
    receiver.statuses = [401]
    assert replay(receiver, ledger("1")) == 2
    error = capsys.readouterr().err
    assert "401" in error
    assert "--header" in error
    assert "secret" not in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--endpoint", "localhost:4318"], "--endpoint"),
        (["--endpoint", "http://127.0.0.1:1", "--from", "July"], "--from July is no time"),
        (["--endpoint", "http://127.0.0.1:1", "--header", "authorization"], "NAME=VALUE"),
        (["--endpoint", "http://127.0.0.1:1", "--patience", "0"], "did not take the records"),
        (["--endpoint", "http://127.0.0.1:1", "--state", "/nowhere/state"], "--state"),
    ],
    ids=["address", "time", "header", "away", "state"],
)
def test_what_cannot_be_done_is_said(ledger, capsys, arguments, said):
    """Each mistake has a message that says what to do."""
    assert main(["replay", str(ledger("1")), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_broken_state_file_is_said(receiver, ledger, tmp_path, capsys):
    """A state that cannot be read is not taken for an empty one."""
    state = tmp_path / "state"
    state.write_text("[]")
    assert replay(receiver, ledger("1"), "--state", str(state)) == 2
    assert "--restart" in capsys.readouterr().err
    assert receiver.ids == []


def test_what_was_in_quarantine(receiver, ledger):
    """The reason of a gateway is taken off, so that whoever receives the record judges it anew."""
    folder = ledger("1")
    (folder / "quarantine.jsonl").write_text(
        line(record("2", **{"openai_metering.quarantine.reason": "no_model"})) + "\n"
    )
    assert replay(receiver, folder / "quarantine.jsonl") == 0
    assert receiver.ids == ["2"]
    assert "quarantine" not in json.dumps(receiver.records)


def test_a_month_as_in_reports(receiver, ledger):
    """``--from`` takes a month, a date or a time, as the other commands do."""
    folder = ledger("1", "2")
    assert replay(receiver, folder, "--from", "2026-08") == 0
    assert receiver.ids == []
    assert replay(receiver, folder, "--from", "2026-07", "--to", "2026-08") == 0
    assert receiver.ids == ["1", "2"]
