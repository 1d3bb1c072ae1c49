"""The folder: nothing half written, nothing lost between writers, nothing written that is not in order."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from folders import write

from openai_metering.directory import edits, store
from openai_metering.directory.tables import DirectoryError

WRITER = """
import sys
import threading
from pathlib import Path
from openai_metering.cli import main
folder, number = sys.argv[1:]
for item in range(8):
    assert main(["directory", "add", "credential", f"key-{number}-{item}", "subscriber=joe", "--directory", folder]) == 0
assert main(["directory", "set", "subscriber", "joe", f"meta.writer{number}=yes", "--rewrite", "--directory", folder]) == 0
"""
DEADLINE = 120.0


def test_concurrent_changes_are_all_kept(tmp_path):
    """Several processes change one directory at once; every change is there, and readers always saw it in order."""
    folder = write(tmp_path / "d", subscribers=["joe,,,,,"])
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(number)], stdout=subprocess.DEVNULL)
        for number in range(3)
    ]
    readings = 0
    while any(writer.poll() is None for writer in writers):
        store.load(folder)
        readings += 1
    assert [writer.wait(DEADLINE) for writer in writers] == [0, 0, 0]
    assert readings > 0
    made = store.load(folder)
    assert {entry.id for entry in made["credential"].entries()} == {f"key-{n}-{i}" for n in range(3) for i in range(8)}
    (joe,) = made["subscriber"].entries()
    assert [joe.get(f"meta.writer{number}") for number in range(3)] == ["yes"] * 3
    assert list(folder.glob(".*.new")) == []


def test_what_is_not_in_order_is_not_written(tmp_path):
    """A change that would break a rule leaves every file as it was."""
    folder = write(tmp_path / "d", ["acme,,,,,"])
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}

    def change():
        with store.editing(folder) as made:
            made["organization"] = edits.add(made, "organization", {"id": "new"})
            made["subscriber"] = edits.add(made, "subscriber", {"id": "joe", "organization": "none"})

    with pytest.raises(DirectoryError, match="nothing was changed"):
        change()
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == before


def test_a_directory_that_is_not_in_order_is_not_changed(tmp_path):
    """What somebody broke by hand is put right first."""
    folder = write(tmp_path / "d", ["acme,,,none,,"])
    with pytest.raises(DirectoryError, match="is not in order"), store.editing(folder):
        pass


def test_a_dry_run_writes_nothing(tmp_path):
    """It is checked as the change itself would be."""
    folder = write(tmp_path / "d")
    before = (folder / "organizations.csv").stat()
    with store.editing(folder, dry_run=True) as made:
        made["organization"] = edits.add(made, "organization", {"id": "acme"})
    after = (folder / "organizations.csv").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_init_keeps_what_is_there(tmp_path):
    """A second time it makes what is missing and touches nothing else."""
    folder = write(tmp_path / "d", ["acme,,,,,"])
    (folder / "credentials.csv").unlink()
    assert store.init(folder) == ["credentials.csv"]
    assert [entry.id for entry in store.load(folder)["organization"].entries()] == ["acme"]


def test_a_replaced_file_keeps_its_mode_and_its_link(tmp_path):
    """The Collector may run as somebody else, and read through a link."""
    target = tmp_path / "real.csv"
    target.write_text("old")
    target.chmod(0o640)
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    store.write(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.csv", "real.csv"]


def test_what_cannot_be_read_says_what_to_do(tmp_path):
    """A missing folder, a missing file and one of another encoding."""
    with pytest.raises(DirectoryError, match="directory init"):
        store.load(tmp_path / "none")
    folder = write(tmp_path / "d")
    (folder / "subscribers.csv").unlink()
    with pytest.raises(DirectoryError, match=r"subscribers\.csv does not exist"):
        store.load(folder)
    store.init(folder)
    (folder / "subscribers.csv").write_bytes(b"id\njoe\nj\xf6rg\n")
    with pytest.raises(DirectoryError, match=r"subscribers\.csv:3:2: is not UTF-8"):
        store.load(folder)


def test_files_that_were_replaced_while_they_were_read_are_read_again(tmp_path):
    """A change of several files is seen as a whole: here the reader is held within the first file until all are new."""
    folder = write(tmp_path / "d")
    new = write(tmp_path / "new", ["acme,,,,,"], ["joe,,acme,,,"])
    first = folder / "organizations.csv"
    old = first.read_bytes()
    first.unlink()
    os.mkfifo(first)

    def change():
        with first.open("wb") as pipe:  # waits for the reader
            for name in ("subscribers.csv", "organizations.csv"):
                (new / name).replace(folder / name)
            pipe.write(old)

    writer = threading.Thread(target=change)
    writer.start()
    made = store.load(folder)
    writer.join(DEADLINE)
    assert [entry.get("organization") for entry in made["subscriber"].entries()] == ["acme"]
