"""Calibrates a trained model on its validation images and computes the run's final metrics."""

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
