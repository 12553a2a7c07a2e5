"""Before the first step: the run folder, the images and their split, the plan and the model."""

import logging
import shlex
from pathlib import Path

from effnet_ft.data.images.unreadable import drop_unreadable
from effnet_ft.data.sources.source import require_usable_names
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
from effnet_ft.utils.text import counted, listing

log = logging.getLogger(__name__)


def require_free_folder(run: Run, resume: bool, main: bool) -> None:
    """Raise a :class:`RecipeError` if the folder has files; to ``resume``, a :class:`DataError` if it has no run."""
    if resume:
        return run.require(run.recipe)
    if run.folder.exists() and not run.folder.is_dir():
        raise RecipeError(f"run_dir is '{run.folder}', which is a file: name a folder")
    files = (path for path in run.folder.rglob("*") if path.is_file())
    if main and any(path.suffix != PARTIAL_SUFFIX and path.name != INNER_LOCK_NAME for path in files):
        raise RecipeError(
            f"run_dir is '{run.folder}', which already has files: name another folder, remove it, or resume the run "
            f"with {shlex.quote(f'resume={run.folder}')}"
        )
    return None


def create_run_folder(recipe: Recipe, plan: PlanFile, run: Run, split: Split, resumed: bool) -> None:
    """Create the run folder and write what is known before training, starting with the recipe, which resuming needs.

    A resumed run's recipe is written again, as the folder of its images may have changed.
    """
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"run_dir is '{run.folder}', which cannot be created: {error}") from error
    recipe.save(run.recipe)
    plan.save()
    if not resumed:
        split = with_digests(split, ArrayCache())
        for part in ("val", "test"):
            if copies := copies_of_training_images(split, part):
                text = "%s byte-identical to training images, so the results are too good\n%s"
                paths = [each.path for each in copies]
                log.warning(text, counted(len(copies), f"{part} image"), listing(paths, 3))
        write_split(split, run.split)
        text = "".join(f"{name}\n" for name in split.classes)
        atomic_write_text(run.classes, text, errors="surrogateescape")
    record_start(run.environment)


def split_images(recipe: Recipe) -> Split:
    """Return the recipe's images, split; warn of unused files, and raise a :class:`DataError` for wrong ones."""
    settings = recipe.data
    source = open_images(settings)
    require_usable_names(source)
    if settings.source not in HASHED:
        source, skipped = drop_unreadable(source, settings.bad_images, ArrayCache())
        if skipped:
            lines = [f"{path}: {reason}" for path, reason in skipped.items()]
            log.warning("skipping %s that cannot be read\n%s", counted(len(lines), "file"), listing(lines))
    photographs = list(dict.fromkeys(source.unread_photographs))
    if photographs:
        text = "skipping %s of an unsupported format: save as JPEG\n%s"
        log.warning(text, counted(len(photographs), "photograph"), listing(photographs, 3))
    if others := [path for path in source.ignored if path not in set(photographs)]:
        text = "ignoring %s that cannot be images of a class\n%s"
        log.warning(text, counted(len(others), "file or folder", "files and folders"), listing(others, 3))
    if settings.source == "folder" and (inner := source.inner_folders):
        text = "class folders have no images of their own: the classes are the outer folders"
        log.warning("%s\n%s\nnot the inner ones\n%s", text, listing([*source.classes], 3), listing(inner, 3))
    fractions = {"val_fraction": settings.val_fraction, "test_fraction": settings.test_fraction}
    return make_split(source, **fractions, seed=recipe.seed, fit=settings.fit)


def read_run(run: Run, recipe: Recipe) -> tuple[Classifier, Split]:
    """Return an interrupted run's model, and its split with the images where ``recipe`` has them now.

    A :class:`DataError` is raised if images are missing.
    """
    model = load_model(run.last)
    split = read_split(run.split, images_folder(recipe.data), model.classes)
    require_images(split)
    return model, split


def new_plan(recipe: Recipe, split: Split, machine: Machine, run_dir: str) -> Plan:
    """Return the plan of a new run.

    Raises:
        RecipeError: if settings do not fit each other, the images or the machine.
        WeightsError: if the weights cannot be found or downloaded.
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
    """Return the plan without training; errors are those of :func:`split_images` and :func:`new_plan`."""
    return new_plan(recipe, split_images(recipe), machine_facts(), choose_run_dir(recipe))


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
