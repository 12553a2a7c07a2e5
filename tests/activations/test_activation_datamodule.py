"""Stored batches: the rows of the view whose turn it is, in the order in which the images themselves would come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.data.datamodule import ImageDataModule
from effnet_ft.data.images.views import Views
from effnet_ft.data.sources.source import Sample
from effnet_ft.data.splits.split import Split
from effnet_ft.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(size=32, resize=36)
TRAIN, VAL, VIEWS = 23, 9, 3


def stored(shape: tuple[int, ...], batch_size: int, views: int = VIEWS, train: int = TRAIN) -> ActivationDataModule:
    """Return batches of arrays in which every value says view, image and place."""
    place = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape) / 1024
    images = np.arange(train).reshape(-1, *[1] * len(shape))
    arrays = [(1000 * view + images + place).astype(np.float32) for view in range(views)]
    val = (np.arange(VAL).reshape(-1, *[1] * len(shape)) + place - 500).astype(np.float32)
    labels = (np.arange(train) % 5, np.arange(VAL) % 4)
    return ActivationDataModule(
        arrays, val, labels, Views(PREPROCESSING, "basic", views, (0,)), batch_size=batch_size, seed=(4, 1)
    )


def epoch_of(loader: torch.utils.data.DataLoader, epoch: int) -> list[tuple[Tensor, Tensor]]:
    loader.sampler.set_epoch(epoch)  # where Lightning looks for it
    return list(loader)


def rows_of(batches: list[tuple[Tensor, Tensor]]) -> list[tuple[np.ndarray, int]]:
    """Return each image's activations, channels last as they are stored, and its label."""
    return [
        ((row.permute(1, 2, 0) if row.ndim == 3 else row).numpy(), int(label))
        for rows, labels in batches
        for row, label in zip(rows, labels, strict=True)
    ]


@pytest.mark.parametrize("views", [1, VIEWS])
@pytest.mark.parametrize("shape", [(2, 3, 4), (6,)], ids=["maps", "features"])
def test_an_epoch_shows_every_image_once_in_the_view_whose_turn_it_is(shape: tuple[int, ...], views: int) -> None:
    data = stored(shape, batch_size=5, views=views)
    loader, orders = data.train_dataloader(), []
    for epoch in range(4):
        shown = rows_of(epoch_of(loader, epoch))
        indices = np.array([int(row.flat[0]) % 1000 for row, _ in shown])
        turns = data.train.views.turn(epoch, indices)
        for (row, label), index, turn in zip(shown, indices, turns, strict=True):
            assert np.array_equal(row, data.train.arrays[turn][index])
            assert label == index % 5
        assert sorted(indices) == list(range(TRAIN))
        orders.append(tuple(indices))
    assert len(set(orders)) == 4, "each epoch has an order of its own"


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_maps_are_channels_last_in_the_type_that_is_kept(dtype: type) -> None:
    data = stored((2, 3, 4), batch_size=5)
    data.train.arrays = [array.astype(dtype) for array in data.train.arrays]
    data.val.arrays = [array.astype(dtype) for array in data.val.arrays]
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for maps, labels in loader:
            assert maps.shape == (len(labels), 4, 2, 3)
            assert maps.dtype == torch.from_numpy(np.zeros(1, dtype)).dtype and labels.dtype == torch.int64
            assert maps.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("batch_size", [4, 11])
def test_the_order_is_that_of_the_images(batch_size: int) -> None:
    samples = [Sample(f"{number}.jpg", f"{number:02}") for number in range(TRAIN)]
    split = Split(Path("nowhere"), tuple(sample.label for sample in samples), samples, samples[:VAL], [])
    images = ImageDataModule(split, PREPROCESSING, batch_size=batch_size, seed=(4, 1)).train_dataloader()
    features = stored((1,), batch_size).train_dataloader()
    for epoch in range(3):
        images.batch_sampler.sampler.set_epoch(epoch)
        expected = [[item % TRAIN for item in batch] for batch in images.batch_sampler]
        shown = [[int(row) % 1000 for row in rows[:, 0]] for rows, _ in epoch_of(features, epoch)]
        assert shown == expected


@pytest.mark.parametrize("batch_size", [1, 4, 8, 9, 100])
def test_validation_is_in_order_and_leaves_nothing_out(batch_size: int) -> None:
    data = stored((6,), batch_size)
    for _ in range(2):
        batches = list(data.val_dataloader())
        assert len(batches) == -(-VAL // batch_size) and max(len(labels) for _, labels in batches) <= batch_size
        assert np.array_equal(torch.cat([rows for rows, _ in batches]).numpy(), data.val.arrays[0])
        assert torch.cat([labels for _, labels in batches]).tolist() == [index % 4 for index in range(VAL)]


@pytest.mark.parametrize(("train", "sizes"), [(23, [11, 12]), (22, [11, 11]), (24, [11, 11, 2]), (12, [12]), (1, [1])])
def test_a_last_batch_of_one_image_joins_the_one_before(train: int, sizes: list[int]) -> None:
    loader = stored((6,), batch_size=11, train=train).train_dataloader()
    assert len(loader) == len(sizes)
    assert [len(labels) for _, labels in loader] == sizes
