"""Training from the store is training on the images; what is kept is found again exactly where it is still true."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from plans import plan_file, plan_of
from tiny import TINY
from torch import Tensor, nn
from torch.utils.data import DataLoader

from effnet_ft.activations import store
from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.activations.store import ActivationStore, ComputeSettings, Overflow
from effnet_ft.cli import main
from effnet_ft.data.datamodule import ImageDataModule, ImageDataset, image_loader
from effnet_ft.data.images.decoding import read_image
from effnet_ft.data.images.views import Views
from effnet_ft.data.sampling import DistributedBatchSampler, EpochSampler
from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.splits.split import Split, make_split
from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.settings import Optimization
from effnet_ft.planning.facts import image_facts
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.runs.run_folder import Run, read_checkpoint
from effnet_ft.training.callbacks.epoch_table import EpochTable
from effnet_ft.training.console import quiet_lightning
from effnet_ft.training.module import FineTuner
from effnet_ft.training.phase_data import PhaseData
from effnet_ft.utils.array_cache import FOLDER_VARIABLE, ArrayCache

PREPROCESSING = Preprocessing(size=32, resize=36)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArrayCache:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return ArrayCache()


@pytest.fixture(scope="module")
def split(flowers: Path) -> Split:
    """24 images to train on, 6 to validate."""
    return make_split(scan_folder(flowers), val_fraction=0.15, test_fraction=0.15, seed=0)


def drawn(images: Tensor, **settings: Any) -> Classifier:
    """Return a lite0 of random weights whose statistics are those of ``images``: the signal lives to the last layer."""
    torch.manual_seed(0)
    classes = settings.pop("classes", ("daisy", "lavender", "tulip"))
    model = Classifier("lite0", classes=classes, preprocessing=PREPROCESSING, **settings)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        model.train()(images)
    for norm in norms:
        norm.momentum = 0.01
    return model.eval()


@pytest.fixture(scope="module")
def images(split: Split) -> Tensor:
    shown = [PREPROCESSING(read_image(split.image(sample))) for sample in split.train]
    return torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def prototype(images: Tensor) -> Classifier:
    return drawn(images)


@pytest.fixture
def model(prototype: Classifier) -> Classifier:
    return deepcopy(prototype)


def views_of(model: Classifier, count: int = 3, augment: str = "basic", seed: int = 0) -> Views:
    return Views(model.preprocessing, augment, count, (seed,))


# The heart: nothing but the time it takes


class ViewedDataset(ImageDataset):
    """The images that the store's activations are made of, in the view whose turn it is."""

    transform: Views  # type: ignore[assignment]

    def __getitem__(self, item: int) -> tuple[np.ndarray, int]:
        epoch, index = divmod(item, len(self))
        turn = int(self.transform.turn(epoch, np.array([index]))[0])
        image = read_image(self.root / self.samples[index].path)
        return self.transform.view(image, index, turn), int(self.labels[index])


class ViewedDataModule(ImageDataModule):
    views: Views

    def train_dataloader(self) -> DataLoader[Any]:
        samples = self.split.train
        dataset = ViewedDataset(self.split.root, samples, self.split.labels(samples), self.views)  # type: ignore[arg-type]
        order = EpochSampler(len(dataset), (*self.seed, 2))
        return image_loader(dataset, 0, batch_sampler=DistributedBatchSampler(order, self.batch_size))


def trained(model: Classifier, data: pl.LightningDataModule, stored: bool) -> tuple[dict[str, Tensor], float]:
    """Return the weights after two epochs, and the validation loss."""
    optim = Optimization("sgd", lr=0.02, label_smoothing=0.1, warmup_epochs=0.5)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=2, num_sanity_val_steps=0, use_distributed_sampler=False, **quiet
        )
        trainer.fit(FineTuner(model, optim, seed=(0, 1), stored=stored), datamodule=data)
    return model.state_dict(), float(trainer.callback_metrics["val/loss"])


@pytest.mark.parametrize("batchnorm", ["train", "frozen"])
@pytest.mark.parametrize("cut", [9, 7])
def test_training_from_the_store_is_training_on_the_images(
    cut: int, batchnorm: str, split: Split, model: Classifier
) -> None:
    model.double()  # so that sums in another order, of other batches, are no excuse; what is kept is float32
    model.freeze(cut, batchnorm)
    model.set_rates(dropout=0.3, drop_path=0.3)
    views, how = views_of(model), {"batch_size": 7, "seed": (0, 1)}
    begun, streaming = deepcopy(model.state_dict()), deepcopy(model)
    images = ViewedDataModule(split, PREPROCESSING, **how)
    images.views = views
    train, val = ActivationStore(split, ComputeSettings(dtype="float32")).arrays(model, views, [cut])[cut]
    labels = (split.labels(split.train), split.labels(split.val))
    expected, expected_loss = trained(streaming, images, stored=False)
    weights, loss = trained(model, ActivationDataModule(train, val, labels, views, **how), stored=True)
    moved = {key for key in begun if (weights[key] - begun[key]).abs().max() > 1e-3}
    assert any(key.startswith("head") for key in moved)
    assert any(key.startswith("stages") for key in moved) == (cut < 9)
    apart = {key: float((weights[key] - value).abs().max()) for key, value in expected.items()}
    assert {key: gap for key, gap in apart.items() if gap > 1e-5} == {}, max(apart.values())
    assert loss == pytest.approx(expected_loss, rel=1e-4)  # what is kept is rounded to float32


# What is kept


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-3)])
def test_arrays_are_what_the_prefix_makes_of_the_views(
    dtype: str, tolerance: float, split: Split, model: Classifier, tmp_path: Path
) -> None:
    model.double()  # rounding of folded norms grows from layer to layer; what is kept has the type that is tested
    split = replace(split, train=split.train[::2])
    views, cuts = views_of(model), [5, 7, 9]
    settings = ComputeSettings(dtype=dtype, batch_size=20)  # 6 images a batch: the last one of 12 is whole, of 6 too
    together = ActivationStore(split, settings).arrays(model, views, cuts)
    for cut in cuts:
        alone = ActivationStore(split, replace(settings, batch_size=13), ArrayCache(tmp_path / f"alone{cut}"))
        train, val = alone.arrays(model, views, [cut])[cut]
        model.freeze(cut)
        for part, arrays in (("train", train), ("val", [val])):
            for number, array in enumerate(arrays):
                again = together[cut][0][number] if part == "train" else together[cut][1]
                shown = [views.view(read_image(split.root / s.path), i, number) for i, s in enumerate(split.part(part))]
                expected = model.prefix(torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2))
                rows = (expected.permute(0, 2, 3, 1) if expected.ndim == 4 else expected).numpy()
                assert array.dtype == again.dtype == dtype
                for found in (array, again):
                    np.testing.assert_allclose(found, rows, rtol=tolerance, atol=tolerance * np.abs(rows).max())
                assert rows.std(axis=0).mean() > 5 * tolerance * np.abs(rows).max(), (
                    "images differ by more than what is tolerated"
                )


class Computed(AssertionError):
    """Something was computed that should have been found."""


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def compute(*_: object) -> None:
            raise Computed

        monkeypatch.setattr(ActivationStore, "_compute", compute)

    return forbid


@dataclass
class Scene:
    """All that the arrays depend on, and all that they do not."""

    split: Split
    model: Classifier
    cut: int = 7
    views: dict[str, Any] = field(default_factory=dict)
    settings: ComputeSettings = field(default_factory=ComputeSettings)

    def arrays(self) -> None:
        ActivationStore(self.split, self.settings).arrays(self.model, views_of(self.model, **self.views), [self.cut])

    def show(self, preprocessing: Preprocessing) -> None:
        self.model.preprocessing = preprocessing

    def rebuild(self, **settings: Any) -> None:
        state = {key: value for key, value in self.model.state_dict().items() if not key.startswith("head")}
        self.model = drawn(torch.zeros(2, 3, 32, 32), **settings)
        self.model.load_state_dict(state, strict=False)

    def add(self, stage: int, name: str) -> None:
        state = {key: value for key, value in self.model.stages[stage].state_dict().items() if key.endswith(name)}
        next(iter(state.values())).add_(1)

    def redraw(self, part: str, how: str) -> None:
        path = self.split.image(self.split.part(part)[0])
        pixels = read_image(path)[::-1] if how == "turned" else read_image(path)
        Image.fromarray(pixels).save(path)


@pytest.fixture
def scene(split: Split, model: Classifier, tmp_path: Path) -> Scene:
    shutil.copytree(split.root, tmp_path / "flowers")
    return Scene(replace(split, root=tmp_path / "flowers"), model)


TELLING: dict[str, Callable[[Scene], object]] = {
    "weights of the first stage": lambda scene: scene.add(0, "weight"),
    "weights of the last frozen stage": lambda scene: scene.add(6, "weight"),
    "statistics of a frozen stage": lambda scene: scene.add(3, "running_mean"),
    "padding": lambda scene: scene.rebuild(padding="symmetric"),
    "epsilon": lambda scene: scene.rebuild(norm_eps=1e-5),
    "a training image": lambda scene: scene.redraw("train", "turned"),
    "a validation image": lambda scene: scene.redraw("val", "turned"),
    "order of the images": lambda scene: scene.split.train.reverse(),
    "size": lambda scene: scene.show(PREPROCESSING.at_size(40)),
    "resize": lambda scene: scene.show(replace(PREPROCESSING, resize=40)),
    "crop": lambda scene: scene.show(replace(PREPROCESSING, crop="openmmlab")),
    "mean": lambda scene: scene.show(replace(PREPROCESSING, mean=(127.0, 127.0, 127.0))),
    "std": lambda scene: scene.show(replace(PREPROCESSING, std=(128.0, 128.0, 128.0))),
    "augmentation": lambda scene: scene.views.update(augment="strong"),
    "seed": lambda scene: scene.views.update(seed=1),
    "one view more": lambda scene: scene.views.update(count=4),
    "cut": lambda scene: setattr(scene, "cut", 6),
    "type": lambda scene: setattr(scene, "settings", ComputeSettings(dtype="float32")),
    "autocast": lambda scene: setattr(scene, "settings", ComputeSettings(autocast=torch.bfloat16)),
}
SILENT: dict[str, Callable[[Scene], object]] = {
    "nothing": lambda scene: None,
    "weights of the first trained stage": lambda scene: scene.add(7, "weight"),
    "statistics of a trained stage": lambda scene: scene.add(8, "running_mean"),
    "head": lambda scene: nn.init.normal_(scene.model.head[-1].weight),
    "another head and classes": lambda scene: scene.rebuild(head="mlp", classes=("a", "b", "c", "d", "e")),
    "rates": lambda scene: scene.model.set_rates(0.5, 0.5),
    "what is frozen": lambda scene: scene.model.freeze(7, "frozen"),
    "mode": lambda scene: scene.model.train(),
    "batches counted": lambda scene: scene.add(3, "num_batches_tracked"),
    "labels": lambda scene: setattr(scene, "split", replace(scene.split, classes=scene.split.classes[::-1])),
    "folder": lambda scene: setattr(
        scene, "split", replace(scene.split, root=scene.split.root.rename(scene.split.root.with_name("moved")))
    ),
    "fewer views": lambda scene: scene.views.update(count=2),
    "seed of views that are not drawn": lambda scene: scene.views.update(count=2, seed=1),
    "how it is computed": lambda scene: setattr(scene, "settings", ComputeSettings(batch_size=7, max_bytes=10**9)),
}


@pytest.mark.parametrize("change", TELLING)
def test_what_the_numbers_depend_on_is_computed_anew(change: str, scene: Scene, forbid: Callable[[], None]) -> None:
    scene.arrays()
    forbid()
    TELLING[change](scene)
    with pytest.raises(Computed):
        scene.arrays()


@pytest.mark.parametrize("change", SILENT)
def test_what_the_numbers_do_not_depend_on_is_found(change: str, scene: Scene, forbid: Callable[[], None]) -> None:
    scene.arrays()
    forbid()
    SILENT[change](scene)
    scene.arrays()


def test_a_damaged_array_is_computed_again_alone(
    split: Split, model: Classifier, empty_cache: ArrayCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    views, computed, compute = views_of(model), [], ActivationStore._compute

    def recorded(self: ActivationStore, *arguments: Any) -> None:
        computed.extend(Path(array.filename).name.partition(".")[0] for array in arguments[3].values())
        compute(self, *arguments)

    train, val = ActivationStore(split, ComputeSettings()).arrays(model, views, [9])[9]
    expected = [np.array(array) for array in (*train, val)]
    damaged = empty_cache.entries()[1].key
    with (empty_cache.folder / f"{damaged}.npy").open("r+b") as file:
        file.seek(200)
        file.write(b"damage")
    monkeypatch.setattr(ActivationStore, "_compute", recorded)
    train, val = ActivationStore(split, ComputeSettings()).arrays(model, views, [9])[9]
    assert computed == [damaged]
    for array, before in zip((*train, val), expected, strict=True):
        np.testing.assert_allclose(array, before, rtol=2e-3, atol=2e-3)


# Which images are read for which phases

HEAD, STAGE7, STAGE6, ALL = "train: head, lr: 1e-2", "train: stage7, lr: 1e-3", "train: stage6, lr: 1e-3", "train: all"


def data_of(split: Split, phases: list[tuple[str, int]], *overrides: str) -> PhaseData:
    listed = ", ".join(f"{{{phase}, epochs: {epochs}}}" for phase, epochs in phases)
    given = [f"phases=[{listed}]", *TINY, "data.image_size=32", "data.decoded=off", *overrides]
    return PhaseData(plan_file(plan_of(*given, images=image_facts(split)), Path()), split)


def fed(data: PhaseData, model: Classifier) -> list[bool]:
    """Return for each phase whether its batches come from the store."""
    kinds = []
    for phase in data.plan.plan.phases:
        model.freeze(phase.cut)
        module = data.data_module(phase.index, model, torch.device("cpu"))
        images, labels = next(iter(module.train_dataloader()))
        assert len(images) == len(labels)
        kinds.append(isinstance(module, ActivationDataModule))
        assert kinds[-1] == (images.dtype != torch.uint8)
    return kinds


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int], int]]:
    """Passes over the images: the part, the cuts, how many images were read."""
    passes: list[tuple[str, list[int], int]] = []
    reads, compute, read = [0], ActivationStore._compute, store.read_image

    def counted(path: Path) -> np.ndarray:
        reads[0] += 1
        return read(path)

    def recorded(self: ActivationStore, model: Classifier, part: str, views: Views, *rest: Any) -> None:
        reads[0] = 0
        compute(self, model, part, views, *rest)
        passes.append((part, sorted({cut for _, cut in rest[0]}), reads[0]))

    monkeypatch.setattr(store, "read_image", counted)
    monkeypatch.setattr(ActivationStore, "_compute", recorded)
    return passes


PASSES: dict[str, tuple[list[tuple[str, int]], list[bool], list[list[int]]]] = {
    "one pass for two phases": ([(HEAD, 2), (STAGE6, 2)], [True, True], [[6, 9]]),
    "one pass for three": ([(HEAD, 2), (STAGE7, 2), (STAGE6, 2)], [True] * 3, [[6, 7, 9]]),
    "one cut twice": ([(STAGE7, 2), (STAGE7, 3)], [True, True], [[7]]),
    "after deeper training": ([(STAGE6, 2), (HEAD, 2)], [True, True], [[6], [9]]),
    "after training all": ([(HEAD, 2), (f"{ALL}, lr: 1e-3", 2), (STAGE7, 2)], [True, False, True], [[9], [7]]),
    "other views": ([(HEAD, 2), (f"{STAGE6}, augment: strong", 2)], [True, True], [[9], [6]]),
    "a single epoch": ([(HEAD, 1)], [False], []),
    "all": ([(f"{ALL}, lr: 1e-3", 3)], [False], []),
}


@pytest.mark.parametrize("case", PASSES)
def test_images_are_read_once_for_all_phases_whose_prefix_holds_still(
    case: str, split: Split, model: Classifier, computed: list[tuple[str, list[int], int]]
) -> None:
    phases, stored, passes = PASSES[case]
    assert fed(data_of(split, phases), model) == stored
    assert [cuts for part, cuts, _ in computed if part == "train"] == passes
    assert [read for part, _, read in computed if part == "train"] == [len(split.train)] * len(passes)


@pytest.mark.parametrize("epochs", [(2, 1), (1, 2), (1, 1), (3, 2), (2, 5)])
def test_nothing_is_computed_that_no_phase_reads(
    epochs: tuple[int, int], split: Split, model: Classifier, computed: list[tuple[str, list[int], int]]
) -> None:
    kinds = fed(data_of(split, [(HEAD, epochs[0]), (STAGE7, epochs[1])]), model)
    assert {cut for _, cuts, _ in computed for cut in cuts} == {
        cut for cut, stored in zip((9, 7), kinds, strict=True) if stored
    }


def test_the_store_can_be_turned_off(split: Split, model: Classifier, forbid: Callable[[], None]) -> None:
    forbid()
    assert fed(data_of(split, [(HEAD, 3), (STAGE7, 3)], "store=off"), model) == [False, False]
    assert not Path(os.environ[FOLDER_VARIABLE]).exists()


# Where it does not fit


def kept_bytes(cache: ArrayCache) -> int:
    return sum(entry.size for entry in cache.entries())


def test_what_does_not_fit_is_not_kept(split: Split, model: Classifier, empty_cache: ArrayCache) -> None:
    need = ActivationStore(split, ComputeSettings()).size(model, 4 * len(split.train) + len(split.val), 9)
    phases = [(HEAD, 4), ("train: stage3, lr: 1e-3", 4)]
    assert fed(data_of(split, phases, f"store.max_gb={1.02 * need / 1e9}"), model) == [True, False]
    assert 0 < kept_bytes(empty_cache) < 1.02 * need + 5 * 128
    empty_cache.clear()
    assert fed(data_of(split, phases, f"store.max_gb={0.98 * need / 1e9}"), model) == [False, False]
    assert kept_bytes(empty_cache) == 0


def test_old_arrays_make_room(split: Split, model: Classifier, empty_cache: ArrayCache) -> None:
    need = ActivationStore(split, ComputeSettings()).size(model, 4 * len(split.train) + len(split.val), 9)
    limit = f"store.max_gb={1.2 * need / 1e9}"
    fed(data_of(split, [(HEAD, 4)], limit), model)
    old = {entry.key for entry in empty_cache.entries()}
    with torch.no_grad():
        model.stages[0][0].weight.mul_(2)
    assert fed(data_of(split, [(HEAD, 4)], limit), model) == [True]
    new = {entry.key for entry in empty_cache.entries()} - old
    assert len(new) == 4 + 1
    assert kept_bytes(empty_cache) < 1.2 * need + 5 * 128


def test_what_is_missing_pushes_out_no_more_than_it_takes(
    split: Split, model: Classifier, empty_cache: ArrayCache
) -> None:
    need = ActivationStore(split, ComputeSettings()).size(model, 4 * len(split.train) + len(split.val), 9)
    other = deepcopy(model)
    with torch.no_grad():
        other.stages[0][0].weight.mul_(2)
    settings = ComputeSettings(max_bytes=int(2.2 * need))
    for each in (other, model):
        ActivationStore(split, settings).arrays(each, views_of(each, 4), [9])
    newest = empty_cache.entries()[-1].key
    empty_cache._remove(newest)
    ActivationStore(split, settings).arrays(model, views_of(model, 4), [9])
    assert len(empty_cache.entries()) == 2 * (4 + 1), "all of both fits"


# Values that do not fit


def enlarge(model: Classifier, factor: float) -> None:
    """Make stage 7's input ``factor`` times as large."""
    norm = [module for module in model.stages[6].modules() if isinstance(module, nn.BatchNorm2d)][-1]
    with torch.no_grad():
        norm.weight.mul_(factor)


def test_values_too_large_for_float16_are_not_kept(split: Split, model: Classifier, empty_cache: ArrayCache) -> None:
    enlarge(model, 1e6)
    with pytest.raises(Overflow):
        ActivationStore(split, ComputeSettings()).arrays(model, views_of(model), [7])
    assert kept_bytes(empty_cache) == 0


def test_large_values_keep_to_the_limit(split: Split, model: Classifier, empty_cache: ArrayCache) -> None:
    limit = int(1.5 * ActivationStore(split, ComputeSettings()).size(model, 2 * len(split.train) + len(split.val), 7))
    enlarge(model, 1e6)
    fed(data_of(split, [(STAGE7, 2)], f"store.max_gb={limit / 1e9}"), model)
    assert kept_bytes(empty_cache) <= limit


# Whole runs

RUN = "phases=[{{train: head, epochs: 2, lr: {}}}, {{train: stage7, epochs: 2, lr: 1e-3, drop_path: 0.3}}]"


@pytest.fixture(scope="module")
def whole(flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run and the cache that it left. Read only."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder / "cache"))
        assert (
            main(["train", "folder", f"data.root={flowers}", f"run_dir={folder / 'run'}", RUN.format(1e-2), *TINY]) == 0
        )
    return folder


@pytest.mark.parametrize("stop_after", [2, 3])
def test_a_run_resumed_in_its_second_phase_finds_the_store(
    stop_after: int,
    whole: Path,
    flowers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forbid: Callable[[], None],
) -> None:
    finished, row = 0, EpochTable.on_train_epoch_end

    def interrupt(self: EpochTable, *arguments: Any) -> None:
        nonlocal finished
        if finished == stop_after:
            raise KeyboardInterrupt
        finished += 1
        row(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(EpochTable, "on_train_epoch_end", interrupt)
        settings = [f"data.root={flowers}", f"run_dir={tmp_path / 'run'}", RUN.format(1e-2), *TINY]
        assert main(["train", "folder", *settings]) == 130
    forbid()
    # What measures the best model was not computed before.
    monkeypatch.setattr(PhaseData, "_evaluation_maps", lambda *_: None)
    assert main(["train", "folder", f"resume={tmp_path / 'run'}"]) == 0
    expected, resumed = (read_checkpoint(Run(folder / "run").last)["state_dict"] for folder in (whole, tmp_path))
    assert [key for key in expected if not torch.equal(expected[key], resumed[key])] == []
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


def test_another_learning_rate_finds_what_is_kept(
    whole: Path, flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbid: Callable[[], None]
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(whole / "cache"))
    monkeypatch.setattr(PhaseData, "_evaluation_maps", lambda *_: None)  # another phase may have the best model
    forbid()
    settings = [f"data.root={flowers}", f"run_dir={tmp_path / 'run'}", RUN.format(3e-3), *TINY]
    assert main(["train", "folder", *settings]) == 0
    assert "store: found, computed before" in (tmp_path / "run" / "log.txt").read_text()
