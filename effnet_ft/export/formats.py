"""The formats that a model is exported to. Free of torch."""

from __future__ import annotations

from pathlib import Path

from effnet_ft.errors import UsageError
from effnet_ft.export.other_libraries import LIBRARIES

PROGRAMS = {"onnx": ".onnx", "torch-export": ".pt2"}
"""Programs, which run without the code of this project, and the endings of their files."""

FORMATS = (*PROGRAMS, "safetensors", *LIBRARIES)
"""Programs; our own weights; weights as other libraries name them."""

_ENDINGS = {**PROGRAMS, "safetensors": ".safetensors"}


def require_ending(form: str, path: Path) -> None:
    """Refuse a name that does not tell programs what the file is.

    Raises:
        UsageError: where ``path`` does not end as files of ``form`` do.
    """
    ending = _ENDINGS.get(form)
    if ending and path.suffix != ending:
        raise UsageError(f"'{path}' does not end in {ending}, which tells programs what it is: rename it")
