"""Every key of a recipe: its default, its limits and its meaning stand here alone.

The checks themselves are in :mod:`effnet_ft.recipe.checking`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from effnet_ft.data.images.transforms import AUGMENTATIONS, SMALLEST_CROP
from effnet_ft.data.sources.published.table import PUBLISHED
from effnet_ft.models.heads import HEADS
from effnet_ft.models.variants import STAGES, VARIANTS
from effnet_ft.models.weights.table import FAMILIES
from effnet_ft.optim.optimizers import OPTIMISERS, SCHEDULES
from effnet_ft.preprocessing import CROPS
from effnet_ft.recipe.checking import option
from effnet_ft.utils.atomic_files import atomic_write_text

DEFAULT_BATCH = 32
"""Images a device and step of the optimiser, before accumulation, where the recipe names no number."""


@dataclass
class ModelSettings:
    """Which network."""

    variant: str = option("lite0", choices=VARIANTS, help="the architecture")
    weights: str = option(
        "auto", path=True, help="pretrained: a family, a file, a URL, none, or auto (the best published)"
    )
    family: str = option("auto", choices=("auto", *FAMILIES), help="how a file was trained, where it does not say")
    head: str = option("linear", choices=HEADS, help="the classifier on the pooled features")
    dropout: float = option("auto", words=("auto",), minimum=0, below=1, per_phase=True, help="rate before the head")
    drop_path: float = option(
        0.2, minimum=0, below=1, per_phase=True, help="stochastic depth: block i of N is dropped at this rate times i/N"
    )
    batchnorm: str = option(
        "train", choices=("train", "frozen"), per_phase=True, help="batch norms of trained stages: train or frozen"
    )
    bn_momentum: float = option(
        0.01,
        words=("auto",),
        above=0,
        maximum=1,
        per_phase=True,
        help="weight of a batch in the running statistics; auto: min(10 / steps an epoch, 0.1) a step",
    )


@dataclass
class DataSettings:
    """Which images."""

    source: str = option(
        "folder",
        choices=("folder", "manifest", "imagenet", *PUBLISHED),
        help="how the images are laid out, or a published set",
    )
    root: str = option(
        None, path=True, help="the folder of images, e.g. data.root=path/to/images; a published set is put there"
    )
    images: str = option(
        None, path=True, help="source manifest: the folder its paths are relative to; not set: its own"
    )
    download: str = option(
        "on", choices=("on", "off"), help="get the files of a published set that are not in its root"
    )
    fit: str = option(
        "train", choices=("train", "trainval"), help="images to train on; trainval: those for validation too, at last"
    )
    ground_truth: str = option(
        None, path=True, help="source imagenet: the list of flat images' classes; looked for if not set"
    )
    image_size: int = option(
        "auto", words=("auto",), minimum=32, per_phase=True, help="side of the network's input, pixels"
    )
    crop: str = option("auto", choices=("auto", *CROPS), help="central crop of evaluation: as timm or OpenMMLab do it")
    batch_size: int = option(
        DEFAULT_BATCH, words=("auto",), minimum=1, per_phase=True, help="images a device and step; auto: what fits"
    )
    augment: str = option("basic", choices=AUGMENTATIONS, per_phase=True, help="augmentation of the training images")
    smallest_crop: float = option(
        SMALLEST_CROP,
        above=0,
        maximum=1,
        per_phase=True,
        help="share of an image's area that a random crop has at least; ImageNet trainings take 0.08. Large images are "
        "reduced to twice the input's size before, so that crops under 0.25 are enlarged",
    )
    erasing: float = option(
        0.0, minimum=0, maximum=1, per_phase=True, help="how often a random rectangle is replaced by noise"
    )
    cutout: float = option(
        0.0,
        minimum=0,
        below=1,
        per_phase=True,
        help="side of a blanked square, a share of the input's side; 0 for none",
    )
    mixup: float = option(0.0, minimum=0, per_phase=True, help="alpha of MixUp, e.g. 0.2; 0 mixes nothing")
    cutmix: float = option(0.0, minimum=0, per_phase=True, help="alpha of CutMix, e.g. 1.0; 0 mixes nothing")
    sampling: str = option(
        "uniform", choices=("uniform", "balanced"), per_phase=True, help="balanced shows each class equally often"
    )
    workers: int = option("auto", words=("auto",), minimum=0, help="processes that read images, a device")
    val_fraction: float = option(0.15, above=0, below=1, help="share of the images held out where there is no val/")
    test_fraction: float = option(0.15, above=0, below=1, help="share of the images held out where there is no test/")
    decoded: str = option(
        "auto",
        choices=("auto", "off", "memory", "disk"),
        help="keep decoded images between epochs; auto: on disk, or in memory where only that has room",
    )
    bad_images: str = option("error", choices=("error", "skip"), help="files that cannot be read: refuse, or leave out")


@dataclass
class StoreSettings:
    """What is computed once and kept."""

    mode: str = option("keep", choices=("keep", "off"), help="keep what frozen stages make of the images, or do not")
    views: int = option(
        4, minimum=1, help="views of each training image: itself, its mirror image, then augmented ones"
    )
    max_gb: float = option(None, above=0, help="all that may be kept, GB; not set: half of the disk's free space")
    dtype: str = option("float16", choices=("float16", "float32"), help="of the kept values")


@dataclass
class OptimSettings:
    """How the weights move."""

    name: str = option("adamw", choices=OPTIMISERS, per_phase=True, help="the optimiser")
    momentum: float = option(0.9, minimum=0, below=1, per_phase=True, help="of sgd and rmsprop")
    weight_decay: float = option(1e-4, minimum=0, per_phase=True, help="not applied to norms and biases")
    decay_unit: str = option(
        "rate",
        choices=("rate", "step"),
        per_phase=True,
        help="weight_decay is per unit of learning rate, or what a step at the highest learning rate takes off",
    )
    schedule: str = option("cosine", choices=SCHEDULES, per_phase=True, help="course of the learning rate in a phase")
    warmup_epochs: float = option(0.3, minimum=0, per_phase=True, help="linear rise at the start of a phase, epochs")
    step_epochs: float = option(2.4, above=0, per_phase=True, help="schedule step: epochs between two drops")
    step_factor: float = option(0.97, above=0, maximum=1, per_phase=True, help="schedule step: factor of a drop")
    layer_decay: float = option(
        1.0, above=0, maximum=1, per_phase=True, help="a stage's learning rate is that of the next one times this"
    )
    class_weights: str = option(
        "off", choices=("off", "balanced"), per_phase=True, help="balanced weighs the loss of rare classes higher"
    )
    label_smoothing: float = option(0.1, minimum=0, below=1, per_phase=True, help="mass given to the other classes")
    ema: float = option("off", words=("off",), above=0, below=1, per_phase=True, help="decay of the averaged weights")
    clip_norm: float = option("off", words=("off",), above=0, per_phase=True, help="largest norm of the gradient")
    accumulate: int = option(1, minimum=1, per_phase=True, help="batches a step of the optimiser")
    lr_scaling: str = option(
        "off",
        choices=("off", "linear", "sqrt"),
        per_phase=True,
        help="how lr grows with the images a step of all processes; not where lr is auto",
    )
    lr_batch: int = option(256, minimum=1, per_phase=True, help="lr_scaling: the images a step that lr is meant for")


@dataclass
class TrainerSettings:
    """Where and how it runs; the words are Lightning's."""

    accelerator: str = option("auto", help="cpu, gpu, mps, ...")
    devices: str | int = option("auto", minimum=1, help="how many, or a list such as '0,2'")
    num_nodes: int = option(
        "auto", words=("auto",), minimum=1, help="machines; auto: as torchrun or SLURM started it, else 1"
    )
    strategy: str = option("auto", help="ddp, ... : Lightning's strategies")
    sync_batchnorm: str = option(
        "off",
        choices=("on", "off"),
        per_phase=True,
        help="batch norms that train take their statistics over the batches of all processes",
    )
    precision: str = option(
        "auto",
        choices=("auto", "bf16-mixed", "16-mixed", "32-true"),
        help="of what is computed, weights are float32; auto: bf16-mixed on a GPU that computes in it, else 32-true",
    )
    compile: str = option(
        "auto",
        choices=("auto", "on", "off"),
        help="torch.compile; auto: on a GPU, where the phase is long enough to earn it back; not with checkpointing",
    )
    checkpointing: str = option(
        "off", choices=("on", "off"), per_phase=True, help="compute activations again in the backward pass: less memory"
    )
    on_oom: str = option(
        "halve",
        choices=("halve", "stop"),
        per_phase=True,
        help="a batch that the GPU does not hold: begin the phase again with half of it, accumulated; or stop",
    )
    patience: int = option(
        "off", words=("off",), minimum=1, per_phase=True, help="end a phase after so many epochs without a better one"
    )
    checkpoint_minutes: float = option(
        10.0,
        minimum=0,
        help="write a checkpoint so often within an epoch; 0: after every step (several processes: every 10 batches)",
    )
    timeout_minutes: float = option(
        30.0,
        above=0,
        help="how long a process waits within a step for the others before it gives them up",
    )
    loggers: list[str] = option([], choices=("tensorboard", "wandb", "mlflow"), help="beside metrics.csv")


SECTIONS: dict[str, type[Any]] = {
    "model": ModelSettings,
    "data": DataSettings,
    "store": StoreSettings,
    "optim": OptimSettings,
    "trainer": TrainerSettings,
}


@dataclass
class Phase:
    """A stretch of training with one cut. ``overrides`` holds the recipe's keys that this phase sets otherwise."""

    train: str = option(None, choices=("head", *(f"stage{k}" for k in range(STAGES)), "all"), help="what is trained")
    epochs: int = option(None, minimum=1, help="passes over the training images")
    lr: float = option(None, words=("auto",), above=0, help="highest learning rate of the phase; auto: searched")
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class Recipe:
    """A whole recipe, checked. Its sections are dataclasses; :meth:`to_dict` gives what YAML holds."""

    seed: int = option(
        0, minimum=0, maximum=2**32 - 1, help="of the split, the shuffling, the augmentation and the new head"
    )
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    phases: list[Phase] = field(default_factory=list)
    optim: OptimSettings = field(default_factory=OptimSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    run_dir: str = option("auto", path=True, help="where the run is written; auto is runs/DATA-VARIANT, numbered")

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists that, as YAML, :func:`effnet_ft.load_recipe` reads back to an equal recipe."""
        return _to_plain(self)

    def save(self, path: Path) -> None:
        """Write the recipe as YAML to ``path``."""
        from omegaconf import OmegaConf

        # Interpolation marks in a value are the user's own characters by now, not OmegaConf's.
        text = OmegaConf.to_yaml(OmegaConf.create(_escaped(self.to_dict())))
        atomic_write_text(path, text)


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


def per_phase_keys() -> dict[str, str]:
    """Return the keys a phase may override, each with the section it comes from."""
    return {
        item.name: section
        for section, kind in SECTIONS.items()
        for item in fields(kind)
        if item.metadata.get("per_phase")
    }


def _to_plain(value: Any) -> Any:
    if isinstance(value, Phase):
        return {"train": value.train, "epochs": value.epochs, "lr": value.lr, **value.overrides}
    if is_dataclass(value):
        return {item.name: _to_plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, list):
        return [_to_plain(entry) for entry in value]
    return value


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_escaped(entry) for entry in value]
    # A backslash before the mark must be doubled, or it would escape the escape.
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
