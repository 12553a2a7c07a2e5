"""The plan: what a run does, with every ``auto`` of its recipe decided.

:mod:`effnet_ft.planning` makes it; training, report and resume read it. What is only known on the way, such as a
learning rate that is searched, makes the next revision. Free of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from effnet_ft.models.variants import VARIANTS
from effnet_ft.optim.settings import BatchMixing, Optimization
from effnet_ft.recipe.schema import flat_items
from effnet_ft.utils.atomic_files import atomic_write_text


@dataclass(frozen=True)
class ImageFacts:
    """What a plan needs to know of the images.

    Attributes:
        train: training images; ``val`` and ``test`` likewise.
        classes: how many there are.
        multilabel: an image has any number of labels.
        short_side: median of the images' short sides, pixels; 0 where it is not known.
        long_side: likewise.
    """

    train: int
    val: int
    test: int
    classes: int
    multilabel: bool = False
    short_side: int = 0
    long_side: int = 0


@dataclass(frozen=True)
class ModelPlan:
    """Which network; ``weights`` is a family, a file, an address or ``none``."""

    variant: str
    weights: str
    family: str
    head: str


@dataclass(frozen=True)
class DataPlan:
    """Which images, and how they are read; the fields are the recipe's keys.

    Attributes:
        image_size: side of the network's input in evaluation, pixels.
        batch_size: images at once in evaluation.
        workers: processes that read images, a device.
    """

    source: str
    root: str
    images: str | None
    ground_truth: str | None
    download: bool
    fit: Literal["train", "trainval"]
    image_size: int
    crop: str
    batch_size: int
    workers: int
    val_fraction: float
    test_fraction: float
    decoded: str
    bad_images: Literal["error", "skip"]


@dataclass(frozen=True)
class StorePlan:
    """What frozen stages compute is kept.

    Attributes:
        keep: use the store at all.
        views: most views of each training image.
        max_bytes: that all kept arrays may take.
        dtype: of the kept values.
    """

    keep: bool
    views: int
    max_bytes: int
    dtype: str


@dataclass(frozen=True)
class TrainerPlan:
    """Where and how it runs; the words are Lightning's.

    Attributes:
        processes: on all nodes together, one a device.
    """

    accelerator: str
    devices: int | str
    num_nodes: int
    processes: int
    strategy: str
    precision: str
    checkpoint_minutes: float
    timeout_minutes: float
    loggers: tuple[str, ...]

    @property
    def on_gpu(self) -> bool:
        """Whether it trains on NVIDIA's or AMD's graphics cards."""
        return self.accelerator in ("gpu", "cuda")


@dataclass(frozen=True)
class AugmentPlan:
    """How the training images of a phase are augmented; see :func:`effnet_ft.data.images.transforms.augmentation`."""

    name: str
    erasing: float
    cutout: float
    smallest_crop: float

    @property
    def rates(self) -> dict[str, float]:
        """All but the name, as keyword arguments."""
        return {"erasing": self.erasing, "cutout": self.cutout, "smallest_crop": self.smallest_crop}


@dataclass(frozen=True)
class BatchSource:
    """Where the batches of a phase come from.

    Attributes:
        kind: ``stored`` activations of the frozen stages, ``decoded`` images or image ``files``.
        views: of stored activations, how many views of each training image take turns.
        cuts: of stored activations, the cuts that one pass over the images computes, for later phases too.
        place: of decoded images, where they are kept: on ``disk`` or in ``memory``.
        bytes: what is kept, on disk or in memory.
    """

    kind: Literal["stored", "decoded", "files"]
    views: int = 0
    cuts: tuple[int, ...] = ()
    place: Literal["", "disk", "memory"] = ""
    bytes: int = 0


@dataclass(frozen=True)
class PhasePlan:
    """A stretch of training with one cut, one optimiser and one schedule.

    Attributes:
        index: from 0.
        train: what is trained, in the recipe's words.
        cut: the first trained stage; 9 where the head alone is trained.
        epochs: passes over the training images.
        steps: of the optimiser, in all epochs.
        search: how the learning rate is found, empty where it is given.
        image_size: side of the network's input, pixels.
        batch_size: images a device and batch.
        dropout: rate before the head.
        drop_path: stochastic depth of the last block.
        batchnorm: batch norms of the trained stages, ``train`` or ``frozen``.
        bn_momentum: weight of a batch in the running statistics.
        sync_batchnorm: take the statistics over all processes.
        balanced: show each class equally often.
        compile: compile the training step.
        checkpointing: compute activations again in the backward pass.
        on_oom: begin with half the batch where it does not fit (``halve``), or ``stop``.
        patience: epochs without a better one after which the phase ends; None trains all.
        seconds: expected duration, None where nothing was measured.
    """

    index: int
    train: str
    cut: int
    epochs: int
    steps: int
    search: Literal["", "grid of heads", "range test"]
    image_size: int
    batch_size: int
    dropout: float
    drop_path: float
    batchnorm: Literal["train", "frozen"]
    bn_momentum: float
    sync_batchnorm: bool
    balanced: bool
    compile: bool
    checkpointing: bool
    on_oom: Literal["halve", "stop"]
    patience: int | None
    augmentation: AugmentPlan
    mixing: BatchMixing
    optim: Optimization
    source: BatchSource
    seconds: float | None = None

    @property
    def number(self) -> int:
        """The phase's number for people, from 1."""
        return self.index + 1


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take; None where it was not measured.

    Attributes:
        seconds: from the first image to the report.
        disk_bytes: written to the cache and the run folder.
        memory_bytes: of the device that trains, at its peak.
    """

    seconds: float | None = None
    disk_bytes: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        revision: from 1; each change on the way makes the next.
        reasons: why values are what they are, by their dotted keys.
        changes: what the revisions after the first changed, in words.
    """

    seed: int
    run_dir: str
    images: ImageFacts
    model: ModelPlan
    data: DataPlan
    store: StorePlan
    trainer: TrainerPlan
    phases: tuple[PhasePlan, ...]
    estimate: Estimate = Estimate()
    revision: int = 1
    reasons: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    def revised(self, why: str, reasons: Mapping[str, str] | None = None, **values: Any) -> Plan:
        """Return the next revision with other ``values``."""
        return replace(
            self,
            revision=self.revision + 1,
            changes=(*self.changes, why),
            reasons={**self.reasons, **(reasons or {})},
            **values,
        )

    def with_phase(self, phase: PhasePlan, why: str, reasons: Mapping[str, str] | None = None) -> Plan:
        """Return the next revision, in which ``phase`` takes the place of the one with its index."""
        phases = tuple(phase if other.index == phase.index else other for other in self.phases)
        return self.revised(why, reasons, phases=phases)

    def flat(self) -> dict[str, Any]:
        """Return the decided values by dotted keys, for loggers and comparisons."""
        left_out = ("estimate", "reasons", "changes", "images")
        return dict(flat_items({name: value for name, value in self.to_dict().items() if name not in left_out}))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, from which :func:`plan_from_dict` makes an equal plan."""
        plain: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return plain

    def save(self, path: Path) -> None:
        """Write the plan as YAML; an interrupted write leaves what was there."""
        import yaml

        atomic_write_text(
            path,
            yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=120),
        )


def decided_values(plan: Plan) -> dict[str, Any]:
    """Return what a plan decided for keys that may be ``auto``, by the recipe's dotted keys."""
    found: dict[str, Any] = {
        "model.weights": plan.model.weights,
        "model.family": plan.model.family,
        "model.dropout": VARIANTS[plan.model.variant].dropout,
        "data.image_size": plan.data.image_size,
        "data.crop": plan.data.crop,
        "data.batch_size": plan.data.batch_size,
        **{
            f"trainer.{key}": getattr(plan.trainer, key) for key in ("accelerator", "devices", "num_nodes", "precision")
        },
    }
    for phase in plan.phases:
        key = f"phases.{phase.index}"
        found |= {f"{key}.{name}": getattr(phase, name) for name in ("batch_size", "image_size", "dropout")}
        found |= {f"{key}.accumulate": phase.optim.accumulate, f"{key}.lr": phase.optim.lr}
    return found


def plan_from_dict(values: Mapping[str, Any]) -> Plan:
    """Return the plan of :meth:`Plan.to_dict`.

    Raises:
        ValueError: where ``values`` are not those of a plan.
    """
    from pydantic import ValidationError

    try:
        plan: Plan = _adapter().validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return plan


def read_plan(path: Path) -> Plan:
    """Return the plan in a file.

    Raises:
        ValueError: where it cannot be read as one.
        OSError: where it is not there.
    """
    import yaml

    try:
        return plan_from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error


def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Plan)
