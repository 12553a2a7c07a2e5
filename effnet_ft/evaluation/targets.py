"""Evaluates what ``effnet-ft evaluate`` takes: a run, a model file, or a recipe's pretrained model."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.sources.source import SPLITS, Sample, Source
from effnet_ft.data.splits.split import Split, digests_of, missing_images, read_split, require_images
from effnet_ft.errors import DataError, RecipeError
from effnet_ft.evaluation.evaluate import Evaluation, evaluate
from effnet_ft.imagenet_classes import imagenet_classes
from effnet_ft.inference.load import load
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.creation import create_model
from effnet_ft.models.weights.resolving import resolve_weights
from effnet_ft.planning.weights import choose_weights
from effnet_ft.recipe import DEFAULT_BATCH, Recipe, load_recipe
from effnet_ft.recipe.images import HASHED, images_folder, open_images
from effnet_ft.recipe.loading import require_settable
from effnet_ft.recipe.plan import ModelPlan
from effnet_ft.runs.run_folder import Run
from effnet_ft.utils.array_cache import ArrayCache
from effnet_ft.utils.text import counted


def evaluate_run(run: Run, overrides: Sequence[str] = (), part: str | None = None, views: str = "one") -> Evaluation:
    """Evaluate a run's best checkpoint on its own images, or on others given by ``data.root=...``.

    Args:
        run: the run.
        overrides: of its recipe: ``data.root``, ``data.images``, ``data.batch_size`` and ``data.image_size``, which
            may differ from the training's (Touvron et al. 2019, arXiv:1906.06423).
        part: ``train``, ``val``, ``test`` or ``all``; None means the split that the run was measured on.
        views: a name in :data:`effnet_ft.inference.predictor.VIEWS`, averaged over.

    Raises:
        DataError: if run or images are at fault.
        RecipeError: for other overrides.
    """
    run.require(run.recipe, run.split, run.best)
    require_settable(overrides, "evaluate", "a finished run is evaluated as it is")
    recipe = load_recipe(run.recipe, overrides, require=["data.root"])
    predictor = load(run.best)
    resized = any(text.startswith("data.image_size=") for text in overrides)
    if resized and recipe.data.image_size != "auto":
        predictor.model.preprocessing = predictor.preprocessing.at_size(recipe.data.image_size)
    split = read_split(run.split, images_folder(recipe.data), predictor.classes)
    moved = any(text.startswith(("data.root=", "data.images=")) for text in overrides)
    images: Source | Split = split
    if not moved:
        require_images(split)
    elif recipe.data.source not in HASHED or missing_images(split):
        published, root = recipe.data.source in HASHED, recipe.data.given_root
        source = scan_folder(root, for_training=False) if published else open_images(recipe.data, for_training=False)
        images = _own_or_all(split, source)
    evaluation = evaluate(predictor, images, _choose_part(images, part), _batch_size(recipe), views)
    if isinstance(images, Source):
        _warn_of_training_images(evaluation, split)
    return evaluation


def evaluate_file(path: Path, overrides: Sequence[str] = (), part: str | None = None, views: str = "one") -> Evaluation:
    """Evaluate an exported model or a checkpoint on labelled images.

    Args:
        path: the file.
        overrides: ``data.root``, which is required; ``data.source`` with its keys for other images than class folders;
            ``data.batch_size``.
        part: ``train``, ``val``, ``test`` or ``all``; None means the test images, else validation, else all.
        views: a name in :data:`effnet_ft.inference.predictor.VIEWS`, averaged over.

    Raises:
        DataError: if the images are at fault.
        RecipeError: for other overrides, or none that gives images.
        WeightsError: if the file cannot be read.
    """
    require_settable(overrides, "file", "a model is evaluated as it was shipped")
    if not any(text.startswith("data.root=") for text in overrides):
        raise RecipeError(f"'{path}' comes without images to measure it on: give labelled ones, data.root=...")
    recipe = load_recipe("folder", overrides)
    predictor = load(path)
    source = open_images(recipe.data, for_training=False)
    return evaluate(predictor, source, _choose_part(source, part), _batch_size(recipe), views)


def evaluate_recipe(
    name: str, overrides: Sequence[str] = (), part: str | None = None, views: str = "one"
) -> Evaluation:
    """Evaluate a recipe's pretrained model, without training, on all or some of ImageNet's classes.

    Raises:
        DataError, RecipeError, WeightsError: if images, recipe or weights are at fault.
    """
    recipe = load_recipe(name, overrides, require=["data.root", "model.weights"])
    chosen = choose_weights(recipe.model, recipe.data)
    network = chosen.model
    if network.weights == "none":
        raise DataError("model.weights is 'none': random weights have nothing to evaluate; name weights or a run")
    model = create_model(network.variant, network.weights, family=network.family, classes=imagenet_classes())
    model.preprocessing = model.preprocessing.at_size(chosen.image_size, chosen.crop)
    source = open_images(recipe.data, for_training=False)
    evaluation = evaluate(Predictor(model), source, _choose_part(source, part), _batch_size(recipe), views)
    return replace(evaluation, published=_published_accuracies(network, evaluation.prefix))


def _own_or_all(split: Split, source: Source) -> Split | Source:
    """Return a run's split with its images' places and labels in ``source``, or ``source`` if it lacks some of them.

    Images are recognised by content; those of runs that did not note it by name, where there are no others.
    """
    own, how = split.part("all"), "content"
    samples = source.part("all")
    if all(sample.digest for sample in own):
        digests = dict(zip(samples, digests_of(source.root, samples, ArrayCache()), strict=True))
        listed = {part: [replace(each, digest=digests[each]) for each in source.part(part)] for part in source.splits}
        source = replace(source, splits=listed)
        found = {each.digest: each for each in source.part("all")}
    else:
        how = "name"
        found = {each.path: each for each in samples}

    def places(samples: Sequence[Sample]) -> list[Sample]:
        keys = [sample.digest if how == "content" else sample.path for sample in samples]
        return [found[key] for key in keys if key in found]

    count = len(places(own))
    if count < len(own) or (how == "name" and len(samples) > count):
        what = f"has {count} of the run's {len(own)} images, by {how}"
        _say(f"{source.root} {what}: all of its {len(samples)} are measured")
        return source
    _say(f"{source.root} has the run's own images, by {how}")
    return replace(split, root=source.root, train=places(split.train), val=places(split.val), test=places(split.test))


def _say(text: str) -> None:
    print(f"effnet-ft: {text}", file=sys.stderr)


def _warn_of_training_images(evaluation: Evaluation, split: Split) -> None:
    """Warn if images are, by content or else by name and label, images that the run was trained on."""
    trained = {sample.digest or (sample.path, sample.label) for sample in (*split.train, *split.val)}
    samples = evaluation.samples
    if count := sum(not trained.isdisjoint((each.digest, (each.path, each.label))) for each in samples):
        _say(
            f"the run was trained or selected on {count} of these {counted(len(samples), 'image')}: the metrics are "
            "too good"
        )


def _published_accuracies(network: ModelPlan, prefix: str) -> dict[str, float]:
    """Return the published accuracies, on all of ImageNet's validation images."""
    record = resolve_weights(network.variant, network.weights, network.family)
    values = {"acc1": record.top1, "acc5": record.top5} if record else {}
    return {f"{prefix}/{name}": value / 100 for name, value in values.items() if value is not None}


def _batch_size(recipe: Recipe) -> int:
    return DEFAULT_BATCH if recipe.data.batch_size == "auto" else recipe.data.batch_size


def _choose_part(source: Source | Split, part: str | None) -> str:
    """Return ``part``, or by default the test split, else validation, else all."""
    present = [name for name in (*SPLITS, "all") if source.part(name)]
    if part is None:
        part = next(name for name in ("test", "val", "all", "train") if name in present)
    if part not in present:
        raise DataError(f"{source.root} has no {part} split; it has: {', '.join(present)}")
    return part
