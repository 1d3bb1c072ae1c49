"""The directory command: from nothing and a CRM's export to a bill by names, and every refusal says what to do."""

from __future__ import annotations

import csv
import json

import pytest
from usage_lines import NOBODY, line, record

from openai_metering.cli import main
from openai_metering.cli.directory import COMMANDS
from openai_metering.directory.periods import moment
from openai_metering.keys import KeyMap, fingerprint, read_map
from openai_metering.resolution import Attribution

KEY = "sk-proj-Zq3vR8mW1xT5yB7nK2dL9p"
HEADER = "credential,subscriber,organization\n"
CRM = """\
Account ID;Account;Region;Owner
acme;AcmeSoft;EU;"Ann
Smith"
nord;Nordbank;;
"""


@pytest.fixture
def directory(tmp_path, capsys, monkeypatch):
    """Run one command in an empty folder; give what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*args, status=0):
        assert main(["directory", *map(str, args)]) == status
        captured = capsys.readouterr()
        return captured.err if status == 2 else captured.out

    run("init")
    return run


@pytest.fixture
def company(directory):
    directory("add", "organization", "acme", "name=AcmeSoft")
    directory("add", "organization", "nord", "name=Nordbank")
    directory("add", "subscriber", "joe@acme.com", "organization=acme", "name=Joe")
    directory("add", "credential", "key1", "subscriber=joe@acme.com")
    return directory


def ledger(tmp_path, *records):
    folder = tmp_path / "ledger"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(f"{line(one)}\n" for one in records), encoding="utf-8")
    return folder


def report(capsys, *args):
    assert main(["report", *map(str, args)]) == 0
    return capsys.readouterr()


# -- Keeping it ------------------------------------------------------------------------------------------------------


def test_every_command_explains_itself(directory):
    """Each has a help text with all its options, and the columns where rows are written."""
    for command in COMMANDS:
        text = directory(command, "--help")
        assert "--directory DIR" in text
        assert ("Columns of credentials.csv:" in text) == (command in ("add", "set", "import"))


def test_a_life(company):
    """Added, moved, shown with what was, listed as it was, ended, and in order all the while."""
    company("set", "subscriber", "JOE@acme.com ", "organization=nord", "--from", "2026-07-16")
    shown = company("show", "subscriber", "joe@acme.com")
    assert shown.splitlines()[:7] == [
        "subscriber joe@acme.com",
        "  always to 2026-07-16:",
        "    name:           Joe",
        "    organization:   acme",
        "  2026-07-16 to now on:",
        "    name:           Joe",
        "    organization:   nord",
    ]
    assert "key1" in shown
    assert "  joe@acme.com  Joe   acme" in company("list", "subscribers", "--at", "2026-07-15")
    assert "  joe@acme.com  Joe   nord" in company("list", "subscribers", "--at", "2026-07-16")
    assert "joe@acme.com" in company("show", "organization", "nord")
    company("remove", "credential", "key1", "--from", "2026-08-01")
    assert "key1" in company("list", "credential", "--at", "2026-07-31")
    assert "key1" not in company("list", "credential", "--at", "2026-08-01")
    assert company("check") == ("In order: 2 in organizations.csv, 1 in subscribers.csv, 1 in credentials.csv.\n")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("add", "customer", "x"), "'customer' is not a kind: there are organization, subscriber, credential."),
        (("add", "subscriber", "ann", "organisation=acme"), "Did you mean 'organization'?"),
        (("add", "subscriber", "ann", "acme"), "'acme' is not COLUMN=VALUE."),
        (("add", "subscriber", "ann", "organization=acm"), "Did you mean 'acme'?"),
        (("add", "subscriber", "JOE@acme.com "), "'JOE@acme.com' differs from 'joe@acme.com'"),
        (("add", "subscriber", "joe@acme.com", "organization=nord"), "is in two organizations at the same time"),
        (("set", "organization", "acme", "id=acme2"), "Add the new one, and remove the old one."),
        (("set", "organization", "acme", "parent=acme"), "goes round in a circle"),
        (("set", "organization", "acme", "name=x", "--from", "soon"), "'soon' is not a date such as"),
        (("remove", "subscriber", "joe@acme.com"), "subscriber 'joe@acme.com' is not valid"),
        (("remove", "organization", "other"), "there is no organization 'other'."),
        (("list", "--directory", "elsewhere"), "directory init --directory elsewhere"),
        (("export", "organizations", "--map", "colour=Colour"), "there is no column 'colour'"),
        (("unknown", "nowhere"), "nowhere does not exist"),
        (("compile", "--output", "none/lookup.csv"), "none/lookup.csv cannot be written"),
    ],
)
def test_what_is_refused_says_what_to_do(company, tmp_path, args, expected):
    """And nothing was changed."""
    before = {path.name: path.read_bytes() for path in (tmp_path / "directory").glob("*.csv")}
    assert expected in company(*args, status=2)
    assert {path.name: path.read_bytes() for path in (tmp_path / "directory").glob("*.csv")} == before


@pytest.mark.parametrize(
    "args",
    [
        ("add", "credential", KEY),
        ("add", "credential", "k", f"meta.note={KEY}"),
        ("add", "credential", "k", f"{KEY}=x"),
        ("add", "credential", "k", KEY),
        ("add", KEY, "k"),
        ("set", "credential", KEY, "project=x"),
        ("set", "credential", "key1", f"subscriber={KEY}"),
        ("set", "credential", "key1", "project=x", "--from", KEY),
        ("show", "credential", KEY),
        ("remove", "credential", KEY),
        ("list", "credential", KEY),
        ("list", "credential", "--at", KEY),
        ("import", "credentials", "keys.csv"),
        ("import", "credentials", "keys.csv", "--map", f"alias={KEY}"),
    ],
)
def test_a_key_is_refused_and_never_repeated(company, tmp_path, capsys, args):
    """Wherever it was put, neither a message nor a file shows it."""
    (tmp_path / "keys.csv").write_text(f"alias,project\n{KEY},x\n", encoding="utf-8")
    assert main(["directory", *args]) == 2
    captured = capsys.readouterr()
    assert KEY not in captured.out + captured.err
    assert not any(KEY in path.read_text("utf-8") for path in (tmp_path / "directory").glob("*.csv"))


def test_check_names_everything(company, tmp_path):
    """Its exit status is for scripts, and each line is a place in a file."""
    file = tmp_path / "directory" / "credentials.csv"
    file.write_text(file.read_text("utf-8") + "key2,nobody,,,,,,\nKEY1,,,,,,,\n", encoding="utf-8")
    assert company("check", status=1).startswith("credentials.csv:4:1: alias: 'KEY1' differs from 'key1' (line 2)")
    file.write_text(file.read_text("utf-8").replace("KEY1", "key3"), encoding="utf-8")
    assert company("check", status=1).startswith("credentials.csv:3:6: subscriber: there is no subscriber 'nobody'")


# -- Exchange --------------------------------------------------------------------------------------------------------


def test_a_crm_goes_in_and_comes_back(directory, tmp_path):
    """A dry run says what it would do and does nothing; an export gives the rows back under their headings."""
    (tmp_path / "crm.csv").write_text(CRM, encoding="utf-8-sig")
    columns = ("--map", "id=Account ID", "--map", "name=Account", "--map", "meta.region=Region")
    args = ("import", "organizations", "crm.csv", "--delimiter", ";", *columns)
    told = directory(*args, "--dry-run")
    assert told.splitlines() == [
        "+ organization acme  name=AcmeSoft, meta.region=EU",
        "+ organization nord  name=Nordbank",
        "2 would be added, 0 would be changed, 0 as they are. Nothing was written.",
    ]
    assert "organizations.csv: 0" in directory("list")
    assert directory(*args).endswith("2 added, 0 changed, 0 as they are.\n")
    (tmp_path / "crm.csv").write_text(CRM.replace("AcmeSoft", "Acme Software"), encoding="utf-8")
    assert directory(*args, "--from", "2026-07-16").splitlines() == [
        "~ organization acme  name: AcmeSoft -> Acme Software",
        "0 added, 1 changed, 1 as they are.",
    ]
    back = directory("export", "organizations", *columns)
    assert list(csv.DictReader(back.splitlines())) == [
        {"Account ID": "acme", "Account": "Acme Software", "Region": "EU"},
        {"Account ID": "nord", "Account": "Nordbank", "Region": ""},
    ]
    assert "AcmeSoft" in directory("export", "organizations", "--at", "2026-07-15")
    directory("export", "organizations", "all.csv", "--history")
    assert (tmp_path / "all.csv").read_text("utf-8") == (tmp_path / "directory/organizations.csv").read_text("utf-8")


@pytest.mark.parametrize(
    ("content", "columns", "expected"),
    [
        ("Account,Name\na,b\n", (), "which heading of crm.csv is the id?"),
        ("Account,Name\na,b\n", ("id=Acount",), "has no heading 'Acount' for id. Did you mean 'Account'?"),
        ("Account,Name\na\n", ("id=Account",), "crm.csv:2: 1 cells, but the header has 2."),
        ('Account,Name\na,"b\n', ("id=Account",), "is not CSV"),
        ("Account,Name\n,b\n", ("id=Account",), "crm.csv:2: id is blank."),
        ("Account,Name\na,b\nA ,c\n", ("id=Account",), "'A' is there twice"),
        ("Account,Name\na,b\n", ("Account",), "--map 'Account' is not COLUMN=HEADING"),
        ("Account,Name\na,b\n", ("id=Account", "nome=Name"), "there is no column 'nome'. Did you mean 'name'?"),
        ("Account,Name\na,b\n", ("id=Account", "parent=Name"), "there is no organization 'b'"),
    ],
)
def test_an_import_that_is_not_understood_changes_nothing(directory, tmp_path, content, columns, expected):
    """The message names the file, its line or its heading."""
    (tmp_path / "crm.csv").write_text(content, encoding="utf-8")
    mapped = [word for column in columns for word in ("--map", column)]
    assert expected in directory("import", "organizations", "crm.csv", *mapped, status=2)
    assert "organizations.csv: 0" in directory("list")


# -- Records ---------------------------------------------------------------------------------------------------------


def test_unknown_ones_are_listed_with_their_use_and_added(company, tmp_path):
    """Those with most tokens first, with the closest known one; added with what their records say."""
    other = {"organization": "AcmeSofd", "subscriber": "jo@acme.com", "credential": "Key1 "}
    records = ledger(
        tmp_path,
        record("a", input=7, output=3, **other),
        record("b", organization="bright", subscriber="lee", credential="key9", input=1000, output=0),
        record("c", organization="bright", subscriber="kim", credential="key9", input=1, output=0),
        record("d", **NOBODY),
        record("e", organization="bright", subscriber=KEY, credential="[masked]"),
    )
    told = company("unknown", records)
    assert told.splitlines() == [
        "organizations: 2 unknown",
        "  'bright'  3 calls, 1,111 tokens",
        "  'AcmeSofd'  1 call, 10 tokens  closest: acme",
        "subscribers: 4 unknown",
        "  'lee'  1 call, 1,000 tokens",
        "  '[masked]'  1 call, 110 tokens",
        "  'jo@acme.com'  1 call, 10 tokens  closest: joe@acme.com",
        "  'kim'  1 call, 1 tokens",
        "credentials: 2 unknown",
        "  'key9'  2 calls, 1,001 tokens",
        "  '[masked]'  1 call, 110 tokens",
    ]
    assert "Added: 2 organizations, 3 subscribers, 1 credentials." in company("unknown", records, "--add")
    assert "kim;lee" in company("show", "credential", "key9")
    assert "organization:   bright" in company("show", "subscriber", "lee")
    assert company("check").startswith("In order: 4 in organizations.csv, 4 in subscribers.csv, 2 in credentials.csv.")


def test_who_was_not_valid_then_is_named_and_not_added(company, tmp_path):
    """A call before the first day, or after the last one, is a question for a person."""
    company("set", "credential", "key1", "valid_to=2026-07-16", "--rewrite")
    late = record("a", time=moment("2026-07-16"), organization=None, subscriber=None, credential="key1")
    told = company("unknown", ledger(tmp_path, late), "--add")
    assert "'key1'  1 call, 110 tokens  not valid at the time of these calls" in told
    assert told.endswith("Added: nothing.\n")


def test_everybody_is_known(company, tmp_path):
    """In any spelling."""
    known = record("a", organization=" ACME", subscriber="Joe@acme.com", credential="KEY1")
    assert company("unknown", ledger(tmp_path, known)) == "Everybody in these records is in the directory.\n"


def test_what_was_compiled_is_replaced(company, tmp_path):
    """Table and key map hold what is valid now, or at another moment."""
    company("set", "subscriber", "joe@acme.com", "organization=nord", "--from", "2026-07-16")
    company("set", "credential", "key1", "fingerprint=0123456789abcdef", "--from", "2026-07-16")
    told = company("compile", "--output", "table.csv", "--key-map", "map.json")
    assert told == "table.csv: 1 credential.\nmap.json: 1 fingerprint.\n"
    assert (tmp_path / "table.csv").read_text("utf-8") == HEADER + "key1,joe@acme.com,nord\n"
    assert json.loads((tmp_path / "map.json").read_text("utf-8")) == {"0123456789abcdef": "key1"}
    company("compile", "--at", "2026-07-15")
    assert (tmp_path / "directory/lookup.csv").read_text("utf-8") == HEADER + "key1,joe@acme.com,acme\n"
    assert json.loads((tmp_path / "directory/key_map.json").read_text("utf-8")) == {}
    assert company("check").startswith("In order")


# -- The bill --------------------------------------------------------------------------------------------------------


def moves(tmp_path):
    """Twenty calls through one key in July, each with tokens of its own; the record knows the credential alone."""
    nobody = {"status": "partial", "organization": None, "subscriber": None, "credential": "key1"}
    days = range(1, 31)
    return ledger(
        tmp_path,
        *(
            record(f"r{day}", time=moment(f"2026-07-{day:02}") + hour * 3600 * 10**9, input=3**day % 1000, **nobody)
            for day in days
            for hour in (day % 24,)
        ),
    )


def test_a_subscriber_who_moves_in_mid_month_is_billed_to_both(company, tmp_path, capsys):
    """To the token: what was used before the move is the old organization's, what came after is the new one's."""
    company("set", "subscriber", "joe@acme.com", "organization=nord", "--from", "2026-07-16T16:00:00Z")
    records = moves(tmp_path)
    made = json.loads(
        report(
            capsys,
            records,
            "--directory",
            "directory",
            "--by",
            "organization,subscriber,credential",
            "--format",
            "json",
        ).out
    )
    # On the 16th the call was at 16:00, the moment of the move.
    before = sum(3**day % 1000 for day in range(1, 16))
    after = sum(3**day % 1000 for day in range(16, 31))
    who = {"subscriber": "joe@acme.com", "subscriber_name": "Joe", "credential": "key1"}
    shown = [
        {
            name: value
            for name, value in row.items()
            if name in {*who, "organization", "organization_name", "calls", "input_tokens"}
        }
        for row in made["rows"]
    ]
    assert shown == [
        {"organization": "acme", "organization_name": "AcmeSoft", **who, "calls": 15, "input_tokens": before},
        {"organization": "nord", "organization_name": "Nordbank", **who, "calls": 15, "input_tokens": after},
    ]
    assert made["total"]["input_tokens"] == before + after


def test_a_bill_of_last_month_keeps_its_names_and_its_hierarchy(company, tmp_path, capsys):
    """What is renamed and moved in August leaves July's bill as it was."""
    records = moves(tmp_path)
    args = (records, "--directory", "directory", "--by", "account,organization", "--format", "csv")
    july = report(capsys, *args).out
    assert july.splitlines()[1].startswith("owned,acme,AcmeSoft,acme,AcmeSoft,30,")
    company("set", "organization", "acme", "name=Acme Global", "parent=nord", "--from", "2026-08-01")
    company("set", "subscriber", "joe@acme.com", "name=Joseph", "organization=nord", "--from", "2026-08-01")
    assert report(capsys, *args).out == july
    company("set", "organization", "acme", "parent=nord", "--from", "2026-07-01")
    assert report(capsys, *args).out.splitlines()[1].startswith("owned,nord,Nordbank,acme,AcmeSoft,30,")


def test_people_see_names(company, tmp_path, capsys):
    """In the table a name stands with its id; what has no name is the id."""
    shown = report(capsys, moves(tmp_path), "--directory", "directory").out
    assert "AcmeSoft (acme)  Joe (joe@acme.com)  key1" in shown


def test_what_a_record_says_counts(company, tmp_path, capsys):
    """Where it says otherwise than the directory, that is said, and nothing is moved."""
    records = ledger(tmp_path, record("a", organization="nord", subscriber="joe@acme.com", credential="key1"))
    made = report(capsys, records, "--directory", "directory", "--by", "organization", "--format", "csv")
    assert made.out.splitlines()[1].startswith("owned,nord,Nordbank,1,")
    assert made.err == "1 call whose record names another owner than the directory; the record counts.\n"


def test_accounts_need_a_directory(tmp_path, capsys, company):
    """Without one the column says what is missing; and a directory that is not in order is not billed by."""
    records = moves(tmp_path)
    assert main(["report", str(records), "--by", "account"]) == 2
    assert "give --directory DIR" in capsys.readouterr().err
    (tmp_path / "directory" / "subscribers.csv").write_text("id\nJoe \n", encoding="utf-8")
    assert main(["report", str(records), "--directory", "directory"]) == 2
    assert "subscribers.csv:2:1: id: has blanks" in capsys.readouterr().err


# -- The library -----------------------------------------------------------------------------------------------------


def test_the_key_map_is_one_that_the_library_reads(company, tmp_path):
    """A key whose fingerprint is in the directory is its alias in every process that is given the compiled map."""
    secret = "a secret of the user's own"
    company("set", "credential", "key1", f"fingerprint={fingerprint(KEY, secret)}", "--rewrite")
    company("compile")
    entries, wrong = read_map(str(tmp_path / "directory" / "key_map.json"))
    assert wrong == []
    assert KeyMap(entries, secret).of_key(KEY) == Attribution(subscriber_credential="key1")


def test_a_change_says_from_when_it_holds(company):
    """Whoever gives no moment learns that earlier calls, and so last month's bill, are not touched, and what would."""
    company("add", "organization", "group")
    said = company("set", "organization", "acme", "parent=group")
    assert "organization 'acme' changed: holds from 20" in said
    assert said.endswith("; for earlier calls use --from DATE (or --rewrite).\n")
    said = company("set", "organization", "nord", "parent=group", "--from", "2026-01-01")
    assert said == "organization 'nord' changed: holds from 2026-01-01.\n"
    assert company("set", "organization", "nord", "name=Nord", "--rewrite") == "organization 'nord' changed.\n"


def test_an_id_that_is_nearly_there(company):
    """A misspelt id is answered with the one that may have been meant."""
    assert "Did you mean 'joe@acme.com'?" in company("set", "subscriber", "jooe@acme.com", "name=Joe", status=2)
    assert "Did you mean" not in company("set", "subscriber", "zoe@else.example", "name=Zoe", status=2)


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("id;name\nmax;Max\n", (), "Try --delimiter ';'."),
        ("id\tname\nmax\tMax\n", ("--map", "id=Account"), "Try --delimiter $'\\t'."),
        ("Account Name,x\nmax,1\n", ("--map", "Account Name=id"), "COLUMN=HEADING: --map id='Account Name'."),
        ("id,Name\nmax,1\n", ("--map", "Name=id"), "COLUMN=HEADING: --map id=Name."),
        ("id,valid_from\nmax,July\n", (), "subscriber 'max': valid_from: 'July' is not a date"),
        ("id,valid_from,valid_to\nmax,2026-07-02,2026-07-01\n", (), "subscriber 'max': valid_to: the row ends"),
    ],
)
def test_an_import_that_is_nearly_right(directory, tmp_path, text, arguments, said):
    """What is wrong with a file, or with the way it is read, comes with what to type instead."""
    (tmp_path / "people.csv").write_text(text)
    assert said in directory("import", "subscribers", "people.csv", *arguments, status=2)
