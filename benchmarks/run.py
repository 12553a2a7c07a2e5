"""Runs the benchmarks, or those named, and writes ``docs/benchmarks.md`` from all results that there are.

python benchmarks/run.py [NAME ...]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from common import RESULTS

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
COMMANDS = {
    "loading": [],
    "input_pipeline": [],
    "training_step": ["--compile"],
    "stored_epochs": [],
    "flowers": [],
}
"""What ``make bench`` runs, with its arguments; those for a GPU are run by hand."""

HEAD = """# Benchmarks

Written by `make bench`, from `benchmarks/`. Both sides of a comparison ran side by side in one run; medians of rounds.
A table holds only what was measured, with the command, the day and the machine.
"""


def main() -> None:
    """Run the benchmarks that the command line names, all of the CPU's where it names none."""
    for name in sys.argv[1:] or COMMANDS:
        subprocess.run([sys.executable, HERE / f"{name}.py", *COMMANDS.get(name, [])], check=True)
    tables = [path.read_text(encoding="utf-8") for path in sorted(RESULTS.glob("*.md"))]
    PAGE.write_text("\n".join([HEAD, *tables]), encoding="utf-8")


if __name__ == "__main__":
    main()
