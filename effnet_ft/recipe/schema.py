"""Every key of a recipe: its type, its default, its limits and its meaning. They stand here alone."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, create_model, model_serializer

from effnet_ft.data.images.transforms import AUGMENTATIONS, SMALLEST_CROP
from effnet_ft.data.sources.published.table import PUBLISHED
from effnet_ft.models.heads import HEADS
from effnet_ft.models.variants import STAGES, VARIANTS
from effnet_ft.models.weights.table import FAMILIES
from effnet_ft.optim.optimizers import OPTIMISERS, SCHEDULES
from effnet_ft.preprocessing import CROPS
from effnet_ft.recipe.settings import PathText, Settings, Text, is_text, key, mark, one_of, phase_key, properties
from effnet_ft.utils.atomic_files import atomic_write_text

DEFAULT_BATCH = 32
"""Images a device and step of the optimiser, before accumulation, where the recipe names no number."""

if TYPE_CHECKING:  # where a value is used, it is decided and set
    Auto: TypeAlias = Any
    NotSet: TypeAlias = Any
else:
    Auto, NotSet = Literal["auto"], None
Off = Literal["off"]
OnOff = Literal["on", "off"]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Part = Annotated[float, Field(gt=0, lt=1)]
Devices = Annotated[str, Field(pattern=r"^(auto|\[\d[\d, ]*\]|\d+,[\d, ]*)$", examples=["auto", "0,2"])]


class ModelSettings(Settings):
    """Which network."""

    variant: Annotated[str, one_of(VARIANTS)] = key("lite0", "the architecture")
    weights: PathText = key("auto", "pretrained: a family, a file, a URL, none, or auto (the best published)")
    family: Annotated[str, one_of(["auto", *FAMILIES])] = key("auto", "how a file was trained, where it does not say")
    head: Annotated[str, one_of(HEADS)] = key("linear", "the classifier on the pooled features")
    dropout: Rate | Auto = phase_key("auto", "rate before the head")
    drop_path: Rate = phase_key(0.2, "stochastic depth: block i of N is dropped at this rate times i/N")
    batchnorm: Literal["train", "frozen"] = phase_key("train", "batch norms of trained stages: train or frozen")
    bn_momentum: Share | Auto = phase_key(
        0.01, "weight of a batch in the running statistics; auto: min(10 / steps an epoch, 0.1) a step"
    )


class DataSettings(Settings):
    """Which images."""

    source: Annotated[str, one_of(["folder", "manifest", "imagenet", *PUBLISHED])] = key(
        "folder", "how the images are laid out, or a published set"
    )
    root: PathText | NotSet = key(
        None,
        "the folder of images, e.g. data.root=path/to/images; a published set is put there",
        affects_training=False,
    )
    images: PathText | None = key(
        None, "source manifest: the folder its paths are relative to; not set: its own", affects_training=False
    )
    download: OnOff = key("on", "get the files of a published set that are not in its root", affects_training=False)
    fit: Literal["train", "trainval"] = key("train", "images to train on; trainval: those for validation too, at last")
    ground_truth: PathText | None = key(
        None, "source imagenet: the list of flat images' classes; looked for if not set"
    )
    image_size: Annotated[int, Field(ge=32)] | Auto = phase_key("auto", "side of the network's input, pixels")
    crop: Annotated[str, one_of(["auto", *CROPS])] = key(
        "auto", "central crop of evaluation: as timm or OpenMMLab do it"
    )
    batch_size: Count | Auto = phase_key(DEFAULT_BATCH, "images a device and step; auto: what fits")
    augment: Annotated[str, one_of(AUGMENTATIONS)] = phase_key("basic", "augmentation of the training images")
    smallest_crop: Share = phase_key(
        SMALLEST_CROP,
        "share of an image's area that a random crop has at least; ImageNet trainings take 0.08. Large images are "
        "reduced to twice the input's size before, so that crops under 0.25 are enlarged",
    )
    erasing: Annotated[float, Field(ge=0, le=1)] = phase_key(0.0, "how often a random rectangle is replaced by noise")
    cutout: Rate = phase_key(0.0, "side of a blanked square, a share of the input's side; 0 for none")
    mixup: NonNegativeFloat = phase_key(0.0, "alpha of MixUp, e.g. 0.2; 0 mixes nothing")
    cutmix: NonNegativeFloat = phase_key(0.0, "alpha of CutMix, e.g. 1.0; 0 mixes nothing")
    sampling: Literal["uniform", "balanced"] = phase_key("uniform", "balanced shows each class equally often")
    workers: NonNegativeInt | Auto = key("auto", "processes that read images, a device", affects_training=False)
    val_fraction: Part = key(0.15, "share of the images held out where there is no val/")
    test_fraction: Part = key(0.15, "share of the images held out where there is no test/")
    decoded: Literal["auto", "off", "memory", "disk"] = key(
        "auto",
        "keep decoded images between epochs; auto: on disk, or in memory where only that has room",
        affects_training=False,
    )
    bad_images: Literal["error", "skip"] = key("error", "files that cannot be read: refuse, or leave out")


class StoreSettings(Settings):
    """What is computed once and kept."""

    mode: Literal["keep", "off"] = key("keep", "keep what frozen stages make of the images, or do not")
    views: Count = key(4, "views of each training image: itself, its mirror image, then augmented ones")
    max_gb: PositiveFloat | None = key(None, "all that may be kept, GB; not set: half of the disk's free space")
    dtype: Literal["float16", "float32"] = key("float16", "of the kept values")


class OptimSettings(Settings):
    """How the weights move."""

    name: Annotated[str, one_of(OPTIMISERS)] = phase_key("adamw", "the optimiser")
    momentum: Rate = phase_key(0.9, "of sgd and rmsprop")
    weight_decay: NonNegativeFloat = phase_key(1e-4, "not applied to norms and biases")
    decay_unit: Literal["rate", "step"] = phase_key(
        "rate", "weight_decay is per unit of learning rate, or what a step at the highest learning rate takes off"
    )
    schedule: Annotated[str, one_of(SCHEDULES)] = phase_key("cosine", "course of the learning rate in a phase")
    warmup_epochs: NonNegativeFloat = phase_key(0.3, "linear rise at the start of a phase, epochs")
    step_epochs: PositiveFloat = phase_key(2.4, "schedule step: epochs between two drops")
    step_factor: Share = phase_key(0.97, "schedule step: factor of a drop")
    layer_decay: Share = phase_key(1.0, "a stage's learning rate is that of the next one times this")
    class_weights: Literal["off", "balanced"] = phase_key("off", "balanced weighs the loss of rare classes higher")
    label_smoothing: Rate = phase_key(0.1, "mass given to the other classes")
    ema: Part | Off = phase_key("off", "decay of the averaged weights")
    clip_norm: PositiveFloat | Off = phase_key("off", "largest norm of the gradient")
    accumulate: Count = phase_key(1, "batches a step of the optimiser")
    lr_scaling: Literal["off", "linear", "sqrt"] = phase_key(
        "off", "how lr grows with the images a step of all processes; not where lr is auto"
    )
    lr_batch: Count = phase_key(256, "lr_scaling: the images a step that lr is meant for")


class TrainerSettings(Settings):
    """Where and how it runs; the words are Lightning's."""

    accelerator: Text = key("auto", "cpu, gpu, mps, ...")
    devices: Count | Devices = key("auto", "how many, or a list such as '0,2'")
    num_nodes: Count | Auto = key("auto", "machines; auto: as torchrun or SLURM started it, else 1")
    strategy: Text = key("auto", "ddp, ... : Lightning's strategies")
    sync_batchnorm: OnOff = phase_key(
        "off", "batch norms that train take their statistics over the batches of all processes"
    )
    precision: Literal["auto", "bf16-mixed", "16-mixed", "32-true"] = key(
        "auto", "of what is computed, weights are float32; auto: bf16-mixed on a GPU that computes in it, else 32-true"
    )
    compile: Literal["auto", "on", "off"] = key(
        "auto", "torch.compile; auto: on a GPU, where the phase is long enough to earn it back; not with checkpointing"
    )
    checkpointing: OnOff = phase_key(
        "off", "compute activations again in the backward pass: less memory", affects_training=False
    )
    on_oom: Literal["halve", "stop"] = phase_key(
        "halve", "a batch that the GPU does not hold: begin the phase again with half of it, accumulated; or stop"
    )
    patience: Count | Off = phase_key("off", "end a phase after so many epochs without a better one")
    checkpoint_minutes: NonNegativeFloat = key(
        10.0,
        "write a checkpoint so often within an epoch; 0: after every step (several processes: every 10 batches)",
        affects_training=False,
    )
    timeout_minutes: PositiveFloat = key(
        30.0, "how long a process waits within a step for the others before it gives them up", affects_training=False
    )
    loggers: list[Literal["tensorboard", "wandb", "mlflow"]] = key([], "beside metrics.csv", affects_training=False)


SECTIONS: dict[str, type[Settings]] = {
    "model": ModelSettings,
    "data": DataSettings,
    "store": StoreSettings,
    "optim": OptimSettings,
    "trainer": TrainerSettings,
}


@cache
def per_phase_keys() -> dict[str, str]:
    """Return the keys a phase may override, each with the section it comes from."""
    return {
        name: section
        for section, kind in SECTIONS.items()
        for name, field in kind.model_fields.items()
        if mark(field, "per_phase")
    }


class _Phase(Settings):
    """A stretch of training with one cut. Keys of the sections, set here, hold in this phase alone."""

    train: Annotated[str, one_of(["head", *(f"stage{k}" for k in range(STAGES)), "all"])] = key(..., "what is trained")
    epochs: Count = key(..., "passes over the training images")
    lr: PositiveFloat | Auto = key(..., "highest learning rate of the phase; auto: searched")

    @property
    def overrides(self) -> dict[str, Any]:
        """The recipe's keys that this phase sets otherwise."""
        return {name: value for name in per_phase_keys() if (value := getattr(self, name)) is not None}

    @model_serializer
    def _without_unset(self) -> dict[str, Any]:
        return {"train": self.train, "epochs": self.epochs, "lr": self.lr, **self.overrides}


if TYPE_CHECKING:
    Phase = _Phase
else:  # with a field, None where it is not set, for each of the sections' keys that a phase may have
    Phase = create_model(
        "Phase",
        __base__=_Phase,
        __module__=__name__,
        __doc__=_Phase.__doc__,
        **{
            name: (field.rebuild_annotation(), key(None, field.description))
            for section in SECTIONS.values()
            for name, field in section.model_fields.items()
            if name in per_phase_keys()
        },
    )


class Recipe(Settings):
    """A whole recipe, checked."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = key(
        0, "of the split, the shuffling, the augmentation and the new head"
    )
    model: ModelSettings = Field(default_factory=ModelSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    phases: list[Phase] = Field(default_factory=list)
    optim: OptimSettings = Field(default_factory=OptimSettings)
    trainer: TrainerSettings = Field(default_factory=TrainerSettings)
    run_dir: PathText = key(
        "auto", "where the run is written; auto is runs/DATA-VARIANT, numbered", affects_training=False
    )

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists that, as YAML, :func:`effnet_ft.load_recipe` reads back to an equal recipe."""
        return self.model_dump()

    def save(self, path: Path) -> None:
        """Write the recipe as YAML to ``path``."""
        from omegaconf import OmegaConf

        # Interpolation marks in a value are the user's own characters by now, not OmegaConf's.
        text = OmegaConf.to_yaml(OmegaConf.create(_escaped(self.to_dict())))
        atomic_write_text(path, text)


@cache
def text_keys() -> list[str]:
    """Return the dotted keys that take any text, which is kept as it was typed: ``2024`` and ``on`` may be names."""
    return [dotted for dotted, kind, name in _every_key() if is_text(properties(kind)[name])]


def keys_not_affecting_training() -> list[str]:
    """Return the dotted keys that a resumed run may have otherwise than before."""
    return [dotted for dotted, kind, name in _every_key() if mark(kind.model_fields[name], "affects_training") is False]


def _every_key() -> list[tuple[str, type[Settings], str]]:
    kinds: dict[str, type[Settings]] = {**{f"{name}.": kind for name, kind in SECTIONS.items()}, "": Recipe}
    return [(f"{section}{name}", kind, name) for section, kind in kinds.items() for name in kind.model_fields]


def flat(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's values by dotted keys."""
    found: dict[str, Any] = {}

    def walk(value: Any, key: str) -> None:
        entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if entries is None:
            found[key] = value
        else:
            for name, entry in entries:
                walk(entry, f"{key}.{name}" if key else str(name))

    walk(recipe.to_dict(), "")
    return found


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_escaped(entry) for entry in value]
    # A backslash before the mark must be doubled, or it would escape the escape.
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
