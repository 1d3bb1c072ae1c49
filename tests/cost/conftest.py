"""List prices come from a library that needs Python 3.11; what is about them is collected where it is installed."""

from __future__ import annotations

import sys

collect_ignore = ["test_invoices.py", "test_list_prices.py"] if sys.version_info < (3, 11) else []
