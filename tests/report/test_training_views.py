"""The training views of a report are those that the training drew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from plans import plan_of
from report_run import section_html

from effnet_ft.data.datamodule import ImageDataModule
from effnet_ft.data.sources.source import Sample
from effnet_ft.data.splits.split import Split
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.recipe.plan import Plan
from effnet_ft.report.contents import RunContents, read_run
from effnet_ft.report.rendering import Section
from effnet_ft.report.thumbnails import Thumbnails
from effnet_ft.report.training_views import draw_views, phase_views, training_views

HEAD, ALL = "{train: head, epochs: 3, lr: 1e-2}", "{train: all, epochs: 2, lr: 1e-3}"


def plan(*phases: str, data: str = "data.augment=basic") -> Plan:
    return plan_of(f"phases=[{', '.join(phases)}]", "data.image_size=64", "seed=5", data)


def views_html(contents: RunContents) -> str:
    return section_html(Section("", "training_views", training_views(contents)))


@pytest.mark.parametrize(
    ("phases", "data", "expected"),
    [
        ([HEAD, ALL], "seed=5", [([0], 3), ([1], 0)]),  # no more views than epochs; nothing frozen, nothing stored
        (
            ["{train: stage7, epochs: 2, lr: 1e-3}", "{train: head, epochs: 8, lr: 1e-2}"],
            "seed=5",
            [([0], 2), ([1], 4)],  # the first trains what is before the second's cut: nothing is shared
        ),
        ([HEAD, "{train: stage8, epochs: 3, lr: 1e-3}"], "seed=5", [([0, 1], 3)]),
        ([HEAD, "{train: head, epochs: 3, lr: 1e-2, augment: strong}"], "seed=5", [([0], 3), ([1], 3)]),
        ([HEAD], "data.augment=none", [([0], 1)]),
        ([HEAD], "data.mixup=0.2", [([0], 0)]),
        ([HEAD], "store.max_gb=1e-9", [([0], 0)]),
        (["{train: head, epochs: 1, lr: 1e-2}"], "seed=5", [([0], 0)]),  # nothing would be read twice
    ],
)
def test_phases_that_show_the_same(phases: list[str], data: str, expected: list[tuple[list[int], int]]) -> None:
    assert [(each.phases, each.stored) for each in phase_views(plan(*phases, data=data))] == expected


def test_views_are_those_of_the_training(run: Path) -> None:
    root = run.parent / "images"
    preprocessing = Preprocessing(size=64, resize=72)
    contents = replace(
        read_run(run),
        plan=plan(HEAD, ALL),
        training_paths=("one.png", "two.png"),
        thumbnails=Thumbnails(root, SimpleNamespace(preprocessing=preprocessing)),  # type: ignore[arg-type]
    )
    split = Split(root, ("cat",), [Sample("one.png", "cat"), Sample("two.png", "cat")], [], [])
    trained = ImageDataModule(split, preprocessing, batch_size=2, seed=(5, 1)).train_dataloader().dataset
    assert contents.plan is not None
    stored, fresh = phase_views(contents.plan)
    (views,) = draw_views(contents, fresh, {1: root / "two.png"})
    assert len(views) == 2
    assert all(np.array_equal(view, trained[epoch * 2 + 1][0]) for epoch, view in enumerate(views))
    (views,) = draw_views(contents, stored, {1: root / "two.png"})
    assert len(views) == 3 and np.array_equal(views[0][:, ::-1], views[1])
    html = views_html(contents)
    assert "Phase 1 head" in html and "Phase 2 all" in html and html.count("<img") == 2 * 3 + 2 * 2


def test_without_a_checkpoint_it_says_so(run: Path) -> None:
    assert "Left out" in views_html(read_run(run))
