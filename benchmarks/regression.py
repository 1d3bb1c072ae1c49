"""Whether a metered call costs more than it did: instructions, metered over bare in one run, beside a committed baseline.

Instructions are the same in every run on the same versions, where times are not. On the versions of the baseline what
metering adds may grow by a tenth; on others, where the bare SDK and OpenTelemetry cost something else, the whole call.
``--update`` writes the baseline.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from overhead import _counted

BASELINE = Path(__file__).parent / "baseline.json"
CASES = ["chat", "responses"]
TOLERANCE = 0.10


def need_valgrind() -> None:
    """Install valgrind where the machine allows it."""
    if shutil.which("valgrind"):
        return
    if shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "-qq", "-y", "valgrind"], check=False, stdout=subprocess.DEVNULL)
    if not shutil.which("valgrind"):
        sys.exit("valgrind counts the instructions: install it (on Debian and Ubuntu: apt install valgrind).")


def ratios() -> dict[str, float]:
    """The instructions of each kind of call, metered over bare."""
    bare, metered = (_counted(variant, CASES) for variant in ("bare", "all"))
    return {case: metered[case] / bare[case] for case in CASES}


def versions() -> dict[str, str]:
    """What the counts depend on."""
    packages = ("openai", "opentelemetry-api", "opentelemetry-sdk", "pydantic", "wrapt")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def main() -> int:
    """Compare. Returns 1 where a call costs more than the baseline allows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the baseline")
    chosen = parser.parse_args()
    need_valgrind()
    found = ratios()
    if chosen.update:
        rounded = {case: round(ratio, 4) for case, ratio in found.items()}
        BASELINE.write_text(json.dumps({"ratios": rounded, "versions": versions()}, indent=1) + "\n")
    baseline = json.loads(BASELINE.read_text())
    fixed = 1 if baseline["versions"] == versions() else 0
    worse = 0
    for case, before in baseline["ratios"].items():
        allowed = fixed + (before - fixed) * (1 + TOLERANCE)
        print(
            f"{case}: {found[case]:.3f} times the bare SDK's instructions; baseline {before:.3f}, allowed {allowed:.3f}"
        )
        worse += found[case] > allowed
    if worse:
        print(
            "A metered call costs more than it did. docs/performance.md says where its time goes; --update accepts it."
        )
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
