"""The ``fingerprint`` subcommand: what stands for an API key in a key map."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Any

from openai_metering import settings as options
from openai_metering.cli.failure import Failure
from openai_metering.keys import fingerprint

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
Print the fingerprint of an API key: 16 hexadecimal digits of its HMAC-SHA256 under
OPENAI_METERING_FINGERPRINT_SECRET, a secret of your own (`openssl rand -hex 32` makes one) that the metered
processes have, too. The key is read from standard input, one line, and never from the command line, which the
shell's history and the list of processes keep."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand's parser."""
    import argparse  # noqa: PLC0415 - for its constants only

    parser = subparsers.add_parser(
        "fingerprint",
        help="what stands for an API key in a key map",
        description=_DESCRIPTION,
        epilog="Example:\n  printenv OPENAI_API_KEY | openai-metering fingerprint",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("given", nargs="*", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Read the key and print its fingerprint."""
    if args.given:  # never quoted: it may be the key
        raise Failure("the key is read from standard input, never from the command line: see --help.")
    settings, _ = options.load({})
    if settings.fingerprint_secret is None:
        raise Failure(
            "OPENAI_METERING_FINGERPRINT_SECRET is not set: set it to a secret of your own, the same one that the metered "
            "processes have; `openssl rand -hex 32` makes one."
        )
    key = (getpass.getpass("API key (not shown): ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not key:
        raise Failure("standard input has no key in its first line.")
    print(fingerprint(key, settings.fingerprint_secret))
    return 0
