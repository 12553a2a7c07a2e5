"""Batches hold the right pixels and labels; each epoch shows every image once."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from effnet_ft.data.datamodule import ImageDataModule
from effnet_ft.data.images.decoding import read_image
from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.splits.split import Split, make_split
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.training.console import quiet_lightning

PREPROCESSING = Preprocessing(size=32, resize=36)


@pytest.fixture(scope="module")
def split(flowers: Path) -> Split:
    """24 images to train on, 6 in each other part; the classes in an order that is not the alphabet's."""
    divided = make_split(scan_folder(flowers), val_fraction=0.15, test_fraction=0.15, seed=0)
    return replace(divided, classes=divided.classes[::-1])


def data_of(split: Split, **settings: object) -> ImageDataModule:
    return ImageDataModule(split, PREPROCESSING, **{"batch_size": 5, "augment": "none", **settings})


def epoch_of(loader: torch.utils.data.DataLoader, epoch: int) -> list[tuple[Tensor, Tensor]]:
    loader.batch_sampler.sampler.set_epoch(epoch)
    return list(loader)


def pixels(batches: list[tuple[Tensor, Tensor]]) -> list[tuple[bytes, int]]:
    """Return each image's bytes and label, in the order they came."""
    return [
        (image.permute(1, 2, 0).numpy().tobytes(), int(label))
        for images, labels in batches
        for image, label in zip(images, labels, strict=True)
    ]


def expected(split: Split, part: str) -> list[tuple[bytes, int]]:
    return [
        (PREPROCESSING(read_image(split.root / sample.path)).tobytes(), split.classes.index(sample.label))
        for sample in split.part(part)
    ]


def test_batches_are_bytes_in_channels_last_memory(split: Split) -> None:
    data = data_of(split, augment="strong")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for images, labels in loader:
            assert images.dtype == torch.uint8 and labels.dtype == torch.int64
            assert images.shape == (len(labels), 3, 32, 32)
            assert images.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_shows_every_image_once_with_its_label(split: Split) -> None:
    loader = data_of(split).train_dataloader()
    epochs = [pixels(epoch_of(loader, epoch)) for epoch in range(3)]
    for shown in epochs:
        assert Counter(shown) == Counter(expected(split, "train"))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0], "each epoch has an order of its own"
    assert expected(split, "train") not in epochs


def test_the_seed_decides_order_and_augmentation(split: Split) -> None:
    first, again, other = (
        pixels(epoch_of(data_of(split, augment="basic", seed=seed).train_dataloader(), 1))
        for seed in ((4, 2), (4, 2), (4, 3))
    )
    assert first == again
    assert [label for _, label in first] != [label for _, label in other]
    assert not {view for view, _ in first} & {view for view, _ in other}


def test_every_image_and_every_epoch_is_augmented_anew(split: Split) -> None:
    alike = replace(split, train=split.train[:1] * 8)
    loader = data_of(alike, augment="basic").train_dataloader()
    assert len({view for epoch in range(3) for view, _ in pixels(epoch_of(loader, epoch))}) == 3 * 8


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # Python 3.12 of any DataLoader
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # a machine with one core
def test_the_number_of_workers_changes_nothing(split: Split) -> None:
    alone, helped = (data_of(split, augment="strong", workers=workers).train_dataloader() for workers in (0, 2))
    for epoch in range(2):
        for (images, labels), (same, same_labels) in zip(epoch_of(alone, epoch), epoch_of(helped, epoch), strict=True):
            assert torch.equal(images, same) and torch.equal(labels, same_labels)


def test_validation_is_in_order_and_not_augmented(split: Split) -> None:
    data = data_of(split, augment="strong", batch_size=4)
    for _ in range(2):
        assert pixels(list(data.val_dataloader())) == expected(split, "val")


def test_an_evaluation_leaves_no_image_out(split: Split) -> None:
    loader = data_of(split, batch_size=len(split.val) - 1).val_dataloader()
    assert [len(labels) for _, labels in loader] == [len(split.val) // 2] * 2
    assert pixels(list(loader)) == expected(split, "val")


def test_lightning_counts_the_epochs(split: Split) -> None:
    """Lightning finds the sampler by its place in the loader; were it not found, all epochs would be alike."""

    class Recorder(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.shown: dict[int, list[tuple[bytes, int]]] = {}

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            self.shown.setdefault(self.current_epoch, []).extend(pixels([batch]))
            return self.weight.sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data, module = data_of(split, augment="basic"), Recorder()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with quiet_lightning():
        trainer = pl.Trainer(max_epochs=2, accelerator="cpu", limit_val_batches=0, **quiet)
        trainer.fit(module, train_dataloaders=data.train_dataloader())
    assert module.shown == {epoch: pixels(epoch_of(data.train_dataloader(), epoch)) for epoch in range(2)}
