"""The error a command ends with."""

from __future__ import annotations


class Failure(Exception):  # noqa: N818 - the field's word for a command that ends with status 2
    """A command cannot do what it was asked; its text says what to do next.

    Args:
        message: one or two sentences for the person at the terminal.
    """
