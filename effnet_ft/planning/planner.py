"""From a recipe to its plan."""

from dataclasses import replace
from typing import Any

from effnet_ft.errors import RecipeError
from effnet_ft.models.variants import STAGES
from effnet_ft.planning.devices import plan_trainer
from effnet_ft.planning.facts import Machine
from effnet_ft.planning.phases import LargestBatch, PhaseSettings, plan_phase, with_batch, with_search_and_compile
from effnet_ft.planning.sources import choose_sources, image_source
from effnet_ft.planning.weights import WeightsChoice
from effnet_ft.recipe import DEFAULT_BATCH, Recipe
from effnet_ft.recipe.plan import DataPlan, ImageFacts, PhasePlan, Plan, StorePlan, TrainerPlan
from effnet_ft.utils.machine_resources import default_workers


def make_plan(
    recipe: Recipe,
    images: ImageFacts,
    weights: WeightsChoice,
    machine: Machine,
    *,
    run_dir: str = "",
    largest_batch: LargestBatch | None = None,
) -> Plan:
    """Decide everything that can be known before training.

    Args:
        recipe: what is wanted.
        images: the facts of the images.
        weights: from :func:`effnet_ft.planning.weights.choose_weights`.
        machine: the facts of the machine.
        run_dir: where the run is written.
        largest_batch: tries batches on a GPU, for ``batch_size: auto``; None takes the usual one.

    Raises:
        RecipeError: if settings contradict each other, the images or the machine.
    """
    trainer, reasons = plan_trainer(recipe.trainer, machine)
    reasons = {**weights.reasons, **reasons}
    phases: list[PhasePlan] = []
    for index in range(len(recipe.phases)):
        phase, why = plan_phase(recipe, index, images, trainer, weights.image_size, largest_batch)
        phases.append(phase)
        reasons |= why
    if faults := _contradictions(recipe, images, trainer, phases):
        raise RecipeError(faults)
    room = machine.cache_bytes if recipe.store.max_gb is None else int(min(recipe.store.max_gb, 1e9) * 1e9)
    if recipe.store.max_gb is None:
        reasons["store.max_bytes"] = f"half of what is free for {machine.cache}"
    if recipe.data.workers == "auto":
        reasons["data.workers"] = "one core is left for training"
    plan = Plan(
        seed=recipe.seed,
        run_dir=run_dir,
        images=images,
        model=weights.model,
        data=_data(recipe, weights, phases),
        store=StorePlan(recipe.store.mode == "keep", recipe.store.views, room, recipe.store.dtype),
        trainer=trainer,
        phases=tuple(phases),
    )
    decided, sources = choose_sources(plan, machine.memory_bytes)
    decided, searches = with_search_and_compile(replace(plan, phases=decided), recipe, machine.compiler)
    return replace(plan, phases=decided, reasons={**reasons, **sources, **searches})


def with_free_settings(plan: Plan, recipe: Recipe, memory_bytes: int) -> Plan:
    """Return the plan of an interrupted run with the settings of ``recipe`` that do not change what is trained.

    They include smaller batches of the same product; larger ones did not fit.

    Args:
        plan: of the run.
        recipe: of the run, with the user's overrides.
        memory_bytes: that decoded images may take in memory.
    """
    data, trainer = recipe.data, recipe.trainer
    phases = []
    for phase in plan.phases:
        settings = PhaseSettings(recipe, recipe.phases[phase.index])
        batch, accumulate = settings["batch_size"], settings["accumulate"]
        wanted = phase.batch_size * phase.optim.accumulate
        if batch != "auto" and batch < phase.batch_size and batch * accumulate == wanted:
            phase = with_batch(plan, phase, batch, accumulate)
        phases.append(replace(phase, checkpointing=settings["checkpointing"] == "on"))
    changed = replace(
        plan,
        phases=tuple(phases),
        data=replace(
            plan.data,
            root=data.given_root,
            images=data.images,
            decoded=data.decoded,
            download=data.download == "on",
            workers=default_workers() if data.workers == "auto" else data.workers,
        ),
        trainer=replace(
            plan.trainer,
            checkpoint_minutes=trainer.checkpoint_minutes,
            timeout_minutes=trainer.timeout_minutes,
            loggers=tuple(trainer.loggers),
        ),
    )
    if data.decoded == plan.data.decoded:
        return changed
    sources = [
        phase if phase.source.kind == "stored" else replace(phase, source=image_source(changed, phase, memory_bytes)[0])
        for phase in changed.phases
    ]
    return replace(changed, phases=tuple(sources))


def _data(recipe: Recipe, weights: WeightsChoice, phases: list[PhasePlan]) -> DataPlan:
    data: Any = recipe.data
    same = ("source", "root", "images", "ground_truth", "fit", "val_fraction", "test_fraction", "decoded", "bad_images")
    smallest = min((phase.batch_size for phase in phases), default=DEFAULT_BATCH)
    return DataPlan(
        **{key: getattr(data, key) for key in same},
        download=data.download == "on",
        image_size=weights.image_size,
        crop=weights.crop,
        batch_size=smallest if data.batch_size == "auto" else data.batch_size,
        workers=default_workers() if data.workers == "auto" else data.workers,
    )


def _contradictions(recipe: Recipe, images: ImageFacts, trainer: TrainerPlan, phases: list[PhasePlan]) -> list[str]:
    """Return the faults of settings that are valid one by one."""
    faults = []
    if recipe.trainer.compile == "on" and any(phase.checkpointing for phase in phases):
        faults.append("trainer.compile is 'on', not with trainer.checkpointing: set one of them off")
    for phase in phases:
        alone = phase.batch_size == 1 and not (phase.sync_batchnorm and trainer.processes > 1)
        if alone and phase.cut < STAGES and phase.batchnorm == "train" and phase.image_size <= 32:
            faults.append(
                f"data.batch_size is 1 in phase {phase.number}, whose last maps are 1 x 1 at {phase.image_size} px: "
                "batch norm needs two values; set it to 2, model.batchnorm=frozen or a larger data.image_size"
            )
    if images.multilabel:
        text = "is 'balanced', which is for one class an image: the images have any number of labels"
        if any(phase.balanced for phase in phases):
            faults.append(f"data.sampling {text}")
        if any(phase.optim.class_weights == "balanced" for phase in phases):
            faults.append(f"optim.class_weights {text}")
    return faults
