"""What an epoch is measured by: every image counts alike, however the batches fall."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchmetrics

from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.settings import Optimization
from effnet_ft.training.module import FineTuner


@pytest.fixture
def tuner() -> FineTuner:
    torch.manual_seed(0)
    model = Classifier("lite0", classes=("a", "b", "c"))
    model.freeze(9)
    return FineTuner(model, Optimization(lr=0.1), stored=True).eval()


def test_a_short_batch_counts_by_its_images(tuner: FineTuner) -> None:
    features, labels = 5 * torch.randn(9, 1280), torch.arange(9) % 3
    with torch.no_grad():
        for part in (slice(0, 8), slice(8, 9)):
            tuner.validation_step((features[part], labels[part]), 0)
        logits = tuner(features)
    assert float(tuner.val_loss.compute()) == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
    assert float(tuner.val_score.compute()) == pytest.approx(float((logits.argmax(1) == labels).float().mean()))


@pytest.mark.parametrize(
    ("images", "first", "second", "better"),
    [
        (100, (0.95, 0.35), (0.94, 0.15), 1),  # one image more or less of a hundred is luck
        (100, (0.95, 0.35), (0.80, 0.15), 0),
        (10_000, (0.95, 0.35), (0.94, 0.15), 0),  # of ten thousand it is not
        (100, (0.95, 0.35), (0.95, 0.34), 1),
    ],
)
def test_the_loss_counts_beside_the_accuracy_where_images_are_few(
    images: int, first: tuple[float, float], second: tuple[float, float], better: int, tuner: FineTuner
) -> None:
    found = []
    logged: dict[str, float] = {}
    tuner.log_dict = lambda metrics, logger: logged.update(metrics)  # type: ignore[method-assign,misc,assignment]
    for accuracy, loss in (first, second):
        right = torch.arange(images) < round(accuracy * images)
        tuner.val_score.update(F.one_hot((~right).long(), 3).float(), torch.zeros(images, dtype=torch.long))
        tuner.val_loss.update(torch.full((images,), loss))
        tuner.train_loss.update(torch.zeros(1))
        tuner.train_score.update(torch.eye(3)[:1], torch.zeros(1, dtype=torch.long))
        tuner.on_validation_epoch_end()
        found.append(float(logged["val/selection"]))
    assert int(found[1] > found[0]) == better


def test_processes_choose_an_epoch_as_one_would(tuner: FineTuner, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, float] = {}
    tuner.log_dict = lambda metrics, logger: logged.update(metrics)  # type: ignore[method-assign,misc,assignment]

    def selection(images: int) -> float:
        tuner.val_score.update(torch.eye(3)[:1].expand(images, 3), torch.zeros(images, dtype=torch.long))
        tuner.val_loss.update(torch.full((images,), 0.3))
        tuner.train_loss.update(torch.zeros(1))
        tuner.train_score.update(torch.eye(3)[:1], torch.zeros(1, dtype=torch.long))
        tuner.on_validation_epoch_end()
        return float(logged["val/selection"])

    alone = selection(200)
    # Two processes of 100 images each: the other one's sums are as large.
    monkeypatch.setattr(torchmetrics.metric, "gather_all_tensors", lambda value, group=None: [value, value])
    for metric in (tuner.val_score, tuner.val_loss, tuner.train_score, tuner.train_loss):
        metric.distributed_available_fn = lambda: True
    assert selection(100) == pytest.approx(alone)
