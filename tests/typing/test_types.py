"""Type checkers know the public names, and the SDK's types stay what they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def test_the_public_names_are_typed(tmp_path):
    """Strict mypy accepts every documented use, and refuses every wrong one that is marked as such."""
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--cache-dir", str(tmp_path)]
    ran = subprocess.run(
        [*command, str(HERE / "api.py")], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
