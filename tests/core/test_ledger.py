"""Usage records on local disk: the line, the file, and what happens when the disk says no."""

from __future__ import annotations

import enum
import json
import math
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from openai_metering import errors
from openai_metering.ledger import Ledger, Rules, otlp_attributes, otlp_value
from openai_metering.ledger.background import MAX_WAITING_BYTES, Handover, is_disk_slow
from openai_metering.ledger.files import is_written, living_processes, process_of
from waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
posix = pytest.mark.skipif(os.name != "posix", reason="modes, fork and limits are those of POSIX")


def ledger_in(folder: Path) -> Ledger:
    return Ledger(str(folder), {"service.name": "shop", "replicas": 2}, ("openai_metering", "1.2.3"), SCHEMA)


def lines_in(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines(keepends=True)]


def records_in(folder: Path) -> list[dict[str, Any]]:
    return [
        record
        for line in lines_in(folder)
        for resource in json.loads(line)["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]


def refuse(text: str) -> None:
    raise ValueError(text)


# -- The line --------------------------------------------------------------------------------------------------------


def test_a_line_is_one_otlp_document(tmp_path):
    """Any OTLP JSON reader takes a ledger line as it is: resource, scope, schema and one record."""
    record = {"timeUnixNano": "1", "attributes": otlp_attributes([("a", 1)]), "eventName": "openai_metering.usage"}
    written = ledger_in(tmp_path).append(record)
    (line,) = lines_in(tmp_path)
    assert line.endswith(b"\n")
    assert written == len(line)
    assert json.loads(line) == {
        "resourceLogs": [
            {
                "resource": {
                    "attributes": [
                        {"key": "service.name", "value": {"stringValue": "shop"}},
                        {"key": "replicas", "value": {"intValue": "2"}},
                    ]
                },
                "scopeLogs": [
                    {
                        "scope": {"name": "openai_metering", "version": "1.2.3"},
                        "logRecords": [record],
                        "schemaUrl": SCHEMA,
                    }
                ],
            }
        ]
    }


class Tier(enum.IntEnum):
    PRO = 3


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("text", {"stringValue": "text"}),
        ("", {"stringValue": ""}),
        (True, {"boolValue": True}),
        (0, {"intValue": "0"}),
        (2**63 - 1, {"intValue": "9223372036854775807"}),
        (-(2**63), {"intValue": "-9223372036854775808"}),
        (Tier.PRO, {"intValue": "3"}),
        (0.5, {"doubleValue": 0.5}),
        (("stop", "length"), {"arrayValue": {"values": [{"stringValue": "stop"}, {"stringValue": "length"}]}}),
        ([], {"arrayValue": {"values": []}}),
    ],
    ids=str,
)
def test_values_are_written_as_otlp_writes_them(value, written):
    """Whole numbers are decimal text, because JSON readers lose digits beyond 2^53."""
    assert otlp_value(value) == written


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_a_line_is_json_whatever_the_numbers_are(tmp_path, value):
    """A tag that is no finite number does not make the whole line unreadable: JSON has no NaN."""
    ledger_in(tmp_path).append({"attributes": otlp_attributes([("attribution.tag.score", value)])})
    (line,) = lines_in(tmp_path)
    json.loads(line, parse_constant=refuse)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30], ids=str)
def test_no_whole_number_beyond_64_bits_is_written(value):
    """OTLP's integers have 64 bits; a Collector refuses the line of a larger one, and with it the bill."""
    written = otlp_value(value)
    assert "intValue" not in written or -(2**63) <= int(written["intValue"]) < 2**63


@pytest.mark.parametrize(
    "text",
    ["München", "日本語 🚀", 'quote " and \\ slash', "line\nbreak\r\u2028\u0000", "\ud800 lone", "\udcff"],
    ids=ascii,
)
def test_any_text_survives_and_stays_on_one_line(tmp_path, text):
    """Names in any script, and broken ones, give one readable line."""
    ledger_in(tmp_path).append({"attributes": otlp_attributes([("name", text)])})
    (record,) = records_in(tmp_path)
    assert record["attributes"][0]["value"]["stringValue"] == text
    (path,) = tmp_path.iterdir()
    assert path.read_bytes().count(b"\n") == 1


# -- The file --------------------------------------------------------------------------------------------------------


@posix
def test_only_the_owner_can_read_a_ledger(tmp_path):
    """Who used what is nobody else's business on a shared machine."""
    folder = tmp_path / "new" / "ledger"
    ledger_in(folder).append({})
    (path,) = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_nothing_is_written_before_the_first_record(tmp_path):
    """A process that makes no call leaves no file behind."""
    ledger_in(tmp_path / "ledger")
    assert list(tmp_path.iterdir()) == []


def test_each_record_is_one_line_at_once(tmp_path):
    """A record is on disk when `append` returns: `kill -9` loses none."""
    ledger = ledger_in(tmp_path)
    for number in range(5):
        ledger.append({"number": number})
        assert [record["number"] for record in records_in(tmp_path)] == list(range(number + 1))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_closed_ledger_goes_on_in_a_new_file(tmp_path):
    """A call that ends after `uninstrument()` is not lost."""
    ledger = ledger_in(tmp_path)
    ledger.append({"number": 1})
    ledger.close()
    ledger.append({"number": 2})
    assert sorted(record["number"] for record in records_in(tmp_path)) == [1, 2]
    assert len(list(tmp_path.iterdir())) == 2


def test_two_ledgers_in_one_folder_have_their_own_files(tmp_path):
    """Processes that share a folder never share a file."""
    for number in (1, 2):
        ledger_in(tmp_path).append({"number": number})
    assert len(list(tmp_path.iterdir())) == 2
    assert len(records_in(tmp_path)) == 2


def test_threads_write_whole_lines(tmp_path):
    """Many threads that end their calls together tear no line and lose none."""
    threads, each = 20, 1000
    ledger = ledger_in(tmp_path)
    go = threading.Barrier(threads)

    def work(name: int) -> None:
        go.wait(30)
        for number in range(each):
            ledger.append({"record": f"{name}-{number}", "filler": "x" * (number % 700)})

    workers = [threading.Thread(target=work, args=(name,)) for name in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    written = [record["record"] for record in records_in(tmp_path)]
    assert len(written) == threads * each
    assert set(written) == {f"{name}-{number}" for name in range(threads) for number in range(each)}
    assert len(list(tmp_path.iterdir())) == 1


def python(code: str, *arguments: str) -> str:
    ran = subprocess.run(  # noqa: PLW1510
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@posix
def test_a_forked_child_writes_a_file_of_its_own(tmp_path):
    """A server that forks its workers after the first call mixes no lines of different processes."""
    python(
        """
        import os, sys
        from openai_metering.ledger import Ledger
        ledger = Ledger(sys.argv[1], {}, ("s", "1"), "u")
        ledger.append({"who": "parent"})
        if (pid := os.fork()) == 0:
            ledger.append({"who": "child"})
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        ledger.append({"who": "parent"})
        """,
        str(tmp_path),
    )
    by_file = [[json.loads(line) for line in path.read_bytes().splitlines()] for path in tmp_path.iterdir()]
    who = sorted(
        [line["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["who"] for line in lines] for lines in by_file
    )
    assert who == [["child"], ["parent", "parent"]]


# -- When the disk says no -------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    """The caller learns that the record is not on disk, and sends it another way."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        ledger_in(tmp_path / "file" / "ledger").append({})


@posix
def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    """A missing permission is told, not swallowed here."""
    out = python(
        """
        import os, sys
        from openai_metering.ledger import Ledger
        os.chmod(sys.argv[1], 0o500)
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may write everywhere
        try:
            Ledger(sys.argv[1], {}, ("s", "1"), "u").append({})
        except PermissionError:
            print("refused")
        """,
        str(tmp_path),
    )
    assert out == "refused\n"


@posix
def test_a_record_that_was_taken_is_on_disk_though_the_folder_was_removed(tmp_path):
    """A clean-up job that deletes the folder costs what was in it, never what is written after it without a word."""
    folder = tmp_path / "ledger"
    ledger = ledger_in(folder)
    ledger.append({"number": 1})
    shutil.rmtree(folder)
    try:
        ledger.append({"number": 2})
    except OSError:
        ledger.append({"number": 2})
    assert [record["number"] for record in records_in(folder)] == [2]


@posix
def test_a_torn_write_leaves_a_readable_ledger(tmp_path):
    """A full disk costs the one record that it is reported for: all others can still be read."""
    out = python(
        """
        import json, resource, sys
        from openai_metering.ledger import Ledger
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        ledger = Ledger(sys.argv[1], {}, ("s", "1"), "u")
        size = ledger.append({"number": 0})
        refused = []
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * size + size // 2, hard))
        for number in range(1, 8):
            try:
                ledger.append({"number": number})
            except OSError:
                refused.append(number)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        ledger.append({"number": 8})
        print(json.dumps(refused))
        """,
        str(tmp_path),
    )
    refused = json.loads(out)
    assert refused
    read = []
    for path in sorted(tmp_path.iterdir()):
        *whole, last = path.read_bytes().split(b"\n")
        read += [json.loads(line) for line in whole]
        assert b"\n" not in last
    numbers = [line["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["number"] for line in read]
    assert sorted(numbers) == [number for number in range(9) if number not in refused]


@posix
def test_a_disk_that_takes_nothing_is_an_os_error_each_time(tmp_path):
    """A full disk is told at every record, and the ledger goes on once there is space."""
    out = python(
        """
        import resource, sys
        from openai_metering.ledger import Ledger
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        ledger = Ledger(sys.argv[1], {}, ("s", "1"), "u")
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        for _ in range(3):
            try:
                ledger.append({})
            except OSError:
                print("refused")
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        ledger.append({})
        """,
        str(tmp_path),
    )
    assert out.split() == ["refused"] * 3
    assert len(records_in(tmp_path)) == 1


# -- One file after the other ----------------------------------------------------------------------------------------


def kept_in(folder: Path, **rules: Any) -> Ledger:
    return Ledger(str(folder), {"service.name": "shop"}, ("openai_metering", "1.2.3"), SCHEMA, Rules(**rules))


def numbers_in(folder: Path) -> list[int]:
    return [record["number"] for record in records_in(folder)]


def test_a_full_file_is_followed_by_a_new_one(tmp_path):
    """No file is larger than its limit by more than a line; in the order of the names, the lines are in theirs."""
    ledger = kept_in(tmp_path, rotate_bytes=1000)
    for number in range(40):
        ledger.append({"number": number})
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert len(sizes) > 5
    assert max(sizes) < 1500
    assert numbers_in(tmp_path) == list(range(40))


def test_an_old_file_is_followed_by_a_new_one(tmp_path):
    """A file is closed after its time, whatever its size."""
    ledger = kept_in(tmp_path, rotate_seconds=0.05)
    ledger.append({"number": 0})
    wait_for(lambda: ledger.append({"number": 1}) and len(list(tmp_path.iterdir())) > 1, "the second file")


def test_names_sort_when_the_clock_is_set_back(tmp_path, monkeypatch):
    """The order of the files of a process is that of its lines, whatever the clock does."""
    ledger = kept_in(tmp_path, rotate_bytes=1)
    for number, now in enumerate((1_785_000_000, 1_785_000_000, 1_784_000_000, 1_785_000_001, 3)):
        monkeypatch.setattr("openai_metering.ledger.files.time.gmtime", lambda now=now: datetime_of(now).timetuple())
        ledger.append({"number": number})
    assert numbers_in(tmp_path) == list(range(5))
    assert len(list(tmp_path.iterdir())) == 5


def datetime_of(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


@posix
def test_a_reader_can_tell_whether_the_process_lives(tmp_path):
    """A file is closed when its process let it go, or ended, however it ended; a later file speaks for all of them."""
    code = """if True:
        import sys
        from openai_metering.ledger import Ledger, Rules
        ledger = Ledger(sys.argv[1], {}, ("s", "1"), "u", Rules(rotate_bytes=1))
        for _ in range(3):
            ledger.append({})
        print(flush=True)
        sys.stdin.read()
    """
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        writer.stdout.readline()
        assert [is_written(path) for path in sorted(tmp_path.iterdir())] == [False, False, True]
        assert living_processes(tmp_path) == {process_of(path) for path in tmp_path.iterdir()}
    finally:
        writer.kill()
        writer.communicate()
    assert living_processes(tmp_path) == set()


@posix
def test_a_child_does_not_keep_its_parents_file_open(tmp_path):
    """The file of a process that ended is closed, though children that it forked or started live on."""
    out = python(
        """
        import os, subprocess, sys
        from pathlib import Path
        from openai_metering.ledger import Ledger
        from openai_metering.ledger.files import living_processes
        ledger = Ledger(sys.argv[1], {}, ("s", "1"), "u")
        ledger.append({})
        (path,) = Path(sys.argv[1]).iterdir()
        read, write = os.pipe()
        there, here = os.pipe()
        if (child := os.fork()) == 0:
            os.close(write)
            os.write(here, b"x")
            os.read(read, 1)
            os._exit(0)
        os.read(there, 1)
        started = subprocess.Popen(["sleep", "60"])
        print(len(living_processes(path.parent)))
        ledger.close()
        print(len(living_processes(path.parent)))
        started.kill(); started.wait()
        os.write(write, b"x"); os.waitpid(child, 0)
        """,
        str(tmp_path),
    )
    assert out.split() == ["1", "0"]


def test_nothing_is_deleted_without_a_limit(tmp_path):
    """Retention is the user's."""
    ledger = kept_in(tmp_path, rotate_bytes=1)
    for number in range(50):
        ledger.append({"number": number})
    assert numbers_in(tmp_path) == list(range(50))


def sizes(folder):
    """The sizes of the files of a ledger, while some of them are being deleted."""
    for path in folder.glob("usage-*"):
        with suppress(FileNotFoundError):
            yield path.stat().st_size


def test_a_limit_deletes_the_oldest_and_says_so(tmp_path, caplog):
    """Over its limit, a ledger loses its oldest closed files and nothing else; it is told once, and counted."""
    other = tmp_path / "other.jsonl"
    other.write_text("x" * 5000)
    told: list[tuple[str, int]] = []
    ledger = Ledger(
        str(tmp_path),
        {},
        ("s", "1"),
        "u",
        Rules(rotate_bytes=1000, max_bytes=4000),
        lambda event, amount: told.append((event, amount)),
    )
    for number in range(100):
        ledger.append({"number": number})
        wait_for(lambda: sum(sizes(tmp_path)) < 6000, "the deletion")
    other.unlink()
    kept = numbers_in(tmp_path)
    assert 5 < len(kept) < 60
    assert kept == list(range(100))[-len(kept) :]
    assert sum(amount for event, amount in told if event == "deleted") > 0
    assert len([record for record in caplog.records if "larger than its limit" in record.getMessage()]) == 1


@pytest.mark.parametrize("fsync", ["interval", "always"])
def test_lines_that_the_disk_confirmed_are_the_same(tmp_path, fsync):
    """With each guarantee the lines are the same, and at the end nothing waits for the disk."""
    ledger = kept_in(tmp_path, fsync=fsync, rotate_bytes=1000)
    for number in range(20):
        ledger.append({"number": number})
    wait_for(lambda: not ledger._syncing._files, "the disk's confirmation")
    assert numbers_in(tmp_path) == list(range(20))


# -- When the disk is slow -------------------------------------------------------------------------------------------


class Disk:
    """A disk that takes lines only while it is let."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.free = threading.Event()
        self.broken = False

    def write(self, line: bytes) -> None:
        self.free.wait(30)
        if self.broken:
            raise OSError(5, "broken")
        self.taken.append(line)


def test_a_slow_disk_keeps_nobody_waiting():
    """Lines are taken without the disk, written in their order, and directly again once the disk is fast."""
    disk, told = Disk(), []
    handover = Handover(disk.write, lambda *event: told.append(event))
    handover.begin()
    assert all(handover.take(b"%d" % number) for number in range(100))
    assert disk.taken == []
    disk.free.set()
    wait_for(lambda: not handover.active, "the disk to be found fast")
    assert disk.taken == [b"%d" % number for number in range(100)]
    assert not handover.take(b"direct")
    assert told == [("slow", 1)]


def test_what_waits_for_a_slow_disk_is_bounded():
    """Too much is an error at once, so that the record goes another way; what was taken is written all the same."""
    disk = Disk()
    handover = Handover(disk.write, lambda *_: None)
    handover.begin()
    line = b"x" * (1024 * 1024)
    most = MAX_WAITING_BYTES // len(line)
    assert all(handover.take(line) for _ in range(most))
    with pytest.raises(OSError, match="slow"):
        handover.take(line)
    disk.free.set()
    wait_for(lambda: len(disk.taken) == most, "the lines that waited")


def test_a_disk_that_fails_meanwhile_loses_no_line():
    """A line that was taken is tried again until the disk takes it."""
    disk = Disk()
    disk.broken = True
    disk.free.set()
    handover = Handover(disk.write, lambda *_: None)
    handover.begin()
    assert handover.take(b"line")
    wait_for(lambda: errors.counts["ledger_handover"], "the first failure")
    disk.broken = False
    wait_for(lambda: disk.taken == [b"line"], "the line")


def test_the_end_of_a_process_waits_for_a_slow_disk_only_so_long():
    """What the disk has not taken by then is counted as lost."""
    disk, told = Disk(), []
    handover = Handover(disk.write, lambda *event: told.append(event))
    handover.begin()
    for _ in range(3):
        handover.take(b"line")
    handover.flush()
    assert told[-1] == ("lost", 3)
    disk.free.set()


def test_one_slow_append_waits_for_the_next_line():
    """An append that was slow for another reason than the disk costs no guarantee: the next line is on disk, too."""
    disk = Disk()
    disk.free.set()
    handover = Handover(disk.write, lambda *_: None)
    handover.begin()
    assert handover.take(b"line")
    assert disk.taken == [b"line"]


def test_what_slow_is():
    """More than 50 ms are the disk's, unless other threads took as long; less is never slow."""
    assert not is_disk_slow(0.05)
    assert is_disk_slow(30.0)
