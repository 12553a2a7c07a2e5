"""Every key of a recipe: type, default, limits and meaning. Defaults are defined nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, create_model, model_serializer

from effnet_ft.data.images.transforms import AUGMENTATIONS, SMALLEST_CROP
from effnet_ft.data.sources.published.table import PUBLISHED
from effnet_ft.models.heads import HEADS
from effnet_ft.models.variants import STAGES, VARIANTS
from effnet_ft.models.weights.table import FAMILIES
from effnet_ft.optim.optimizers import OPTIMIZERS
from effnet_ft.optim.schedules import SCHEDULES
from effnet_ft.preprocessing import CROPS
from effnet_ft.recipe.settings import PathText, Settings, Text, key, one_of, phase_key, properties
from effnet_ft.utils.atomic_files import atomic_write_text

DEFAULT_BATCH = 32
"""Images per device and batch if the recipe does not say."""

Auto = Literal["auto"]
Off = Literal["off"]
OnOff = Literal["on", "off"]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, lt=1)]
Devices = Annotated[str, Field(pattern=r"^(auto|\[\d[\d, ]*\]|\d+,[\d, ]*)$", examples=["auto", "0,2"])]


class ModelSettings(Settings):
    """Which network."""

    variant: Annotated[str, one_of(VARIANTS)] = key("lite0", "architecture")
    weights: PathText = key("auto", "pretrained weights: a family, a file, a URL, none, or auto (the best published)")
    family: Annotated[str, one_of(["auto", *FAMILIES])] = key("auto", "of a weights file that does not name its own")
    head: Annotated[str, one_of(HEADS)] = key("linear", "classifier on the pooled features")
    dropout: Rate | Auto = phase_key("auto", "dropout rate before the head")
    drop_path: Rate = phase_key(0.2, "stochastic depth: block i of N is dropped at this rate times i/N")
    batchnorm: Literal["train", "frozen"] = phase_key("train", "batch norms of the trained stages: train or frozen")
    bn_momentum: Share | Auto = phase_key(
        0.01, "weight of a batch in running statistics; auto: min(10 / steps per epoch, 0.1)"
    )


class DataSettings(Settings):
    """Which images."""

    source: Annotated[str, one_of(["folder", "manifest", "imagenet", *PUBLISHED])] = key(
        "folder", "image layout, or a published set", settable=("file",)
    )
    root: PathText | None = key(
        None,
        "image folder, e.g. data.root=path/to/images; published sets are put there",
        affects_training=False,
        settable=("move", "evaluate", "file"),
    )
    images: PathText | None = key(
        None,
        "source manifest: folder of its paths; not set: its own",
        affects_training=False,
        settable=("move", "evaluate", "file"),
    )
    download: OnOff = key("on", "download missing files of a published set", affects_training=False, settable=("file",))
    fit: Literal["train", "trainval"] = key("train", "trainval: train on the validation images too, for a final model")
    ground_truth: PathText | None = key(
        None, "source imagenet: class list of flat images; not set: looked for", settable=("file",)
    )
    image_size: Annotated[int, Field(ge=32)] | Auto = phase_key(
        "auto", "side of the input, pixels", settable=("evaluate",)
    )
    crop: Annotated[str, one_of(["auto", *CROPS])] = key("auto", "central crop in evaluation, as in timm or OpenMMLab")
    batch_size: Count | Auto = phase_key(
        DEFAULT_BATCH, "images per device and batch; auto: as many as fit", settable=("evaluate", "file")
    )
    augment: Annotated[str, one_of(AUGMENTATIONS)] = phase_key("basic", "augmentation of training images")
    smallest_crop: Share = phase_key(
        SMALLEST_CROP,
        "smallest area of a random crop, as a share of the image; ImageNet trainings use 0.08. Large images "
        "are first reduced to twice the input size, so smaller crops than 0.25 are enlarged",
    )
    erasing: Probability = phase_key(0.0, "probability that a random rectangle is replaced by noise")
    cutout: Rate = phase_key(0.0, "side of a blank square, as a share of the input's side; 0: none")
    mixup: NonNegativeFloat = phase_key(0.0, "alpha of MixUp, e.g. 0.2; 0: none")
    cutmix: NonNegativeFloat = phase_key(0.0, "alpha of CutMix, e.g. 1.0; 0: none")
    sampling: Literal["uniform", "balanced"] = phase_key("uniform", "balanced: all classes equally often")
    workers: NonNegativeInt | Auto = key("auto", "data-loading processes per device", affects_training=False)
    val_fraction: Part = key(0.15, "share of the images held out if there is no val/")
    test_fraction: Part = key(0.15, "share of the images held out if there is no test/")
    decoded: Literal["auto", "off", "memory", "disk"] = key(
        "auto", "keep decoded images; auto: on disk, or in memory if only that has room", affects_training=False
    )
    bad_images: Literal["error", "skip"] = key("error", "unreadable files: refuse, or leave out")

    @property
    def given_root(self) -> str:
        """``root`` of a recipe that was loaded with it required."""
        assert self.root is not None, "load_recipe(require=['data.root']) refuses a recipe without"
        return self.root


class StoreSettings(Settings):
    """Which outputs of frozen stages are kept."""

    mode: Literal["keep", "off"] = key("keep", "keep the outputs of frozen stages, or compute them every time")
    views: Count = key(4, "views per training image: itself, its mirror image, then augmented ones")
    max_gb: PositiveFloat | None = key(None, "limit of all that is kept, GB; not set: half of the free disk space")
    dtype: Literal["float16", "float32"] = key("float16", "of the kept values")


class OptimSettings(Settings):
    """Optimiser, schedule and loss."""

    name: Annotated[str, one_of(OPTIMIZERS)] = phase_key("adamw", "optimiser")
    momentum: Rate = phase_key(0.9, "of sgd and rmsprop")
    weight_decay: NonNegativeFloat = phase_key(1e-4, "not applied to norms and biases")
    decay_unit: Literal["rate", "step"] = phase_key(
        "rate", "weight_decay is per unit of learning rate, or that of a step at the peak learning rate"
    )
    schedule: Annotated[str, one_of(SCHEDULES)] = phase_key("cosine", "learning rate schedule of a phase")
    warmup_epochs: NonNegativeFloat = phase_key(0.3, "linear warm-up at the start of a phase, epochs")
    step_epochs: PositiveFloat = phase_key(2.4, "schedule step: epochs between drops")
    step_factor: Share = phase_key(0.97, "schedule step: factor of a drop")
    layer_decay: Share = phase_key(1.0, "learning rate of a stage, relative to the next stage's")
    class_weights: Literal["off", "balanced"] = phase_key("off", "balanced: rare classes weigh more in the loss")
    label_smoothing: Rate = phase_key(0.1, "probability given to the other classes")
    ema: Part | Off = phase_key("off", "decay of the exponential moving average of the weights")
    clip_norm: PositiveFloat | Off = phase_key("off", "maximum norm of the gradient")
    accumulate: Count = phase_key(1, "batches per optimiser step")
    lr_scaling: Literal["off", "linear", "sqrt"] = phase_key(
        "off", "scale lr with the images per optimiser step over all processes; not if lr is auto"
    )
    lr_batch: Count = phase_key(256, "lr_scaling: images per optimiser step that lr is meant for")


class TrainerSettings(Settings):
    """Hardware, precision and checkpoints, in Lightning's words."""

    accelerator: Text = key("auto", "cpu, gpu, mps, ...")
    devices: Count | Devices = key("auto", "how many, or a list such as '0,2'")
    num_nodes: Count | Auto = key("auto", "machines; auto: as launched by torchrun or SLURM, else 1")
    strategy: Text = key("auto", "ddp or another of Lightning's strategies")
    sync_batchnorm: OnOff = phase_key("off", "batch norm statistics over the batches of all processes")
    precision: Literal["auto", "bf16-mixed", "16-mixed", "32-true"] = key(
        "auto", "auto: bf16-mixed on a GPU with bfloat16, else 32-true; weights are float32"
    )
    compile: Literal["auto", "on", "off"] = key(
        "auto", "torch.compile; auto: on a GPU, in phases long enough to gain; not with checkpointing"
    )
    checkpointing: OnOff = phase_key("off", "recompute activations in the backward pass", affects_training=False)
    on_oom: Literal["halve", "stop"] = phase_key(
        "halve", "out of GPU memory: restart the phase with half the batch, accumulated, or stop"
    )
    patience: Count | Off = phase_key("off", "end a phase after so many epochs without improvement")
    checkpoint_minutes: NonNegativeFloat = key(
        10.0, "interval within an epoch; 0: every step (several processes: every 10 batches)", affects_training=False
    )
    timeout_minutes: PositiveFloat = key(30.0, "longest wait for other processes within a step", affects_training=False)
    loggers: list[Literal["tensorboard", "wandb", "mlflow"]] = key(
        [], "in addition to metrics.csv", affects_training=False
    )


SECTIONS: dict[str, type[Settings]] = {
    "model": ModelSettings,
    "data": DataSettings,
    "store": StoreSettings,
    "optim": OptimSettings,
    "trainer": TrainerSettings,
}


@cache
def per_phase_keys() -> dict[str, str]:
    """Return the keys that a phase may override, with their sections."""
    every = ((name, section, one) for section, kind in SECTIONS.items() for name, one in properties(kind).items())
    return {name: section for name, section, one in every if one["per_phase"]}


class _Phase(Settings):
    """A stretch of training with one cut. Any per-phase key of the recipe can be overridden here."""

    train: Annotated[str, one_of(["head", *(f"stage{k}" for k in range(STAGES)), "all"])] = key(..., "what to train")
    epochs: Count | None = key(None, "passes over the training images; or give steps")
    steps: Count | None = key(None, "optimiser steps in place of epochs; the nearest number of epochs is trained")
    lr: PositiveFloat | Auto = key(..., "peak learning rate; auto: searched")

    @property
    def overrides(self) -> dict[str, Any]:
        """Keys that this phase sets itself."""
        return {name: value for name in per_phase_keys() if (value := getattr(self, name)) is not None}

    @model_serializer
    def _without_unset(self) -> dict[str, Any]:
        length = {"epochs": self.epochs} if self.steps is None else {"steps": self.steps}
        return {"train": self.train, **length, "lr": self.lr, **self.overrides}


if TYPE_CHECKING:
    Phase = _Phase
else:  # one more field, None if not set, for each key that a phase may override
    per_phase = {name: SECTIONS[section].model_fields[name] for name, section in per_phase_keys().items()}
    Phase = create_model(
        "Phase",
        __base__=_Phase,
        __module__=__name__,
        __doc__=_Phase.__doc__,
        **{name: (field.rebuild_annotation(), key(None, field.description)) for name, field in per_phase.items()},
    )


class Recipe(Settings):
    """A validated recipe."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = key(0, "of split, shuffling, augmentation and new head")
    model: ModelSettings = Field(default_factory=ModelSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    phases: list[Phase] = Field(default_factory=list)
    optim: OptimSettings = Field(default_factory=OptimSettings)
    trainer: TrainerSettings = Field(default_factory=TrainerSettings)
    run_dir: PathText = key("auto", "run folder; auto: runs/DATA-VARIANT, numbered", affects_training=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists, from which ``load_recipe`` makes an equal recipe."""
        return self.model_dump()

    def save(self, path: Path) -> None:
        """Write the recipe as YAML to ``path``."""
        from omegaconf import OmegaConf

        # References are resolved by now: what looks like one is plain text.
        atomic_write_text(path, OmegaConf.to_yaml(OmegaConf.create(_escaped(self.to_dict()))))


@cache
def key_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of every dotted key outside phases."""
    return {f"{name}.{key}": one for name, kind in SECTIONS.items() for key, one in properties(kind).items()} | (
        properties(Recipe)
    )


def flat(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's values by dotted keys."""
    return dict(flat_items(recipe.to_dict()))


def flat_items(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dictionaries and lists, each with its dotted key."""
    if isinstance(value, dict | list):
        for name, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat_items(entry, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_escaped(entry) for entry in value]
    # A backslash before the mark is doubled, or it would escape the escape.
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
