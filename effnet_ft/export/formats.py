"""The formats that a model can be exported to. Free of torch."""

from pathlib import Path

from effnet_ft.errors import UsageError
from effnet_ft.export.other_libraries import LIBRARIES

PROGRAMS = {"onnx": ".onnx", "torch-export": ".pt2"}  # formats of exported programs, with their file suffixes
FORMATS = (*PROGRAMS, "safetensors", *LIBRARIES)  # programs; our own weights; weights for other libraries

_SUFFIXES = {**PROGRAMS, "safetensors": ".safetensors"}


def require_suffix(form: str, path: Path) -> None:
    """Refuse a file name without the suffix of its format.

    Raises:
        UsageError: naming the suffix.
    """
    suffix = _SUFFIXES.get(form)
    if suffix and path.suffix != suffix:
        raise UsageError(f"'{path}' does not end in {suffix}, by which programs recognise the format: rename it")
