"""These tests need the packages that they are about: the session `coexistence` says which of them are installed."""

from __future__ import annotations

import os

INSTALLED = os.environ.get("COEXISTENCE", "").split()
collect_ignore_glob = [] if INSTALLED else ["test_*.py"]
