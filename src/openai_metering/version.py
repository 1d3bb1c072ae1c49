"""Our version, as the installed distribution states it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed(distribution: str) -> str | None:
    """Return the version of an installed distribution, ``None`` where it is not there."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


VERSION = installed("openai-metering") or "0.0.0"
