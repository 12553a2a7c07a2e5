"""Measures a model on labelled images and writes what came out."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from effnet_ft.data.imagenet import scan_imagenet
from effnet_ft.data.sources import SPLITS, Sample, Source, scan_folder
from effnet_ft.data.splits import Split, read_split, require_images
from effnet_ft.errors import DataError, RecipeError, listing
from effnet_ft.models.creation import create_model, imagenet_classes
from effnet_ft.models.provenance import record_of
from effnet_ft.recipe import DEFAULT_BATCH, Recipe, load_recipe
from effnet_ft.results.metrics import classification_metrics
from effnet_ft.results.predict import Predictor, load
from effnet_ft.results.run import Run


@dataclass(frozen=True)
class Evaluation:
    """A model's answers to labelled images.

    Attributes:
        name: of the part that was evaluated: ``train``, ``val``, ``test`` or ``all``.
        samples: the images.
        probabilities: float32 ``[N, K]``.
        labels: class indices in the model's order, ``[N]``.
        classes: the model's classes.
        published: accuracies of the pretrained weights, fractions of 1, by the metrics' names.
    """

    name: str
    samples: Sequence[Sample]
    probabilities: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    published: Mapping[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics, named ``test/acc1`` and so on; ``all`` counts as ``test``."""
        return classification_metrics(self.probabilities, self.labels, self.prefix)

    @property
    def prefix(self) -> str:
        """The part as the metrics' names begin with it."""
        return "test" if self.name == "all" else self.name

    def write_predictions(self, path: Path) -> None:
        """Write CSV with the columns path, label, prediction, probability."""
        best = self.probabilities.argmax(1)
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "prediction", "probability"])
            for sample, index, row in zip(self.samples, best, self.probabilities, strict=True):
                writer.writerow([sample.path, sample.label, self.classes[index], f"{row[index]:.6f}"])


def evaluate(predictor: Predictor, source: Source | Split, name: str, batch_size: int) -> Evaluation:
    """Return the model's answers to the part ``name`` of ``source``, whose classes are matched by name.

    Raises:
        DataError: where a class is not the model's, or an image cannot be read.
    """
    samples = source.part(name)
    index = {label: number for number, label in enumerate(predictor.classes)}
    if strange := sorted({sample.label for sample in samples} - set(index)):
        raise DataError(
            f"{len(strange)} classes of {source.root} are not among the {len(index)} that the model knows:\n"
            f"{listing(strange)}"
        )
    images = [source.image(sample) for sample in samples]
    probabilities = predictor.probabilities(images, batch_size, title=f"evaluating {name}")
    labels = np.array([index[sample.label] for sample in samples], dtype=np.int64)
    return Evaluation(name, samples, probabilities, labels, predictor.classes)


def evaluate_run(run: Run, overrides: Sequence[str] = (), part: str | None = None) -> Evaluation:
    """Evaluate a run's best checkpoint on its own images, or on others by ``data.root=...``.

    Args:
        run: the run.
        overrides: of its recipe.
        part: ``train``, ``val``, ``test`` or ``all``; None takes what the run was measured on.

    Raises:
        DataError: where run or images are at fault.
        RecipeError: where an override is.
    """
    run.require(run.recipe, run.split, run.best)
    allowed = ("data.root=", "data.batch_size=")
    if strange := [text for text in overrides if not text.startswith(allowed)]:
        raise RecipeError(
            f"a finished run is evaluated as it is; only data.root and data.batch_size can be set: {strange}"
        )
    recipe = load_recipe(run.recipe, overrides, require=["data.root"])
    predictor = load(run.best)
    split = read_split(run.split, Path(recipe.data.root).expanduser(), predictor.classes)
    try:
        require_images(split)
    except DataError:
        if not any(text.startswith("data.root=") for text in overrides):
            raise
        source = scan_folder(recipe.data.root, for_training=False)  # other images than the run's
        return evaluate(predictor, source, _choose(source, part), _batch(recipe))
    return evaluate(predictor, split, _choose(split, part), _batch(recipe))


def evaluate_recipe(name: str, overrides: Sequence[str] = (), part: str | None = None) -> Evaluation:
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
    data = recipe.data
    if data.source == "imagenet":
        source = scan_imagenet(data.root, imagenet_classes(), data.ground_truth)
    else:
        source = scan_folder(data.root, for_training=False)
    evaluation = evaluate(Predictor(model), source, _choose(source, part), _batch(recipe))
    return replace(evaluation, published=_published(recipe, evaluation.prefix))


def measure(split: Split, predictor: Predictor, batch_size: int) -> tuple[dict[str, float], Evaluation]:
    """Return a finished training's metrics on validation and, where there is one, test; and the evaluation to keep."""
    parts = {name: evaluate(predictor, split, name, batch_size) for name in ("val", "test") if split.part(name)}
    metrics = {key: value for part in parts.values() for key, value in part.metrics.items()}
    return metrics, parts[split.held_out]


def write_json(values: Mapping[str, object], path: Path) -> None:
    """Write ``values`` as JSON; an interrupted write leaves what was there."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _published(recipe: Recipe, prefix: str) -> dict[str, float]:
    """Return the published accuracies, on the whole of ImageNet's validation images."""
    record = record_of(recipe.model.variant, recipe.model.weights, recipe.model.family)
    values = {"acc1": record.top1, "acc5": record.top5} if record else {}
    return {f"{prefix}/{name}": value / 100 for name, value in values.items() if value is not None}


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
