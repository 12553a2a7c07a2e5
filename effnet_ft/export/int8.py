"""ONNX files in 8-bit integers, by onnxruntime: a quarter of the size and faster; what accuracy it costs is measured.

Ranges of activations come from training images. Weights have a scale for each channel: depthwise convolutions, whose
channels differ widely, lose several times as much with one scale for all. Logits and what follows them stay floats: of
256 steps a calibrated probability would keep two figures, and a row would not sum to 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from effnet_ft.data.images.image_like import as_rgb
from effnet_ft.data.splits.split import Split, encode_labels
from effnet_ft.errors import ExportError
from effnet_ft.evaluation.evaluate import Evaluation
from effnet_ft.export import onnx
from effnet_ft.export.exported_network import INPUT, metadata
from effnet_ft.export.formats import require_ending
from effnet_ft.export.other_libraries import quoted
from effnet_ft.export.partial_file import naming_file_on_error, partial_file
from effnet_ft.export.verification import evenly_spaced
from effnet_ft.inference.predictor import Predictor, load
from effnet_ft.models.classifier import Classifier

if TYPE_CHECKING:
    from onnx import ModelProto

CALIBRATED, MEASURED = 128, 2000
"""Training images that give the ranges of activations; held-out images that the loss is measured on; at most."""

LOSS = 0.05
"""The largest loss of accuracy, a fraction of 1, with which a file is kept."""

_AT_ONCE = 8

_PRODUCTS = ["Gemm", "MatMul"]
"""The operations whose last one makes the logits."""


@dataclass(frozen=True)
class Int8Result:
    """What came of a quantisation.

    Attributes:
        usage: the code that loads the file.
        before: the accuracy of the model, or its mean average precision where images have several labels.
        after: that of the file.
        agreement: share of the images to which both give the same answer.
        part: the part of the images that was measured, ``test`` or ``val``.
        images: how many.
    """

    usage: str
    before: float
    after: float
    agreement: float
    part: str
    images: int

    @property
    def refused(self) -> bool:
        """Whether it costs too much; two images of a small set may always change."""
        return self.before - self.after > max(LOSS, 2.5 / self.images)


def export_int8(model: Classifier, path: Path, split: Split) -> Int8Result:
    """Write ``model`` to ``path`` as an ONNX file in 8-bit integers, measured on held-out images.

    Args:
        model: a trained model.
        path: ending in ``.onnx``.
        split: the images that it was trained and measured on.

    Raises:
        ExportError: where the loss is more than :data:`LOSS`.
        MissingPackageError: where a package is missing.
        MachineError: where the file cannot be written. No part of it is left after any of these.
    """
    require_ending("onnx", path)
    onnx.require(*onnx.WRITING)
    original = Predictor(model, "cpu")
    with partial_file(path) as temporary:
        with naming_file_on_error(path):
            _write(original, temporary, split)
        result = _measured(original, temporary, split, path)
        if result.refused:
            raise ExportError(
                f"the export was refused and not kept: on {result.images} images of the {result.part} part its "
                f"accuracy falls from {result.before:.3f} to {result.after:.3f}, more than {LOSS:g}{_reason(model)}; "
                "leave --int8 out"
            )
        with naming_file_on_error(path):
            os.replace(temporary, path)
    return result


def _write(original: Predictor, path: Path, split: Split) -> None:
    import onnx as library
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        """Gives batches until there are no more."""

        def __init__(self) -> None:
            self.batches = _batches(original, split)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    with TemporaryDirectory() as folder:
        plain, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "quantised"))
        onnx.write(original.model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)  # the shapes are known but for the batch
        quantize_static(
            prepared,
            quantised,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_behind_the_logits(library.load(prepared)),
            extra_options={"OpTypesToExcludeOutputQuantization": _PRODUCTS},
        )
        result = library.load(quantised)
    library.helper.set_model_props(result, metadata(original.model))
    path.write_bytes(result.SerializeToString())


def _behind_the_logits(program: ModelProto) -> list[str]:
    """Return the names of the nodes that make probabilities of the logits."""
    nodes = list(program.graph.node)
    last = max(place for place, node in enumerate(nodes) if node.op_type in _PRODUCTS)
    return [node.name for node in nodes[last + 1 :]]


def _batches(original: Predictor, split: Split) -> Iterator[dict[str, np.ndarray]]:
    """Yield training images as the program takes them."""
    chosen = evenly_spaced(split.train, CALIBRATED)
    for start in range(0, len(chosen), _AT_ONCE):
        images = [as_rgb(split.image(sample)) for sample in chosen[start : start + _AT_ONCE]]
        yield {INPUT: np.stack([original.preprocessing(image).transpose(2, 0, 1) for image in images])}


def _measured(original: Predictor, file: Path, split: Split, path: Path) -> Int8Result:
    part, matrix = split.held_out, original.model.multilabel
    chosen = evenly_spaced(split.part(part), MEASURED)
    images, labels = [split.image(sample) for sample in chosen], encode_labels(chosen, split.classes, matrix)
    thresholds = original.model.thresholds if matrix else ()

    def answered(predictor: Predictor) -> Evaluation:
        probabilities = predictor.probabilities(images, title=f"evaluating {part}")
        return Evaluation(part, chosen, probabilities, labels, split.classes, thresholds=thresholds)

    before, after = answered(original), answered(load(file, "cpu"))
    name = f"{part}/{'map' if matrix else 'acc1'}"
    return Int8Result(
        f"effnet_ft.load({quoted(path)})",
        *(before.metrics[name], after.metrics[name]),
        agreement=float((_answers(before) == _answers(after)).mean()),
        part=part,
        images=len(chosen),
    )


def _answers(evaluation: Evaluation) -> np.ndarray:
    """Return what is compared of each image: its likeliest class, or whether each label holds."""
    if evaluation.thresholds:
        return evaluation.probabilities >= np.asarray(evaluation.thresholds, np.float64)
    return evaluation.probabilities.argmax(1)


def _reason(model: Classifier) -> str:
    return "" if model.variant.lite else ": swish and squeeze-and-excitation keep little in 8 bits, Lite variants do"
