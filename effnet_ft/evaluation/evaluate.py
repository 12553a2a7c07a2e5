"""Evaluates a model on labelled images, and calibrates a trained one on its validation images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from effnet_ft.data.sources.source import Sample, Source, labels_of
from effnet_ft.data.splits.split import Split, encode_labels
from effnet_ft.errors import DataError
from effnet_ft.evaluation.calibration import fit_temperature
from effnet_ft.evaluation.intervals import class_intervals, label_intervals
from effnet_ft.evaluation.metrics import (
    best_thresholds,
    calibration_error,
    classification_metrics,
    multilabel_metrics,
)
from effnet_ft.inference.predictor import Predictor, best_classes, join_labels
from effnet_ft.inference.selective_prediction import confidence_record
from effnet_ft.utils.atomic_files import atomic_write
from effnet_ft.utils.tables import write_csv
from effnet_ft.utils.text import counted, listing


@dataclass(frozen=True)
class Evaluation:
    """A model's predictions for labelled images."""

    name: str  # the split: `train`, `val`, `test` or `all`
    samples: Sequence[Sample]
    probabilities: np.ndarray  # float32 [N, K]
    labels: np.ndarray  # class indices in the model's order, [N], or labels of 0 and 1, [N, K]
    classes: tuple[str, ...]  # the model's
    published: Mapping[str, float] = field(default_factory=dict)  # metrics of the pretrained weights, fractions of 1
    thresholds: tuple[float, ...] = ()  # of a multi-label model, the probability from which each label is predicted
    uncalibrated: np.ndarray | None = None  # probabilities without temperature; None without one or with several views

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics, named ``test/acc1`` and so on; ``all`` counts as ``test``.

        ``acc1``, ``map`` and ``macro_f1`` have 95% intervals, ``test/acc1_low`` to ``test/acc1_high``, where there are
        enough images (:mod:`effnet_ft.evaluation.intervals`).
        """
        outputs, prefix = (self.probabilities, self.labels), self.prefix
        if self.labels.ndim == 2:
            values = multilabel_metrics(*outputs, self.thresholds, self.classes, prefix)
            intervals = label_intervals(*outputs, self.thresholds)
        else:
            values, intervals = classification_metrics(*outputs, prefix), class_intervals(*outputs)
        if self.uncalibrated is not None:
            values[f"{prefix}/ece_uncalibrated"] = calibration_error(self.uncalibrated, self.labels)
        for name, (low, high) in intervals.items():
            values |= {f"{prefix}/{name}_low": low, f"{prefix}/{name}_high": high}
        return values

    @property
    def missed_classes(self) -> list[str]:
        """The classes that have images of which none is predicted correctly, which an accuracy hides."""
        if self.labels.ndim == 2:
            true, predicted = self.labels > 0.5, self.probabilities >= np.asarray(self.thresholds)
        else:
            true, predicted = (
                np.eye(len(self.classes), dtype=bool)[y] for y in (self.labels, self.probabilities.argmax(1))
            )
        missed = np.flatnonzero(true.any(0) & ~(true & predicted).any(0))
        return [self.classes[index] for index in missed]

    @property
    def prefix(self) -> str:
        """The prefix of the metrics' names."""
        return "test" if self.name == "all" else self.name

    def write_predictions(self, path: Path) -> None:
        """Write CSV with the columns path, label, prediction, probability.

        With a temperature, a column ``uncalibrated`` has the prediction's probability without it. Several labels,
        predictions or probabilities are joined by ``|``.
        """
        head = ["path", "label", "prediction", "probability"]
        extra: list[list[str]] = [[]] * len(self.samples)
        if self.uncalibrated is not None and self.labels.ndim == 1:
            head.append("uncalibrated")
            extra = [[f"{value:.6f}"] for value in self.uncalibrated.max(1)]
        with atomic_write(path, newline="", errors="surrogateescape") as file:
            write_csv(file, [head])
            rows = zip(self.samples, self.probabilities, extra, strict=True)
            write_csv(file, ([s.path, s.label, *join_labels(self._predicted(p)), *more] for s, p, more in rows))

    def _predicted(self, probabilities: np.ndarray) -> list[tuple[str, float]]:
        if self.labels.ndim == 2:
            return best_classes(probabilities, self.classes, None, self.thresholds)
        return best_classes(probabilities, self.classes, 1)


def evaluate(
    predictor: Predictor,
    source: Source | Split,
    name: str,
    batch_size: int,
    views: str = "one",
    logits: np.ndarray | None = None,
) -> Evaluation:
    """Evaluate the split ``name`` of ``source``, whose classes are matched by name.

    Args:
        predictor: the model.
        source: the images.
        name: ``train``, ``val``, ``test`` or ``all``.
        batch_size: images at once.
        views: a name in :data:`effnet_ft.inference.predictor.VIEWS`, averaged over.
        logits: of the images, if already computed.

    Raises:
        DataError: if the model lacks a class, or an image cannot be read.
    """
    samples = source.part(name)
    model = predictor.model
    if source.multilabel and not model.multilabel:
        raise DataError(
            f"the images of {source.root} have any number of labels, the model predicts one class per image"
        )
    present = {label for sample in samples for label in labels_of(sample, source.multilabel)}
    if unknown := sorted(present - set(predictor.classes)):
        raise DataError(
            f"{counted(len(unknown), 'class')} of {source.root} not among the model's {len(predictor.classes)}:\n"
            f"{listing(unknown)}"
        )
    images, title = [source.image(sample) for sample in samples], f"evaluating {name}"
    uncalibrated = None
    if logits is None and views != "one":
        probabilities = predictor.probabilities(images, batch_size, title, views)
    else:
        outputs = torch.from_numpy(predictor.logits(images, batch_size, title) if logits is None else logits)
        probabilities = model.probabilities(outputs).numpy()
        if model.temperature != 1:
            uncalibrated = model.probabilities(outputs, calibrated=False).numpy()
    labels = encode_labels(samples, predictor.classes, source.multilabel, as_matrix=model.multilabel)
    evaluation = Evaluation(name, samples, probabilities, labels, predictor.classes, uncalibrated=uncalibrated)
    return replace(evaluation, thresholds=model.thresholds) if model.multilabel else evaluation


def measure(
    split: Split, predictor: Predictor, batch_size: int, logits: Mapping[str, np.ndarray], *, calibrate: bool
) -> tuple[dict[str, float], Evaluation]:
    """Return the final metrics on validation and test, and the evaluation on the held-out split.

    With ``calibrate``, this sets the model's temperature and its confidence record or multi-label thresholds (those of
    the best F1) from the validation images, which must not have been trained on; without, thresholds stay at 0.5.
    """
    model = predictor.model
    if calibrate:
        labels = encode_labels(split.val, model.classes, split.multilabel, as_matrix=model.multilabel)
        model.temperature = fit_temperature(logits["val"], labels)
    parts = {name: evaluate(predictor, split, name, batch_size, logits=logits[name]) for name in logits}
    val = parts["val"]
    if model.multilabel and calibrate:
        model.thresholds = best_thresholds(val.probabilities, val.labels)
        parts = {name: replace(part, thresholds=model.thresholds) for name, part in parts.items()}
    elif calibrate:
        model.record = confidence_record(val.probabilities, val.labels)
    metrics = {key: value for part in parts.values() for key, value in part.metrics.items()}
    return {**metrics, **({"temperature": model.temperature} if calibrate else {})}, parts[split.held_out]
