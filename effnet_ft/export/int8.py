"""Quantises a model to 8-bit ONNX with onnxruntime, a quarter of the size and faster, and measures the accuracy lost.

Activation ranges come from training images. Weights are quantised per channel: one scale for all channels costs several
times as much accuracy, since those of depthwise convolutions differ widely. Logits and the layers after them stay in
float, as 256 steps are too coarse for calibrated probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from effnet_ft.data.images.decoding import as_rgb
from effnet_ft.data.splits.split import Split, encode_labels
from effnet_ft.errors import ExportError
from effnet_ft.evaluation.evaluate import Evaluation
from effnet_ft.export.formats import loading_code, require_suffix
from effnet_ft.export.programs import INPUT, ONNX_PACKAGES, export_metadata, write_onnx
from effnet_ft.export.verification import checked_file, evenly_spaced
from effnet_ft.inference.backends import require_onnx_packages
from effnet_ft.inference.load import load
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.classifier import Classifier
from effnet_ft.utils.text import counted

if TYPE_CHECKING:
    from onnx import NodeProto

MAX_CALIBRATION_IMAGES = 128  # training images for the activation ranges
MAX_TEST_IMAGES = 2000  # held-out images for measuring accuracy
MAX_LOSS = 0.05  # the largest loss of accuracy, a fraction of 1, with which a file is kept

_BATCH = 8

_MATRIX_PRODUCTS = ["Gemm", "MatMul"]  # operations, the last of which computes the logits


@dataclass(frozen=True)
class Int8Result:
    """The outcome of a quantisation."""

    usage: str  # code that loads the file
    before: float  # accuracy of the model, or mean average precision if it is multi-label
    after: float  # that of the file
    agreement: float  # share of the images with the same prediction
    part: str  # the split it was measured on, `test` or `val`
    images: int  # number of them

    @property
    def refused(self) -> bool:
        """Whether it costs too much accuracy; on a small set two images may always change."""
        return self.before - self.after > max(MAX_LOSS, 2.5 / self.images)


def export_int8(model: Classifier, path: Path, split: Split) -> Int8Result:
    """Write ``model`` to ``path``, ``*.onnx``, with training images of ``split``, and measure it on held-out ones.

    No partial file is left after an error.

    Raises:
        ExportError: if the loss of accuracy is more than :data:`MAX_LOSS`.
        MissingPackageError: if a package is missing.
        MachineError: if the file cannot be written.
    """
    require_suffix("onnx", path)
    require_onnx_packages(*ONNX_PACKAGES)
    original = Predictor(model, "cpu")
    with checked_file(path, lambda temporary: _write_quantised(original, temporary, split)) as temporary:
        result = _measure(original, temporary, split, path)
        if result.refused:
            why = ": swish and squeeze-and-excitation lose much precision in 8 bits, Lite variants have neither"
            raise ExportError(
                f"the export was refused and not kept: on {counted(result.images, 'image')} of the {result.part} split "
                f"its accuracy falls from {result.before:.3f} to {result.after:.3f}, more than {MAX_LOSS:g}"
                f"{'' if model.variant.lite else why}; leave --int8 out"
            )
    return result


def _write_quantised(original: Predictor, path: Path, split: Split) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = _calibration_batches(original, split)

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(batches, None)

    with TemporaryDirectory() as folder:
        plain, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "quantised"))
        write_onnx(original.model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)  # shapes are known, except for the batch
        quantize_static(
            prepared,
            quantised,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_nodes_after_logits(onnx.load(prepared).graph.node),
            extra_options={"OpTypesToExcludeOutputQuantization": _MATRIX_PRODUCTS},
        )
        result = onnx.load(quantised)
    onnx.helper.set_model_props(result, export_metadata(original.model))
    path.write_bytes(result.SerializeToString())


def _nodes_after_logits(nodes: Sequence[NodeProto]) -> list[str]:
    last = max(index for index, node in enumerate(nodes) if node.op_type in _MATRIX_PRODUCTS)
    return [node.name for node in nodes[last + 1 :]]


def _calibration_batches(original: Predictor, split: Split) -> Iterator[dict[str, np.ndarray]]:
    chosen = evenly_spaced(split.train, MAX_CALIBRATION_IMAGES)
    for start in range(0, len(chosen), _BATCH):
        images = [as_rgb(split.image(sample)) for sample in chosen[start : start + _BATCH]]
        yield {INPUT: np.stack([original.preprocessing(image).transpose(2, 0, 1) for image in images])}


def _measure(original: Predictor, file: Path, split: Split, path: Path) -> Int8Result:
    part, multilabel = split.held_out, original.model.multilabel
    chosen = evenly_spaced(split.part(part), MAX_TEST_IMAGES)
    images, labels = [split.image(sample) for sample in chosen], encode_labels(chosen, split.classes, multilabel)
    thresholds = original.model.thresholds if multilabel else ()
    values: list[float] = []
    predictions: list[np.ndarray] = []
    for predictor in (original, load(file, "cpu")):
        probabilities = predictor.probabilities(images, title=f"evaluating {part}")
        evaluation = Evaluation(part, chosen, probabilities, labels, split.classes, thresholds=thresholds)
        values.append(evaluation.metrics[f"{part}/{'map' if multilabel else 'acc1'}"])
        predictions.append(
            probabilities >= np.asarray(thresholds, np.float64) if multilabel else probabilities.argmax(1)
        )
    usage, (before, after) = loading_code(original.model, "onnx", path), values
    return Int8Result(usage, before, after, float(np.equal(*predictions).mean()), part, len(chosen))
