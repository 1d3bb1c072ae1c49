"""What was replaced in the SDK, and how it was before."""

from __future__ import annotations

from typing import Any


class Patches:
    """Replaces attributes of the SDK's classes and puts the SDK's own objects back."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, replacement: Any) -> None:
        """Put a replacement in the place of an attribute that the class, or module, itself defines."""
        original = vars(owner)[name]
        setattr(owner, name, replacement)
        self._undo.append((owner, name, original, vars(owner)[name]))

    def add(self, owner: Any, name: str, value: Any) -> None:
        """Add an attribute that the class itself does not define."""
        if name in vars(owner):
            self.replace(owner, name, value)
            return
        setattr(owner, name, value)
        self._undo.append((owner, name, None, vars(owner)[name]))

    def undo(self) -> None:
        """Put everything back; what somebody else has replaced since is theirs and stays."""
        while self._undo:
            owner, name, original, ours = self._undo.pop()
            if vars(owner).get(name) is not ours:
                continue
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
