"""Runs the benchmarks, or those named, and writes ``docs/benchmarks.md`` from all results that there are.

python benchmarks/run.py [NAME ...]     # those for the CPU
python benchmarks/run.py --gpu          # those for a GPU
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from common import RESULTS

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
CPU = {
    "loading": [],
    "input_pipeline": [],
    "training_step": ["--compile"],
    "lightning_loop": [],
    "stored_epochs": [],
    "flowers": [],
    "serving": [],
    "two_processes": [],
}
GPU = {
    "training_step": ["--gpu", "--compile"],
    "lightning_loop": ["--gpu"],
    "stored_epochs": ["--gpu"],
    "gpu_memory": [],
}

HEAD = """# Benchmarks

Written by `make bench`, from `benchmarks/`. Both sides of a comparison ran side by side in one run; medians of rounds.
A table holds only what was measured, with the command, the day and the machine.

`make bench-gpu` adds those for a GPU, in bfloat16: full steps of B0 and B4 beside timm with `--amp --channels-last`,
plain and compiled; epochs from the activation store; the largest batch of B7 at 600 px with and without activation
checkpointing. Where no table below names a GPU, they have not been measured yet.
"""


def main() -> None:
    """Run the benchmarks that the command line names, all of the CPU's where it names none."""
    commands = GPU if "--gpu" in sys.argv else CPU
    for name in [name for name in sys.argv[1:] if name != "--gpu"] or commands:
        subprocess.run([sys.executable, HERE / f"{name}.py", *commands.get(name, [])], check=True)
    tables = [path.read_text(encoding="utf-8") for path in sorted(RESULTS.glob("*.md"))]
    PAGE.write_text("\n".join([HEAD, *tables]), encoding="utf-8")


if __name__ == "__main__":
    main()
