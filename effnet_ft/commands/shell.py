"""Output files, and the name of this program in the shell."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from effnet_ft.errors import UsageError


def check_outputs(*files: str | None) -> None:
    """Raise a UsageError for a file that cannot be written, before the work that would be lost; None is skipped."""
    for file in files:
        if file is None:
            continue
        folder = Path(file).resolve().parent
        if Path(file).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UsageError(f"cannot write '{file}': name a file in an existing, writable folder")


def own_command() -> str:
    """Return how to call the console script: by name, or by path if it is not on the PATH."""
    script = Path(sys.executable).with_name("effnet-ft")
    return os.path.relpath(script) if shutil.which(script.name) is None and script.is_file() else script.name
