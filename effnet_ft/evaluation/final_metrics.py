"""Measures a training that has ended: its probabilities calibrated first, on validation images that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from effnet_ft.data.splits.split import Split, encode_labels
from effnet_ft.evaluation.calibration import fit_temperature
from effnet_ft.evaluation.evaluate import Evaluation, evaluate
from effnet_ft.evaluation.metrics import best_thresholds
from effnet_ft.inference.predictor import Predictor
from effnet_ft.inference.selective_prediction import confidence_record


def measure(
    split: Split, predictor: Predictor, batch_size: int, logits: Mapping[str, np.ndarray], *, calibrate: bool
) -> tuple[dict[str, float], Evaluation]:
    """Return a finished training's metrics on validation and, where there is one, test; and the evaluation to keep.

    The model is given what the validation images tell: its temperature, the record that it abstains by, and the
    thresholds of labels, those of the best F1.

    Args:
        split: the images.
        predictor: the model.
        batch_size: images at once.
        logits: of the images of each part, ``[N, K]``.
        calibrate: fit a temperature; not where the validation images were trained on.
    """
    model = predictor.model
    if calibrate:
        labels = encode_labels(split.val, model.classes, split.multilabel, as_matrix=model.multilabel)
        model.temperature = fit_temperature(logits["val"], labels)
    parts = {name: evaluate(predictor, split, name, batch_size, known=logits[name]) for name in logits}
    val = parts["val"]
    if model.multilabel:
        model.thresholds = best_thresholds(val.probabilities, val.labels)
        parts = {name: replace(part, thresholds=model.thresholds) for name, part in parts.items()}
    elif calibrate:
        model.record = confidence_record(val.probabilities, val.labels)
    metrics = {key: value for part in parts.values() for key, value in part.metrics.items()}
    return {**metrics, **({"temperature": model.temperature} if calibrate else {})}, parts[split.held_out]
