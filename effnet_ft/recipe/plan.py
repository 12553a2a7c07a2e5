"""The plan: what a run does, with every ``auto`` of its recipe decided. Free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import TypeAdapter, ValidationError

from effnet_ft.models.variants import VARIANTS
from effnet_ft.optim.settings import BatchMixing, Optimization
from effnet_ft.recipe.schema import flat_items
from effnet_ft.utils.atomic_files import atomic_write_text


@dataclass(frozen=True)
class ImageFacts:
    """What a plan needs to know of the images."""

    train: int  # images of the split
    val: int
    test: int
    classes: int
    multilabel: bool = False  # an image has any number of labels
    short_side: int = 0  # median, pixels; 0 if unknown
    long_side: int = 0


@dataclass(frozen=True)
class ModelPlan:
    """Which network."""

    variant: str
    weights: str  # a family, a file, an address or `none`
    family: str
    head: str


@dataclass(frozen=True)
class DataPlan:
    """Which images, and how they are read; the fields are the recipe's keys."""

    source: str
    root: str
    images: str | None
    ground_truth: str | None
    download: bool
    fit: Literal["train", "trainval"]
    image_size: int  # side of the network's input in evaluation, pixels
    crop: str
    batch_size: int  # in evaluation
    workers: int  # processes that read images, per device
    val_fraction: float
    test_fraction: float
    decoded: Literal["auto", "off", "memory", "disk"]
    bad_images: Literal["error", "skip"]


@dataclass(frozen=True)
class StorePlan:
    """Which outputs of frozen stages are stored."""

    keep: bool
    views: int  # of each training image, at most
    max_bytes: int  # of all stored arrays
    dtype: str


@dataclass(frozen=True)
class TrainerPlan:
    """Where and how it runs, in Lightning's words."""

    accelerator: str
    devices: int | str
    num_nodes: int
    processes: int  # on all nodes, one per device
    strategy: str
    precision: str
    checkpoint_minutes: float
    timeout_minutes: float
    loggers: tuple[str, ...]

    @property
    def on_gpu(self) -> bool:
        """Whether it trains on GPUs of NVIDIA or AMD."""
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
    """Where the batches of a phase come from: stored activations of the frozen stages, decoded images or files."""

    kind: Literal["stored", "decoded", "files"]
    views: int = 0  # stored: of each training image, in turn
    cuts: tuple[int, ...] = ()  # stored: computed in one pass over the images, for later phases too
    place: Literal["", "disk", "memory"] = ""  # decoded: where the images are kept
    bytes: int = 0  # that are kept


@dataclass(frozen=True)
class PhasePlan:
    """A stretch of training with one cut, one optimiser and one schedule."""

    index: int  # from 0
    train: str  # what is trained, in the recipe's words
    cut: int  # first trained stage; 9: the head alone
    epochs: int
    steps: int  # of the optimiser, in all epochs
    search: Literal["", "grid of heads", "range test"]  # of the learning rate; empty if it is given
    image_size: int  # side of the network's input, pixels
    batch_size: int  # images per device and batch
    dropout: float  # before the head
    drop_path: float  # stochastic depth of the last block
    batchnorm: Literal["train", "frozen"]  # of the trained stages
    bn_momentum: float  # weight of a batch in the running statistics
    sync_batchnorm: bool  # statistics over all processes
    balanced: bool  # all classes equally often
    compile: bool
    checkpointing: bool
    on_oom: Literal["halve", "stop"]
    patience: int | None  # epochs without improvement that end the phase; None: never
    augmentation: AugmentPlan
    mixing: BatchMixing
    optim: Optimization
    source: BatchSource
    seconds: float | None = None  # expected; None if not measured

    @property
    def number(self) -> int:
        """The phase's number for people, from 1."""
        return self.index + 1


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take; None if not measured."""

    seconds: float | None = None  # from the first image to the report
    disk_bytes: int | None = None  # written to the cache and the run folder
    memory_bytes: int | None = None  # peak, of the device that trains


@dataclass(frozen=True)
class Plan:
    """What a run does."""

    seed: int
    run_dir: str
    images: ImageFacts
    model: ModelPlan
    data: DataPlan
    store: StorePlan
    trainer: TrainerPlan
    phases: tuple[PhasePlan, ...]
    estimate: Estimate = Estimate()
    revision: int = 1  # each change during the run makes the next
    reasons: Mapping[str, str] = field(default_factory=dict)  # of decided values, by their dotted keys
    changes: tuple[str, ...] = ()  # a sentence per later revision

    def revised(self, why: str, reasons: Mapping[str, str] | None = None, **values: Any) -> Self:
        """Return the next revision with other ``values``."""
        changes, reasons = (*self.changes, why), {**self.reasons, **(reasons or {})}
        return replace(self, revision=self.revision + 1, changes=changes, reasons=reasons, **values)

    def with_phase(self, phase: PhasePlan, why: str, reasons: Mapping[str, str] | None = None) -> Self:
        """Return the next revision, in which ``phase`` replaces the one with its index."""
        phases = tuple(phase if other.index == phase.index else other for other in self.phases)
        return self.revised(why, reasons, phases=phases)

    def flat(self) -> dict[str, Any]:
        """Return the decided values by dotted keys, for loggers and comparisons."""
        skipped = ("estimate", "reasons", "changes", "images")
        return dict(flat_items({name: value for name, value in self.to_dict().items() if name not in skipped}))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as in ``plan.yaml``."""
        return _adapter().dump_python(self, mode="json")

    def save(self, path: Path) -> None:
        """Atomically write the plan as YAML."""
        atomic_write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=120))


@cache
def _adapter() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)


def read_plan(path: Path) -> Plan:
    """Return the plan in a file.

    Raises:
        ValueError: if it holds none.
        OSError: if it cannot be read.
    """
    try:
        return _adapter().validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def decided_values(plan: Plan) -> dict[str, Any]:
    """Return what a plan decided for keys that may be ``auto``, by the recipe's dotted keys."""
    keys = {
        "model": ("weights", "family"),
        "data": ("image_size", "crop", "batch_size"),
        "trainer": ("accelerator", "devices", "num_nodes", "precision"),
    }
    found = {f"{name}.{key}": getattr(getattr(plan, name), key) for name, some in keys.items() for key in some}
    found["model.dropout"] = VARIANTS[plan.model.variant].dropout
    for phase in plan.phases:
        key = f"phases.{phase.index}"
        found |= {f"{key}.{name}": getattr(phase, name) for name in ("batch_size", "image_size", "dropout")}
        found |= {f"{key}.accumulate": phase.optim.accumulate, f"{key}.lr": phase.optim.lr}
    return found
