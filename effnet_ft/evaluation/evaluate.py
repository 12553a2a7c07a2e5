"""Measures a model on labelled images and writes what came out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.sources.opening import image_root, open_source
from effnet_ft.data.sources.source import SPLITS, Sample, Source, labels_of
from effnet_ft.data.splits.split import Split, encode_labels
from effnet_ft.data.splits.split_file import read_split, require_images
from effnet_ft.errors import DataError, RecipeError
from effnet_ft.evaluation.intervals import class_intervals, label_intervals
from effnet_ft.evaluation.metrics import calibration_error, classification_metrics, multilabel_metrics
from effnet_ft.imagenet_classes import imagenet_classes
from effnet_ft.inference.load import load
from effnet_ft.inference.predictions import best_classes, best_labels, join_labels
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.creation import create_model
from effnet_ft.models.weights.resolving import resolve_weights
from effnet_ft.recipe import DEFAULT_BATCH, Recipe, load_recipe
from effnet_ft.runs.run_folder import Run
from effnet_ft.utils.atomic_files import atomic_write, atomic_write_text
from effnet_ft.utils.tables import write_csv
from effnet_ft.utils.text import listing

_WHERE = ("data.root", "data.source", "data.images", "data.ground_truth", "data.download", "data.batch_size")
"""Keys that say on which images an exported model is measured."""


@dataclass(frozen=True)
class Evaluation:
    """A model's answers to labelled images.

    Attributes:
        name: of the part that was evaluated: ``train``, ``val``, ``test`` or ``all``.
        samples: the images.
        probabilities: float32 ``[N, K]``.
        labels: class indices in the model's order, ``[N]``, or labels of 0 and 1, ``[N, K]``.
        classes: the model's classes.
        published: accuracies of the pretrained weights, fractions of 1, by the metrics' names.
        thresholds: of a model of labels, the probability from which each is taken to hold.
        uncalibrated: what the probabilities would be without the model's temperature; None where it has none, or
            they are the mean over several views.
    """

    name: str
    samples: Sequence[Sample]
    probabilities: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    published: Mapping[str, float] = field(default_factory=dict)
    thresholds: tuple[float, ...] = ()
    uncalibrated: np.ndarray | None = None

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics, named ``test/acc1`` and so on; ``all`` counts as ``test``.

        Each of ``acc1``, ``map``, ``macro_f1`` and ``ece`` has its 95% interval beside it, ``test/acc1_low`` and
        ``test/acc1_high``, where there is one (:mod:`effnet_ft.evaluation.intervals`).
        """
        known, prefix = (self.probabilities, self.labels), self.prefix
        if self.labels.ndim == 2:
            values = multilabel_metrics(*known, self.thresholds, self.classes, prefix)
            intervals = label_intervals(*known, self.thresholds)
        else:
            values, intervals = classification_metrics(*known, prefix), class_intervals(*known)
        if self.uncalibrated is not None:
            values[f"{prefix}/ece_uncalibrated"] = calibration_error(self.uncalibrated, self.labels)
        for name, (low, high) in intervals.items():
            values |= {f"{prefix}/{name}_low": low, f"{prefix}/{name}_high": high}
        return values

    @property
    def prefix(self) -> str:
        """The part as the metrics' names begin with it."""
        return "test" if self.name == "all" else self.name

    def write_predictions(self, path: Path) -> None:
        """Write CSV with the columns path, label, prediction, probability.

        Of classes whose temperature was fitted there is a column uncalibrated too: the prediction's probability
        without it. Of labels, those that hold, those predicted and their probabilities are each joined by ``|``.
        """
        with atomic_write(path, newline="", errors="surrogateescape") as file:
            answers = (
                best_labels(row, self.classes, self.thresholds)
                if self.labels.ndim == 2
                else best_classes(row, self.classes, 1)
                for row in self.probabilities
            )
            head = ["path", "label", "prediction", "probability"]
            more: list[list[str]] = [[]] * len(self.samples)
            if self.uncalibrated is not None and self.labels.ndim == 1:
                head.append("uncalibrated")
                more = [[f"{value:.6f}"] for value in self.uncalibrated.max(1)]
            rows = zip(self.samples, answers, more, strict=True)
            write_csv(file, [head])
            write_csv(file, ([sample.path, sample.label, *join_labels(answer), *last] for sample, answer, last in rows))


def evaluate(
    predictor: Predictor,
    source: Source | Split,
    name: str,
    batch_size: int,
    views: str = "one",
    known: np.ndarray | None = None,
) -> Evaluation:
    """Return the model's answers to the part ``name`` of ``source``, whose classes are matched by name.

    Args:
        predictor: the model.
        source: the images.
        name: ``train``, ``val``, ``test`` or ``all``.
        batch_size: images at once.
        views: a name in :data:`effnet_ft.inference.predictor.VIEWS`, averaged over.
        known: the logits, where they are known already.

    Raises:
        DataError: where a class is not the model's, or an image cannot be read.
    """
    samples = source.part(name)
    model = predictor.model
    if source.multilabel and not model.multilabel:
        raise DataError(f"the images of {source.root} have any number of labels each, the model tells one class each")
    present = {label for sample in samples for label in labels_of(sample, source.multilabel)}
    if strange := sorted(present - set(predictor.classes)):
        raise DataError(
            f"{len(strange)} classes of {source.root} are not among the {len(predictor.classes)} that the model "
            f"knows:\n{listing(strange)}"
        )
    images, title = [source.image(sample) for sample in samples], f"evaluating {name}"
    uncalibrated = None
    if known is None and views != "one":
        probabilities = predictor.probabilities(images, batch_size, title, views)
    else:
        logits = torch.from_numpy(predictor.logits(images, batch_size, title) if known is None else known)
        probabilities = model.probabilities(logits).numpy()
        if model.temperature != 1:
            uncalibrated = model.probabilities(logits, calibrated=False).numpy()
    labels = encode_labels(samples, predictor.classes, source.multilabel, as_matrix=model.multilabel)
    evaluation = Evaluation(name, samples, probabilities, labels, predictor.classes, uncalibrated=uncalibrated)
    return replace(evaluation, thresholds=model.thresholds) if model.multilabel else evaluation


def evaluate_run(run: Run, overrides: Sequence[str] = (), part: str | None = None, views: str = "one") -> Evaluation:
    """Evaluate a run's best checkpoint on its own images, or on others by ``data.root=...``.

    Args:
        run: the run.
        overrides: of its recipe: ``data.root``, ``data.images``, ``data.batch_size`` and ``data.image_size``, another
            size than it was trained at (Touvron et al. 2019, arXiv:1906.06423).
        part: ``train``, ``val``, ``test`` or ``all``; None takes what the run was measured on.
        views: a name in :data:`effnet_ft.inference.predictor.VIEWS`, averaged over.

    Raises:
        DataError: where run or images are at fault.
        RecipeError: where an override is.
    """
    run.require(run.recipe, run.split, run.best)
    allowed = ("data.root=", "data.images=", "data.batch_size=", "data.image_size=")
    if strange := [text for text in overrides if not text.startswith(allowed)]:
        raise RecipeError(
            f"a finished run is evaluated as it is; only data.root, data.images, data.batch_size and "
            f"data.image_size can be set: "
            f"{' '.join(strange)}"
        )
    recipe = load_recipe(run.recipe, overrides, require=["data.root"])
    predictor = load(run.best)
    if any(text.startswith("data.image_size=") for text in overrides):
        predictor.model.preprocessing = predictor.preprocessing.at_size(recipe.data.image_size)
    folder = image_root(recipe.data.source, recipe.data.root, recipe.data.images)
    split = read_split(run.split, folder, predictor.classes)
    moved = any(text.startswith(("data.root=", "data.images=")) for text in overrides)

    def others(source: Source) -> Evaluation:
        evaluation = evaluate(predictor, source, _choose(source, part), _batch(recipe), views)
        _tell_of_known(evaluation, split)
        return evaluation

    if moved and recipe.data.source == "manifest":
        source = _open(recipe)
        # A manifest says itself what it lists: the run's own images elsewhere, or others.
        listed, own = ({(sample.path, sample.label) for sample in part.part("all")} for part in (source, split))
        if listed != own:
            return others(source)
    try:
        require_images(split)
    except DataError:
        if not moved:
            raise
        return others(scan_folder(recipe.data.root, for_training=False))
    return evaluate(predictor, split, _choose(split, part), _batch(recipe), views)


def _tell_of_known(evaluation: Evaluation, split: Split) -> None:
    """Tell of images that may be those of the run's training: of its own folder where some of them are gone."""
    known = {(sample.path, sample.label) for sample in (*split.train, *split.val)}
    if count := sum((sample.path, sample.label) in known for sample in evaluation.samples):
        print(
            f"effnet-ft: {count} of {len(evaluation.samples)} images are called as images that the run was trained or "
            "chosen on: where they are the same, the figures flatter it",
            file=sys.stderr,
        )


def evaluate_file(path: Path, overrides: Sequence[str] = (), part: str | None = None, views: str = "one") -> Evaluation:
    """Evaluate an exported model or a checkpoint on labelled images.

    Args:
        path: the file.
        overrides: ``data.root``, which must be given; ``data.source`` and what belongs to it, where the images are no
            class folders; ``data.batch_size``.
        part: ``train``, ``val``, ``test`` or ``all``; None takes the test images, else validation, else all.
        views: a name in :data:`effnet_ft.inference.predictor.VIEWS`, averaged over.

    Raises:
        DataError: where the images are at fault.
        RecipeError: where an override is, or no images are named.
        WeightsError: where the file cannot be read.
    """
    if strange := [text for text in overrides if text.partition("=")[0] not in _WHERE]:
        raise RecipeError(
            f"a model is evaluated as it was shipped; only {', '.join(_WHERE)} can be set: {' '.join(strange)}"
        )
    if not any(text.startswith("data.root=") for text in overrides):
        raise RecipeError(f"'{path}' does not tell what to measure it on: give labelled images, data.root=...")
    recipe = load_recipe("folder", overrides)
    predictor = load(path)
    source = _open(recipe)
    return evaluate(predictor, source, _choose(source, part), _batch(recipe), views)


def evaluate_recipe(
    name: str, overrides: Sequence[str] = (), part: str | None = None, views: str = "one"
) -> Evaluation:
    """Evaluate a recipe's pretrained model as it is, on ImageNet's classes, all or some.

    Raises:
        DataError: where the images are at fault.
        RecipeError: where the recipe is.
        WeightsError: where the weights are.
    """
    recipe = load_recipe(name, overrides, require=["data.root", "model.weights"])
    if recipe.model.weights == "none":
        raise DataError("model.weights is 'none': random weights have nothing to evaluate; name weights or a run")
    settings = recipe.model
    model = create_model(settings.variant, settings.weights, family=settings.family, classes=imagenet_classes())
    model.preprocessing = model.preprocessing.at_size(recipe.data.image_size, recipe.data.crop)
    source = _open(recipe)
    evaluation = evaluate(Predictor(model), source, _choose(source, part), _batch(recipe), views)
    return replace(evaluation, published=_published(recipe, evaluation.prefix))


def write_json(values: Mapping[str, object], path: Path) -> None:
    """Write ``values`` as JSON; an interrupted write leaves what was there."""
    atomic_write_text(path, json.dumps(values, indent=2) + "\n")


def _published(recipe: Recipe, prefix: str) -> dict[str, float]:
    """Return the published accuracies, on the whole of ImageNet's validation images."""
    record = resolve_weights(recipe.model.variant, recipe.model.weights, recipe.model.family)
    values = {"acc1": record.top1, "acc5": record.top5} if record else {}
    return {f"{prefix}/{name}": value / 100 for name, value in values.items() if value is not None}


def _open(recipe: Recipe) -> Source:
    data = recipe.data
    return open_source(
        data.source,
        data.root,
        images=data.images,
        ground_truth=data.ground_truth,
        download=data.download == "on",
        for_training=False,
    )


def _batch(recipe: Recipe) -> int:
    return DEFAULT_BATCH if recipe.data.batch_size == "auto" else recipe.data.batch_size


def _choose(source: Source | Split, part: str | None) -> str:
    """Return the part asked for; without one the test split, else validation, else all."""
    present = [name for name in (*SPLITS, "all") if source.part(name)]
    if part is None:
        part = next(name for name in ("test", "val", "all", "train") if name in present)
    if part not in present:
        raise DataError(f"{source.root} has no {part} part; it has: {', '.join(present)}")
    return part
