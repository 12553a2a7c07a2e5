"""A plan for people, and as JSON with each decision's reason beside it."""

from typing import Any

from effnet_ft.recipe.plan import PhasePlan, Plan
from effnet_ft.utils.tables import columns
from effnet_ft.utils.text import counted


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain values; what was decided is ``{"value": ..., "reason": ...}``."""
    values = plan.to_dict()
    reasons = values.pop("reasons")
    for key, reason in reasons.items():
        *path, name = key.split(".")
        place: Any = values
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if name not in place:  # what the recipe gives a phase itself is its optimiser's
            place = place["optim"]
        place[name] = {"value": place[name], "reason": reason}
    return values


def plan_text(plan: Plan) -> str:
    """Return a plan for the terminal: what will be done, why, and the expected time, disk and memory."""
    images, reason = plan.images, plan.reasons.get
    counts = f"{images.train} training, {images.val} validation, {images.test} test, {counted(images.classes, 'class')}"
    trainer, model = plan.trainer, plan.model
    rows = [
        ["images", f"{plan.data.root}: {counts}", ""],
        ["network", f"{model.variant} from {model.weights}", reason("model.weights", "")],
        ["input", f"{plan.data.image_size} px, {plan.data.crop} crop", reason("data.image_size", "")],
        ["machine", f"{trainer.accelerator}, {trainer.strategy}", reason("trainer.accelerator", "")],
        ["devices", f"{trainer.devices} a node, {counted(trainer.num_nodes, 'node')}", reason("trainer.devices", "")],
        ["precision", trainer.precision, reason("trainer.precision", "")],
        ["store", f"at most {_size(plan.store.max_bytes)}", reason("store.max_bytes", "")],
    ]
    for phase in plan.phases:
        rows += _phase_rows(plan, phase)
    return f"{columns(rows)}\n{estimate_text(plan)}\nrun folder: {plan.run_dir}"


def plan_summary(plan: Plan) -> str:
    """Return the plan in a line a phase, for the log of a training."""
    lines = [
        f"  phase {phase.number}: {phase.train}, {_epochs(phase)}, {_source(phase)}, {_duration(phase.seconds)}"
        for phase in plan.phases
    ]
    return "\n".join(["plan:", *lines, f"  {estimate_text(plan)}"])


def estimate_text(plan: Plan) -> str:
    """Return what the run is expected to take, in words."""
    time, disk, memory = plan.estimate.seconds, plan.estimate.disk_bytes, plan.estimate.memory_bytes
    return f"expected: {_duration(time)}, {_size(disk)} of disk, {_size(memory)} of memory"


def _phase_rows(plan: Plan, phase: PhasePlan) -> list[list[str]]:
    key, optim = f"phases.{phase.index}", phase.optim
    found = "not searched yet" if optim.lr is None else f"{optim.lr:.3g}"
    lr = f"{phase.search}, {found}" if phase.search else f"{optim.lr:g}"
    batch = counted(phase.batch_size, "image") + (f" x {optim.accumulate} accumulated" if optim.accumulate > 1 else "")
    return [
        [
            f"phase {phase.number}",
            f"train {phase.train}, {_epochs(phase)}, {counted(phase.steps, 'step')}",
            plan.reasons.get(f"{key}.epochs", ""),
        ],
        ["  batches", f"{batch}, {_source(phase)}", plan.reasons.get(f"{key}.source", "")],
        ["  learning rate", lr, plan.reasons.get(f"{key}.lr", "")],
        ["  takes", _duration(phase.seconds), ""],
    ]


def _epochs(phase: PhasePlan) -> str:
    return counted(phase.epochs, "epoch")


def _source(phase: PhasePlan) -> str:
    source = phase.source
    if source.kind == "stored":
        views = counted(source.views, "view")
        plain = ", none augmented" if source.views <= 2 and phase.augmentation.name != "none" else ""
        return f"from stored activations, {views} of each image{plain}, {_size(source.bytes)}"
    if source.kind == "decoded":
        return f"from decoded images, {_size(source.bytes)} {'on disk' if source.place == 'disk' else 'in memory'}"
    return "from image files"


def _size(count: int | None) -> str:
    return "?" if count is None else f"{count / 1e9:.2f} GB"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown time"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
