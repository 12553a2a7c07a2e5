"""The project's pages, and the commands that they show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

HOME = Path(__file__).parent.parent
PAGES = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))]

MISTAKES = {"python train.py folder data.rot=photos model.variant=b9"}
"""What the pages show to be refused."""


def commands(page: Path) -> list[str]:
    """Return the commands of a page's console blocks, each whole on one line, without its comment."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.join(shlex.split(line[2:], comments=True)) for line in lines if line.startswith("$ ")]
