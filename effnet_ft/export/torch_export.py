"""PyTorch's own programs, ``.pt2``: written and run by ``torch.export``, without the code of this project."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnet_ft.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

    from effnet_ft.models.classifier import Classifier

_EXTRA = "/extra/"


def write(model: Classifier, path: Path) -> None:
    """Write ``model`` as a program of ``torch.export``, for batches of any size.

    Raises:
        OSError, RuntimeError: where it cannot be written.
    """
    import torch

    from effnet_ft.export.exported_network import metadata, trace

    torch.export.save(trace(model, channels_last=True), path, extra_files=metadata(model))


class TorchProgram:
    """A program of ``torch.export``, ready to run on the CPU. Several threads may call it at once.

    Args:
        path: the file.

    Raises:
        WeightsError: where it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import torch

        try:
            self.metadata: Mapping[str, str] = read_metadata(path)
            with warnings.catch_warnings():  # torch 2.11 warns of how it reads its own files
                warnings.filterwarnings("ignore", "The given buffer is not writable")
                program = torch.export.load(path)
            self._call = program.module()
        except Exception as error:  # torch raises many kinds for a broken file
            first = str(error).partition("\n")[0]
            raise WeightsError(f"{path} is a damaged program of torch.export: get it again ({first})") from error
        values = {node.name: node.meta.get("val") for node in program.graph.nodes}
        signature = program.graph_signature
        self.shapes: tuple[list[Any], list[Any]] = (
            list(values[signature.user_inputs[0]].shape),
            list(values[signature.user_outputs[0]].shape),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Map images, uint8 ``[N, 3, size, size]``, to probabilities ``[N, K]``."""
        answer: Tensor = self._call(images)
        return answer


def read_metadata(path: Path) -> dict[str, str]:
    """Return the extra files of an archive of ``torch.export``, by name."""
    with zipfile.ZipFile(path) as archive:
        found = {name.partition(_EXTRA)[2]: archive.read(name) for name in archive.namelist() if _EXTRA in name}
    return {name: content.decode() for name, content in found.items()}
