"""How the code is built: rooms that import one way, files that can be read, names that are documented."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import openai_metering
from openai_metering.settings import OPTIONS

SOURCE = Path(openai_metering.__file__).parent
FILES = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in sorted(SOURCE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
CORE = [name for name in FILES if not name.startswith(("cli.", "command", "local."))]

# Rooms, the innermost first: a room imports from those before it, and from itself. `cli`, `command`, which enters it, and
# `local` are programs of their own around the package.
ROOMS = (
    ("errors", "masking", "usage", "version", "settings", "spellings"),
    ("shapes", "readers", "job_readers", "jobs", "reading"),
    ("resolution", "operations", "free", "finished", "ledger"),
    ("realtime", "keys"),
    ("scope", "resolver"),
    ("threads",),
    ("signals",),
    ("pricing",),
    ("deferred", "call", "sights"),
    ("seams",),
    ("installation",),
    ("instrumentor",),
    ("__init__",),
    ("integrations", "coverage", "directory", "exporter"),
)
RANK = {name: rank for rank, room in enumerate(ROOMS) for name in room}
VALUES = {
    "resolution": {"errors", "reading", "spellings"},
    "reading": {"errors", "masking", "spellings"},
    "keys": {"resolution"},
    "resolver": {"errors", "resolution"},
    "spellings": set(),
    "scope": {"errors", "resolution"},
    "threads": {"scope"},
    "operations": {"job_readers", "jobs", "readers"},
    "free": {"operations"},
    "jobs": {"job_readers", "readers", "usage"},
    "job_readers": {"readers", "shapes", "usage"},
    "readers": {"shapes", "usage"},
    "shapes": {"usage"},
    "usage": {"masking"},
    "realtime": {"operations", "usage"},
    "masking": set(),
    "settings": {"masking"},
    "finished": set(),
}


def at_run_time(tree: ast.AST):
    """All nodes of a module that run, so without what is imported for the type checker."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        children = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            children = list(node.orelse)
        todo += children


def imports_of(name: str) -> set[str]:
    """The modules that a file imports, by their full names."""
    found: set[str] = set()
    for node in at_run_time(TREES[name]):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def own_imports(name: str) -> set[str]:
    """The rooms of ours that a file imports from."""
    prefix = "openai_metering."
    found = {module.removeprefix(prefix).split(".")[0] for module in imports_of(name) if module.startswith(prefix)}
    return {room for room in found if any(file.split(".")[0] == room for file in FILES)}


def foreign_imports(name: str) -> set[str]:
    return {module.split(".")[0] for module in imports_of(name)} - {"openai_metering"}


@pytest.mark.parametrize("name", CORE)
def test_imports_point_one_way(name):
    """Data moves forward through the rooms and never back; a new file is given its place here first."""
    room = name.split(".")[0]
    assert room in RANK, f"{name} has no place in the house"
    for other in own_imports(name):
        assert other == room or RANK[other] < RANK[room] or room in ROOMS[RANK[other]], f"{name} imports {other}"


@pytest.mark.parametrize("name", VALUES)
def test_values_and_tables_know_nothing_of_the_rest(name):
    """Who, what and how much can be read, tested and reused without anything else of ours."""
    assert own_imports(name) <= VALUES[name]


def test_the_directory_is_of_the_command_line_alone():
    """A metered process never loads it, and it knows nothing of ours but what a key looks like."""
    inside = [name for name in FILES if name.startswith("directory.")]
    assert {room for name in inside for room in own_imports(name)} == {"directory", "masking"}
    assert not [name for name in CORE if name not in inside and "directory" in own_imports(name)]


@pytest.mark.parametrize("name", CORE)
def test_only_the_seams_know_the_sdk(name):
    """A new SDK version is a matter of one folder."""
    assert "openai" not in foreign_imports(name) or name.startswith("seams.")


@pytest.mark.parametrize(
    "name", [name for name in CORE if name.split(".")[0] not in ("integrations", "__init__", "exporter")]
)
def test_opentelemetry_is_known_at_the_edges_only(name):
    """Only the signals, the instrumentor and the seam that makes a span current know OpenTelemetry, and only its API."""
    imported = {module for module in imports_of(name) if module.startswith("opentelemetry")}
    assert not imported or name.startswith(("signals.", "instrumentor", "seams."))
    assert not any(module.startswith(("opentelemetry.sdk", "opentelemetry.exporter")) for module in imported)


def test_importing_us_imports_no_heavy_package():
    """The launcher loads us into every process: the SDK, OpenTelemetry's SDK and the commands' packages are not loaded."""
    heavy = ["openai", "opentelemetry.sdk", "rich", "filelock", "rapidfuzz", "aiohttp", "pydantic", "httpx", "httpx2"]
    code = f"import sys, openai_metering; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("name", FILES)
def test_a_file_can_be_read_in_one_go(name):
    """About four hundred lines is where a file asks to be two."""
    assert len(FILES[name].read_text("utf-8").splitlines()) < 430


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_in_one_sentence_what_it_is(name):
    """The first line of each file is one sentence, and a second paragraph gives the reason where there is one."""
    summary = (ast.get_docstring(TREES[name]) or "").split("\n\n")[0]
    assert summary.endswith(".")
    assert "\n" not in summary
    assert ". " not in summary


def public_callables(name: str):
    for node in TREES[name].body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)) and not inner.name.startswith("_"):
                        yield f"{node.name}.{inner.name}", inner


@pytest.mark.parametrize("name", FILES)
def test_every_public_callable_is_documented(name):
    """Whatever has no underscore says what it does."""
    assert [spelt for spelt, node in public_callables(name) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("name", [name for name in CORE if name != "settings"])
def test_the_environment_is_read_in_one_place(name):
    """Every variable is a row of the options, or one of OpenTelemetry's own that `settings.py` reads."""
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(TREES[name])
        if isinstance(node, (ast.Attribute, ast.Name))
    }
    # `environ` is also what WSGI calls a request; the process's own is reached through `os` alone.
    assert "os" not in foreign_imports(name) or not names & {"environ", "environb", "getenv", "getenvb"}


@pytest.mark.parametrize("name", FILES)
def test_every_variable_that_is_named_is_an_option(name):
    """No message and no docstring names a variable that does not exist."""
    known = {option.variable for option in OPTIONS}
    named = set(re.findall(r"\bOPENAI_METERING_[A-Z_]*[A-Z]\b", FILES[name].read_text("utf-8")))
    if name.startswith(("cli.", "local.")):
        named = {variable for variable in named if variable in known or not name}
    assert named <= known


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_is_documented(option):
    """Each option has its variable, what is allowed and one or more whole sentences."""
    assert option.variable == f"OPENAI_METERING_{option.name.upper()}"
    assert option.allowed
    assert option.doc.endswith(".")
