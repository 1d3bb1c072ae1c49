"""The entry point of the ``openai-metering`` command: Ctrl-C ends it without a traceback, also while it is being loaded."""

from __future__ import annotations

from typing import Final

EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT


def main() -> int:
    """Load the command line, which takes some tenths of a second, and run it.

    Returns:
        The exit status, as `openai_metering.cli.main` gives it; 130 where Ctrl-C came first.
    """
    try:
        from openai_metering.cli import main as run  # noqa: PLC0415 - within reach of the except

        return run()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
