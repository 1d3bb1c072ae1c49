"""``openai-metering collector``: a ready Collector configuration for a stated need."""

from __future__ import annotations

import argparse
import base64
import csv
import errno
import hashlib
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli import tenants
from openai_metering.cli.failure import Failure
from openai_metering.local.discovery import (
    NO_COLLECTOR,
    VARIABLE as CHOSEN,
    CollectorError,
    Refusal,
    candidates,
    config_path,
    is_collector,
    last_lines,
)
from openai_metering.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROLES: Final = ("local", "agent", "gateway")
DEFAULT_FOLDER: Final = "openai-metering-collector"
TENANTS: Final = "tenants.yaml"
VARIABLES: Final = "collector.env"
START: Final = "start.sh"
PASSWORDS: Final = "passwords.csv"
SAMPLES: Final = {
    "principals.csv": "sample rows. Replace them by your own senders and the organizations they speak for.",
    "lookup.csv": "a sample row. Replace it by your own credentials (openai-metering directory compile writes the table).",
}
"""The tables of a new gateway, and what is said of them."""
_LISTENS: Final = ("OTLP_GRPC_ENDPOINT", "OTLP_HTTP_ENDPOINT", "HEALTH_ENDPOINT", "PROMETHEUS_ENDPOINT")
_TELEMETRY: Final = ("TELEMETRY_HOST", "TELEMETRY_PORT")
_VARIABLE: Final = re.compile(r"\$\{env:([A-Z_][A-Z0-9_]*)(?::-([^}]*))?\}")

_EXAMPLES: Final = """\
Examples:
  openai-metering collector local --run
  openai-metering collector gateway --tenants tenants.csv --backend victoriametrics --output gateway
  openai-metering collector agent --kafka broker-1:9092,broker-2:9092 --output agent
  openai-metering collector --list

ROLE is local (one process on a laptop), agent (beside an application) or gateway (the shared tier).
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``collector`` and its options to the command line."""
    parser = subparsers.add_parser(
        "collector",
        help="write a ready Collector configuration, check it with the binary, run it",
        description=(
            "Write what an OpenTelemetry Collector needs for one role into a folder: its configuration files, the variables "
            "they know, a script that starts it. Tables, passwords and variables that are there already are kept."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("role", metavar="ROLE", nargs="?", choices=ROLES, help="local, agent or gateway")
    parser.add_argument(
        "--backend",
        metavar="NAME",
        action="append",
        default=[],
        help="a backend or dialect the gateway also feeds; may be repeated; --list names them",
    )
    parser.add_argument(
        "--tenants",
        metavar="FILE",
        type=Path,
        help=f"routing by organization: a CSV file of {', '.join(tenants.COLUMNS)}",
    )
    parser.add_argument(
        "--kafka", metavar="BROKERS", help="records through Apache Kafka: host:port, several with commas"
    )
    parser.add_argument("--tls", action="store_true", help="the gateway speaks TLS only (certificate: see tls.yaml)")
    parser.add_argument("--mtls", action="store_true", help="and only to senders with a certificate")
    parser.add_argument("--oidc", action="store_true", help="senders are told apart by OIDC tokens, not passwords")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, default=Path(DEFAULT_FOLDER), help="the folder (default: %(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="name the backends, with what each one promises")
    parser.add_argument("--run", action="store_true", help="start the Collector once the configuration is valid")
    parser.add_argument("--no-validate", action="store_true", help="write only; no Collector is needed for that")


def run(args: argparse.Namespace) -> int:
    """Write, validate and, where asked, run."""
    if args.list:
        for name, path in backends().items():
            print(f"{name:<18} {_promise(path)}")
        return 0
    files = _chosen(args)
    folder: Path = args.output
    try:
        _write(folder, files, args)
    except OSError as error:
        raise Failure(f"{folder} cannot be written: {error}. Choose another folder with --output.") from error
    names = [*files, *([TENANTS] if args.tenants else [])]
    command = f"sh {shlex.quote(str(folder / START))}"
    if args.no_validate:
        print(f"{folder}: {', '.join(names)} written, not validated. Start: {command}")
        return 0
    binary = _binary(folder, names)
    print(f"{folder}: {', '.join(names)} written, valid for {binary}.")
    print(f"Variables: {folder / VARIABLES}. Start: OTELCOL={shlex.quote(str(binary))} {command}", flush=True)
    if args.run:
        _ports_are_free(folder, names)
        os.chdir(folder)
        arguments = [str(binary), *_options(names)]
        os.execve(binary, arguments, {**_variables(Path(VARIABLES)), **os.environ})  # noqa: S606 - the user's own binary
    return 0


def backends() -> dict[str, Path]:
    """Find what a gateway can also feed.

    Returns:
        The merge fragments of ``backends/`` and ``dialects/``, by name.
    """
    root = config_path("gateway.yaml").parent
    return {path.stem: path for folder in ("dialects", "backends") for path in sorted((root / folder).glob("*.yaml"))}


def _promise(path: Path) -> str:
    """The first of the five lines that every file begins with, and what belongs to it."""
    head = path.read_text(encoding="utf-8").split("# Needs:", maxsplit=1)[0]
    return re.sub(r"\s*\n#\s*", " ", head.removeprefix("# Promise:")).strip()


def _chosen(args: argparse.Namespace) -> list[str]:
    """The files of the configuration folder that the need asks for, in the order in which they are merged."""
    if args.role is None:
        raise Failure(
            f"say what the Collector is for: {', '.join(ROLES)}. `openai-metering collector --help` shows examples."
        )
    known = backends()
    unknown = [name for name in args.backend if name not in known]
    if unknown:
        raise Failure(f"there is no backend {', '.join(unknown)}. There are: {', '.join(known)}.")
    of_gateway = [name for name in ("backend", "tenants", "tls", "mtls", "oidc") if getattr(args, name)]
    if of_gateway and args.role != "gateway":
        raise Failure(f"--{of_gateway[0]} is for the role gateway: the {args.role} has one destination only.")
    if args.kafka and args.role == "local":
        raise Failure("--kafka is for the roles agent and gateway.")
    extra = {"tls.yaml": args.tls or args.mtls, "mtls.yaml": args.mtls, "oidc.yaml": args.oidc}
    files = [f"{args.role}.yaml", *(name for name, wanted in extra.items() if wanted)]
    if args.kafka:
        files.append(f"kafka-{args.role}.yaml")
    return [*files, *(f"{known[name].parent.name}/{name}.yaml" for name in dict.fromkeys(args.backend))]


# -- Writing -----------------------------------------------------------------------------------------------------------


def _write(folder: Path, files: Sequence[str], args: argparse.Namespace) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    texts = {name: config_path(name).read_text(encoding="utf-8") for name in files}
    if args.tenants:
        texts[TENANTS] = tenants.configuration(tenants.read(args.tenants))
    for name, text in texts.items():
        (folder / name).parent.mkdir(mode=0o700, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    if args.role == "gateway":
        for name in SAMPLES:
            if not (folder / name).exists():
                (folder / name).write_text(config_path(name).read_text(encoding="utf-8"), encoding="utf-8")
                print(f"{folder / name}: {SAMPLES[name]}", file=sys.stderr)
        if not args.oidc and not (folder / "htpasswd").exists():
            _passwords(folder)
    given = {"OPENAI_METERING_KAFKA_BROKERS": args.kafka} if args.kafka else {}
    (folder / VARIABLES).write_text(_environment(folder, texts, given), encoding="utf-8")
    options = " ".join(shlex.quote(option) for option in _options(texts))
    (folder / START).write_text(
        "#!/bin/sh\n# Starts the Collector of this folder; variables that are set win over those of collector.env.\n"
        'cd "$(dirname "$0")" || exit 1\n'
        "while IFS='=' read -r name value; do\n"
        "  case \"$name\" in '' | \\#*) continue ;; esac\n"
        '  eval "[ -n \\"\\${$name+set}\\" ]" || export "$name=$value"\n'
        f"done < {VARIABLES}\n"
        f'exec "${{OTELCOL:-otelcol-metering}}" {options}\n',
        encoding="utf-8",
    )


def _options(names: Sequence[str] | Mapping[str, str]) -> list[str]:
    return [option for name in names for option in ("--config", name)]


def _passwords(folder: Path) -> None:
    """A password for each sender of the table. 192 random bits need no slow hash."""
    with (folder / "principals.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["principal"].startswith("#")]
    senders = [row["principal"] for row in rows if row.get("organizations") != "*"]
    made = {sender: secrets.token_urlsafe(24) for sender in senders}
    for name, lines in {
        "htpasswd": [
            f"{sender}:{{SHA}}{base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()}"
            for sender, text in made.items()
        ],
        PASSWORDS: [f"{sender},{text}" for sender, text in made.items()],
    }.items():
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write("".join(f"{line}\n" for line in lines))
    print(f"{folder / PASSWORDS}: one password for each sender. Hand them out, then delete the file.", file=sys.stderr)


def _environment(folder: Path, texts: Mapping[str, str], given: Mapping[str, str]) -> str:
    """Every variable that the files know with its default, commented out; what was set before stays set."""
    values = {**_variables(folder / VARIABLES), **given}
    lines = ["# What the configuration takes from the environment. Take away the # to set a value.", ""]
    seen: set[str] = set()
    for name, text in texts.items():
        found = {variable: fallback for variable, fallback in _VARIABLE.findall(text) if variable not in seen}
        seen |= found.keys()
        if found:
            lines.append(f"# {name}")
            for variable, fallback in found.items():
                lines.append(f"{variable}={values[variable]}" if variable in values else f"#{variable}={fallback}")
            lines.append("")
    return "\n".join(lines)


def _variables(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


# -- Running ------------------------------------------------------------------------------------------------------------


def _ports_are_free(folder: Path, names: Sequence[str]) -> None:
    """Look at every address that the configuration listens on, before the Collector fails there.

    Raises:
        Failure: one is in use.
    """
    texts = [(folder / name).read_text(encoding="utf-8") for name in names]
    given = {**_variables(folder / VARIABLES), **os.environ}
    values = {variable: given.get(variable, default) for text in texts for variable, default in _VARIABLE.findall(text)}
    listened = [(one, values[one]) for one in (f"{PREFIX}{name}" for name in _LISTENS) if values.get(one)]
    host, port = (values.get(f"{PREFIX}{name}") for name in _TELEMETRY)
    if host and port:
        listened.append((f"{PREFIX}{_TELEMETRY[1]}", f"{host}:{port}"))
    taken = [f"{address} ({variable})" for variable, address in listened if _is_taken(address)]
    if taken:
        raise Failure(
            f"in use by another process: {', '.join(taken)}. Stop that one, or set these variables to other addresses, in "
            f"{folder / VARIABLES} or in the environment, and run again."
        )


def _is_taken(address: str) -> bool:
    """Whether somebody listens on an address; what is no address of this machine is left to the Collector."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was left a moment ago is free
            probe.bind(place)
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


# -- Validating --------------------------------------------------------------------------------------------------------


def _binary(folder: Path, names: Sequence[str]) -> Path:
    """The first Collector of this machine that accepts the configuration."""
    environment = {**_variables(folder / VARIABLES), **os.environ}
    refused = []
    try:
        found = list(candidates(environment))
    except CollectorError as error:
        raise Failure(str(error)) from error
    for one in found:
        if isinstance(one, Refusal):
            if one.candidate == CHOSEN:
                raise Failure(
                    f"{one}. Set {CHOSEN} to a Collector, or unset it to have one looked for. {folder} is written."
                )
            refused.append(str(one))
            continue
        if not is_collector(one.binary, environment):
            refused.append(f"{one.source} ({one.binary}) refuses it: {NO_COLLECTOR}")
            continue
        answer = subprocess.run(  # noqa: S603 - the binary the user chose
            [str(one.binary.absolute()), "validate", *_options(names)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if answer.returncode == 0:
            for reason in refused if environment.get(CHOSEN) else ():
                print(f"Passed over: {reason}", file=sys.stderr)
            return one.binary.absolute()
        refused.append(f"{one.source} ({one.binary}) refuses it: {last_lines(answer.stderr or answer.stdout)}")
    reasons = "".join(f"\n  {reason}" for reason in refused)
    raise Failure(
        f"{folder} is written, but no Collector on this machine accepts it:{reasons}\n"
        f"Build ours (once, about 4 minutes): {sys.executable} {config_path('distribution/build.py')}\n"
        "or set OTELCOL to one, or only write with --no-validate."
    )
