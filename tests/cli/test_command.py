"""The entry point of the command line."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

INTERRUPTED = """
import sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from openai_metering.command import main
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["openai_metering.cli", "openai_metering.cli.report"])
def test_ctrl_c_while_it_is_loaded(module):
    """It ends as it does later: status 130, and no traceback."""
    ran = subprocess.run([sys.executable, "-c", INTERRUPTED, module], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (130, "")


def test_it_is_what_the_installed_command_runs():
    """The script of the package enters there."""
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="openai-metering")
    assert entry.value == "openai_metering.command:main"
