"""The model card says what the run's files say, and no more."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from plans import plan_of
from report_run import HOSTILE, section_html, write_predictions

from effnet_ft.report.contents import read_run
from effnet_ft.report.rendering import Section
from effnet_ft.report.run_page import model_card


def card(run: Path, model: dict[str, Any], **metrics: float) -> str:
    """Return the words of the card of a run with such a model and metrics."""
    recipe = json.loads((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(json.dumps({**recipe, "model": model}))
    known = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**known, **metrics}))
    html = section_html(Section("", "model_card", model_card(read_run(run))))
    return " ".join(re.sub("<[^>]*>", "", html).split())


def test_facts(run: Path) -> None:
    text = card(run, {"variant": "b0", "weights": "torchvision"})
    assert "trained to classify images into 4 classes. Training started from the pretrained weights" in text
    assert (
        "efficientnet_b0_rwightman-7f5810bc.pth from download.pytorch.org; published ImageNet top-1 accuracy 77.692%"
        in text
    )
    assert "licence: BSD-3-Clause" in text
    assert "trained on 5 training images; the best epoch was selected on 1 validation image." in text
    assert "On 7 test images its accuracy is 57.1% (95% interval 25.0% to 84.2%) and its macro F1 50.0%." in text
    assert "Lowest F1: &lt;script" in text and "a&amp;b" not in text  # a class without images has no F1
    assert "not calibrated: the expected calibration error is 4.2%." in text
    assert "The smallest class was measured on 0 images" in text


def test_what_the_recipe_left_to_the_plan_is_that_of_the_plan(run: Path) -> None:
    plan_of("model.variant=b0").save(run / "plan.yaml")
    text = card(run, {"variant": "b0", "weights": "auto"})
    assert "for images of 224 by 224 pixels" in text and "the pretrained weights b0/" in text


def test_a_class_without_a_mistake_is_not_among_the_lowest(run: Path) -> None:
    right = [("cat", "cat", 0.9, "two.png"), ("'=sum", "'=sum", 0.9, "six.png"), (HOSTILE, HOSTILE, 0.9, "five.png")]
    write_predictions(run, [*right, ("cat", "'=sum", 0.6, "one.png")])
    (lowest,) = re.findall(r"Lowest F1: (.*?)\. ", card(run, {"variant": "b0", "weights": "none"}))
    assert lowest == "cat (66.7%), =sum (66.7%)"
    write_predictions(run, right)
    assert "Lowest" not in card(run, {"variant": "b0", "weights": "none"})


def test_calibrated_and_random_weights(run: Path) -> None:
    text = card(run, {"variant": "b0", "weights": "none"}, **{"test/ece": 0.02, "test/ece_uncalibrated": 0.2})
    assert (
        "random weights" in text
        and "calibrated: the expected calibration error is 2.0%, 20.0% before calibration." in text
    )


def test_unknown_weights_are_named_alone(run: Path) -> None:
    assert "the weights gone/&lt;b&gt;.pth; their source is not known" in card(
        run, {"variant": "b0", "weights": "gone/<b>.pth"}
    )


def test_validation_images_are_said_to_flatter(run: Path) -> None:
    (run / "metrics.json").write_text(json.dumps({"val/acc1": 0.5, "val/macro_f1": 0.5, "val/ece": 0.1}))
    assert "results on new images may be worse" in card(run, {"variant": "b0", "weights": "none"})


@pytest.mark.parametrize(
    ("variant", "weights", "licence"),
    [
        ("lite0", "lite", "Apache-2.0)"),
        ("b0", "torchvision", "BSD-3-Clause"),
        ("b0", "aa", "Apache-2.0, of mmpretrain"),
    ],
)
def test_the_licence_of_the_weights_is_stated(variant: str, weights: str, licence: str, run: Path) -> None:
    assert f"licence: {licence}" in card(run, {"variant": variant, "weights": weights})
