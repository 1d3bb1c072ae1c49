"""The ``openai-metering`` command: a table of subcommands and how a command ends."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from openai_metering.cli import collector, demo, directory, doctor, fingerprint, reconcile, replay, report, verify
from openai_metering.cli.failure import Failure
from openai_metering.command import EXIT_INTERRUPTED
from openai_metering.masking import mask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM: Final = "openai-metering"

EXIT_FAILURE: Final = 2
EXIT_BROKEN_PIPE: Final = 141  # 128 + SIGPIPE


class Command(Protocol):
    """A module that is one subcommand."""

    def add_parser(self, subparsers: argparse._SubParsersAction[Any]) -> object:
        """Add the subcommand's parser, under the name it has in ``COMMANDS``."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it, and return the exit status."""


COMMANDS: Final[Mapping[str, Command]] = {
    "demo": demo,
    "report": report,
    "verify": verify,
    "replay": replay,
    "fingerprint": fingerprint,
    "directory": directory,
    "doctor": doctor,
    "reconcile": reconcile,
    "collector": collector,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: the arguments after the program's name; those of the process when absent.

    Returns:
        The exit status: 0 when it worked, 1 when it found something wrong, 2 when the command could not do what it was asked.
    """
    parser = _parser()
    try:
        args = parser.parse_args(argv)
        if args.command is None:
            parser.print_help(sys.stderr)
            return EXIT_FAILURE
        status = COMMANDS[args.command].run(args)
        sys.stdout.flush()  # a reader that has gone must show here, not while the interpreter shuts down
    except SystemExit as end:  # argparse: --help, --version, wrong arguments
        return end.code if isinstance(end.code, int) else EXIT_FAILURE
    except Failure as failure:
        print(f"{PROGRAM}: {failure}", file=sys.stderr)
        return EXIT_FAILURE
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return status


class _Parser(argparse.ArgumentParser):
    """Repeats no argument that is shaped like a key."""

    def error(self, message: str) -> NoReturn:
        super().error(mask(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Who used how much of OpenAI, through which key.",
        epilog=f"Examples:\n  {PROGRAM} report ./ledger\n  {PROGRAM} report --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {_version()}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for command in COMMANDS.values():
        command.add_parser(subparsers)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("openai-metering")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "(not installed)"


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain about the gone reader."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)
    except (OSError, ValueError):  # stdout is not a file of the system
        pass
