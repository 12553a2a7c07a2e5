"""Each ingredient of training does what it says, and nothing where it is off."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.data.sampling import DistributedBatchSampler, EpochSampler
from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.losses import balanced_weights, classification_loss
from effnet_ft.optim.optimizers import build_optimizer, parameter_groups
from effnet_ft.optim.settings import BatchMixing, Optimization
from effnet_ft.runs.run_folder import Run, load_model
from effnet_ft.training.module import FineTuner

LABELS = np.array([0] * 60 + [1] * 30 + [2] * 9)


# Balanced sampling


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_balanced_sampling_shows_each_class_equally_often(processes: int) -> None:
    shown: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for epoch in range(20):
        sampler = EpochSampler(len(LABELS), (1, 2), LABELS)
        sampler.set_epoch(epoch)
        shares = [DistributedBatchSampler(sampler, 4, (rank, processes)) for rank in range(processes)]
        items = [item for share in shares for batch in share for item in batch]
        assert len(set(items)) == len(items) == 33 * 3, "an image was shown again as the same view"
        indices = [item % len(LABELS) for item in items]
        assert np.bincount(LABELS[indices], minlength=3).tolist() == [33, 33, 33]
        for index in indices:
            shown[int(LABELS[index])].append(index)
    for label, indices in shown.items():
        members = np.flatnonzero(label == LABELS)
        times = np.bincount(indices, minlength=len(LABELS))[members]
        assert times.max() - times.min() <= 1, "an image came again before its turn"


def test_a_frequent_class_shows_no_image_twice_in_an_epoch() -> None:
    sampler = EpochSampler(len(LABELS), (0,), LABELS)
    indices = [item % len(LABELS) for item in sampler]
    frequent = [index for index in indices if LABELS[index] == 0]
    assert len(frequent) == len(set(frequent)) == 33


def test_epochs_differ_and_repeat() -> None:
    orders = []
    for epoch in (0, 1, 0):
        sampler = EpochSampler(len(LABELS), (0,), LABELS)
        sampler.set_epoch(epoch)
        orders.append([item % len(LABELS) for item in sampler])
    assert orders[0] == orders[2] != orders[1]


# Class weights, momentum, learning rates


def test_balanced_weights_are_inverse_to_the_counts_and_one_on_average() -> None:
    weights = balanced_weights(LABELS)
    assert torch.allclose(weights * torch.tensor([60.0, 30.0, 9.0]), torch.full((3,), 33.0))
    assert float(weights[torch.from_numpy(LABELS)].mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("weighted", [True, False], ids=["class weights", "none"])
def test_batches_averaged_by_their_images_have_the_loss_of_one(weighted: bool) -> None:
    random = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(10, 3, generator=random), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
    options = {"smoothing": 0.1, "class_weights": torch.tensor([0.5, 1.0, 4.0]) if weighted else None}
    parts = [classification_loss(logits[part], labels[part], **options) for part in (slice(7), slice(7, 10))]
    whole = classification_loss(logits, labels, **options)
    torch.testing.assert_close(0.7 * parts[0] + 0.3 * parts[1], whole)


@pytest.mark.parametrize("mixed", [False, True], ids=["hard", "mixed"])
def test_an_image_weighs_as_its_own_class_with_smoothing_too(mixed: bool) -> None:
    """Weighing the smoothed mass by the classes that it falls on makes the rare class the best guess for all."""
    weights, logits = torch.tensor([0.525, 10.0]), torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0] * 19 + [1])
    hard = torch.nn.functional.one_hot(labels, 2).float()
    one = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    expected = one * weights[labels]
    if mixed:  # the loss is linear in the targets: that of a blend is the blend of the losses
        other = labels.flip(0)
        more = torch.nn.functional.cross_entropy(logits, other, label_smoothing=0.1, reduction="none")
        expected = 0.7 * expected + 0.3 * more * weights[other]
    targets = 0.7 * hard + 0.3 * hard.flip(0) if mixed else labels
    loss = classification_loss(logits, targets, smoothing=0.1, class_weights=weights)
    torch.testing.assert_close(loss, expected.mean())


def test_balanced_and_smoothed_classes_without_features_tie() -> None:
    labels = torch.tensor([0] * 19 + [1])
    logits = torch.zeros(2, requires_grad=True)
    weights = balanced_weights(labels.numpy())
    loss = classification_loss(logits.expand(20, 2), labels, smoothing=0.1, class_weights=weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, torch.zeros(2))


@pytest.mark.parametrize(("unit", "expected"), [("rate", 1e-5), ("step", 1e-2)])
def test_the_optimiser_gets_the_weight_decay_in_its_own_unit(unit: Any, expected: float) -> None:
    optim = Optimization(lr=1e-3, weight_decay=1e-5, decay_unit=unit)
    optimiser = build_optimizer(Classifier("lite0", classes=("a", "b")), optim, fused=False)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [pytest.approx(expected), 0.0]


def test_stages_learn_slower_the_earlier_they_are() -> None:
    model = Classifier("lite0", classes=("a", "b"))
    model.freeze(6)
    groups = parameter_groups(model, 1e-4, 0.1, 0.5)
    rate = {id(value): group["lr"] for group in groups for value in group["params"]}
    trained = {id(value) for value in model.parameters() if value.requires_grad}
    assert rate.keys() == trained
    expected = {6: 0.1 * 0.5**3, 7: 0.1 * 0.5**2, 8: 0.1 * 0.5}
    for number, lr in expected.items():
        assert all(rate[id(value)] == pytest.approx(lr) for value in model.stages[number].parameters())
    assert {rate[id(value)] for value in model.head.parameters()} == {0.1}
    assert all("lr" not in group for group in parameter_groups(model, 1e-4, 0.1, 1.0))


# Mixing


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixed_images_have_mixed_targets(mixup: float, cutmix: float) -> None:
    module = FineTuner(Classifier("lite0", classes=("a", "b")), Optimization(lr=0.1), BatchMixing(mixup, cutmix))
    assert module._mix is not None
    images = torch.zeros(8, 3, 32, 32)
    images[4:] = 200.0
    labels = torch.tensor([0] * 4 + [1] * 4)
    shares = []
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, targets = module._mix(images, labels)
        assert torch.allclose(targets.sum(1), torch.ones(8))
        # The share of the second class is the share of its grey in the picture.
        torch.testing.assert_close(mixed.mean((1, 2, 3)) / 200, targets[:, 1].float(), atol=1e-4, rtol=1e-4)
        shares += targets[:, 1].tolist()
    assert any(0.05 < share < 0.95 for share in shares)


def test_nothing_is_mixed_where_it_is_off() -> None:
    assert FineTuner(Classifier("lite0", classes=("a", "b")), Optimization(lr=0.1))._mix is None


# Whole runs


def trained(root: Path, folder: Path, setting: str) -> dict[str, torch.Tensor]:
    """Return the weights after a phase with ``setting``."""
    phase = f"phases=[{{train: stage7, epochs: 1, lr: 1e-2, {setting}}}]"
    command = ["train", "folder", f"data.root={root}", f"run_dir={folder}", phase, *TINY]
    assert main([*command, "model.batchnorm=train", "store=off"]) == 0
    return load_model(Run(folder).last).state_dict()


@pytest.fixture(scope="module")
def unequal(flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes of one size would need no balance."""
    root = tmp_path_factory.mktemp("unequal") / "images"
    shutil.copytree(flowers, root)
    for path in sorted((root / "tulip").iterdir())[:6]:
        path.unlink()
    return root


@pytest.fixture(scope="module")
def plain(unequal: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return trained(unequal, tmp_path_factory.mktemp("plain") / "run", "batch_size: 8")


@pytest.mark.usefixtures("no_evaluation")
@pytest.mark.parametrize(
    "setting",
    [
        "mixup: 0.4",
        "cutmix: 1.0",
        "erasing: 0.9",
        "cutout: 0.5",
        "smallest_crop: 0.05",
        "augment: randaugment",
        "augment: autoaugment",
        "augment: trivialaugment",
        "layer_decay: 0.5",
        "bn_momentum: auto",
        "sampling: balanced",
        "class_weights: balanced",
        "image_size: 32",
    ],
)
def test_every_ingredient_changes_what_is_trained(
    setting: str, unequal: Path, plain: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """Twice alike with it, and otherwise without it."""
    first, again = (trained(unequal, tmp_path / name, setting) for name in ("first", "again"))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, plain[key]) for key, value in first.items())


@pytest.mark.usefixtures("no_evaluation")
def test_sizes_grow_from_phase_to_phase(flowers: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    phases = (
        "phases=[{train: all, epochs: 1, lr: 1e-3, image_size: 32}, {train: all, epochs: 1, lr: 1e-3, image_size: 48}]"
    )
    assert main(["train", "folder", f"data.root={flowers}", f"run_dir={run.folder}", phases, *TINY]) == 0
    assert load_model(run.last).preprocessing.size == 48


# Evaluation


def test_views_are_averaged_and_another_size_is_taken(trained_run: Path, flowers: Path, tmp_path: Path) -> None:
    from effnet_ft.data.images.decoding import read_image
    from effnet_ft.inference.load import load

    predictor = load(trained_run)
    images = [read_image(path) for path in sorted(flowers.rglob("*.jpg"))[:5]] or [
        read_image(path) for path in sorted(flowers.rglob("*.png"))[:5]
    ]
    one = predictor.probabilities(images)
    views = np.stack([predictor.preprocessing(image)[:, ::-1] for image in images])
    with torch.no_grad():
        mirrored = predictor.model.probabilities(predictor.model(torch.from_numpy(views).permute(0, 3, 1, 2))).numpy()
    both = predictor.probabilities(images, views="mirror")
    np.testing.assert_allclose(both, (one + mirrored) / 2, atol=1e-4)
    five = predictor.probabilities(images, views="five")
    assert five.shape == one.shape and not np.allclose(five, one, atol=1e-6)
    np.testing.assert_allclose(five.sum(1), 1, atol=1e-5)
    assert main(["evaluate", str(trained_run), "data.image_size=96", "--views", "five"]) == 0


def test_five_views_are_the_corners_and_the_centre() -> None:
    from effnet_ft.inference.predictor import VIEWS
    from effnet_ft.preprocessing import Preprocessing

    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    view = Preprocessing(10, 20)
    centre, *corners = VIEWS["five"](view, image)
    assert np.array_equal(centre, image[5:15, 7:17])
    places = [(0, 0), (0, 14), (10, 0), (10, 14)]
    for found, (top, left) in zip(corners, places, strict=True):
        assert np.array_equal(found, image[top : top + 10, left : left + 10])
