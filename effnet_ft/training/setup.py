"""What comes before the first step: the run folder, the images divided, the model built; and what is refused."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from effnet_ft.data.images.unreadable import drop_unreadable
from effnet_ft.data.sources.source import Source, require_printable_names
from effnet_ft.data.splits.split import (
    Split,
    copies_of_training_images,
    make_split,
    read_split,
    require_images,
    with_digests,
    write_split,
)
from effnet_ft.errors import RecipeError
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.creation import create_model
from effnet_ft.planning.batch_size import batch_that_fits
from effnet_ft.planning.devices import plan_trainer, torch_device
from effnet_ft.planning.estimate import with_estimate
from effnet_ft.planning.facts import Machine, image_facts, machine_facts
from effnet_ft.planning.planner import make_plan
from effnet_ft.planning.weights import choose_weights
from effnet_ft.recipe import Recipe
from effnet_ft.recipe.images import HASHED, images_folder, open_images
from effnet_ft.recipe.plan import ModelPlan, PhasePlan, Plan
from effnet_ft.runs.environment import record_start
from effnet_ft.runs.plan_file import PlanFile
from effnet_ft.runs.run_folder import Run, choose_run_dir, load_model
from effnet_ft.runs.run_lock import INNER_LOCK_NAME
from effnet_ft.utils.array_cache import ArrayCache
from effnet_ft.utils.atomic_files import PARTIAL_SUFFIX, atomic_write_text
from effnet_ft.utils.text import listing

log = logging.getLogger(__name__)


def require_free_folder(run: Run, resume: bool, main: bool) -> None:
    """Refuse a run folder that cannot be begun in, or gone on with.

    Raises:
        RecipeError: where it is in use, or a file.
        DataError: where there is nothing to resume.
    """
    if resume:
        run.require(run.recipe)
    elif run.folder.exists() and not run.folder.is_dir():
        raise RecipeError(f"run_dir is '{run.folder}', which is a file: name a folder")
    elif main and any(_holds(path) for path in run.folder.rglob("*")):
        raise RecipeError(
            f"run_dir is '{run.folder}', which holds files already: name another folder, "
            f"remove it, or go on with it by {shlex.quote(f'resume={run.folder}')}"
        )


def _holds(path: Path) -> bool:
    """Return whether ``path`` is a file that someone may want to keep."""
    return path.is_file() and path.suffix != PARTIAL_SUFFIX and path.name != INNER_LOCK_NAME


def create_run_folder(recipe: Recipe, plan: PlanFile, run: Run, split: Split, resumed: bool) -> None:
    """Make the run folder and write what is known before training; the recipe first, from which it can be resumed.

    A resumed run's recipe is written again: its images may be in another place now.
    """
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"run_dir is '{run.folder}', which cannot be made: {error}") from error
    recipe.save(run.recipe)
    plan.save()
    if not resumed:
        split = with_digests(split, ArrayCache())
        for part in ("val", "test"):
            if copies := copies_of_training_images(split, part):
                what = "are byte-identical copies of training images, so their results are too good"
                log.warning("%d %s images %s\n%s", len(copies), part, what, listing([each.path for each in copies], 3))
        write_split(split, run.split)
        text = "".join(f"{name}\n" for name in split.classes)
        atomic_write_text(run.classes, text, errors="surrogateescape")
    record_start(run.environment)


def split_images(recipe: Recipe) -> Split:
    """Return the recipe's images in training, validation and test parts; what is left out is logged.

    Raises:
        DataError: where the images are at fault.
    """
    settings = recipe.data
    source = open_images(settings)
    require_printable_names(source)
    if settings.source not in HASHED:
        source, skipped = drop_unreadable(source, settings.bad_images, ArrayCache())
        if skipped:
            lines = [f"{path}: {reason}" for path, reason in skipped.items()]
            log.warning("%d files cannot be read and are left out\n%s", len(lines), listing(lines))
    _tell_left_out(source)
    if settings.source == "folder" and (inner := source.inner_folders):
        what = "no image lies in a class folder itself: the classes are the outer folders"
        log.warning("%s\n%s\nnot those inside\n%s", what, listing([*source.classes], 3), listing(inner, 3))
    fractions = {"val_fraction": settings.val_fraction, "test_fraction": settings.test_fraction}
    return make_split(source, **fractions, seed=recipe.seed, fit=settings.fit)


def _tell_left_out(source: Source) -> None:
    """Warn of files that are no images to us."""
    photographs = dict.fromkeys(source.unread_photographs)
    if photographs:
        what = "photographs are of kinds that are not read, and left out: save them as JPEG"
        log.warning("%d %s\n%s", len(photographs), what, listing([*photographs], 3))
    if others := [path for path in source.ignored if path not in photographs]:
        what = "files and folders are passed over: no images, or outside the class folders"
        log.warning("%d %s\n%s", len(others), what, listing(others, 3))


def read_run(run: Run, recipe: Recipe) -> tuple[Classifier, Split]:
    """Return the model of an interrupted run, and its images where ``recipe`` says that they lie now.

    Raises:
        DataError: where images are missing.
    """
    model = load_model(run.last)
    split = read_split(run.split, images_folder(recipe.data), model.classes)
    require_images(split)
    return model, split


def new_plan(recipe: Recipe, split: Split, machine: Machine, run_dir: str) -> Plan:
    """Return the plan of a new run.

    Raises:
        RecipeError: where settings do not go together, with the images or with the machine.
        WeightsError: where the weights cannot be had.
    """
    weights = choose_weights(recipe.model, recipe.data)
    trainer, _ = plan_trainer(recipe.trainer, machine)

    def largest(phase: PhasePlan, wanted: int) -> int:
        model, device = weights.model, torch_device(trainer)
        return batch_that_fits(phase, wanted, model.variant, model.head, len(split.classes), trainer.precision, device)

    plan = make_plan(recipe, image_facts(split), weights, machine, run_dir=run_dir, largest_batch=largest)
    files = [path for sample in split.train[:16] if isinstance(path := split.image(sample), Path)]
    return with_estimate(plan, files)


def dry_plan(recipe: Recipe) -> Plan:
    """Return the plan of a training that is not begun.

    Errors are those of :func:`split_images` and :func:`new_plan`.
    """
    return new_plan(recipe, split_images(recipe), machine_facts(), choose_run_dir(recipe))


def log_image_notes(plan: Plan) -> None:
    """Log what a look at the images says of the settings."""
    if plan.data.fit == "trainval":
        log.info("the validation images are trained on too: they choose no epoch, the last one is kept as the best")
    side, size = plan.images.short_side, plan.data.image_size
    if side and side < 0.75 * size:
        log.info("images of about %d px are enlarged to %d px", side, size)


def build_model(network: ModelPlan, image_size: int, crop: str, split: Split) -> Classifier:
    """Return the pretrained network with a new head for the split's classes."""
    model = create_model(
        network.variant,
        network.weights,
        family=network.family,
        classes=split.classes,
        head=network.head,
        task="multi" if split.multilabel else "single",
    )
    model.preprocessing = model.preprocessing.at_size(image_size, crop)
    return model
