"""The model card's paragraph says what the run's files say, and no more."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from report_run import HOSTILE, write_predictions

from effnet_ft.report.card import model_card
from effnet_ft.report.reading import read_run


def card(run: Path, model: dict[str, Any], **metrics: float) -> str:
    """Return the words of the card of a run with such a model and metrics."""
    recipe = json.loads((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(json.dumps({**recipe, "model": model}))
    known = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**known, **metrics}))
    return re.sub("<[^>]*>", "", model_card(read_run(run)))


def test_facts(run: Path) -> None:
    text = card(run, {"variant": "b0", "weights": "torchvision"})
    assert "trained to tell images of 4 classes" in text
    assert "efficientnet_b0_rwightman-7f5810bc.pth from download.pytorch.org; 77.692%" in text
    assert "BSD 3-clause" in text
    assert "trained on 5 training images; 1 validation image chose the epoch" in text
    assert "On 7 test images it reaches an accuracy of 57.1% (95% interval 25.0% to 84.2%), with a macro F1" in text
    assert "The lowest F1 have &lt;script" in text and "a&amp;b" not in text  # a class without images has no F1
    assert "not calibrated: their expected error is 4.2%" in text
    assert "The rarest class was measured on 0 images" in text


def test_a_class_without_a_mistake_is_not_among_the_lowest(run: Path) -> None:
    right = [("cat", "cat", 0.9, "two.png"), ("'=sum", "'=sum", 0.9, "six.png"), (HOSTILE, HOSTILE, 0.9, "five.png")]
    write_predictions(run, [*right, ("cat", "'=sum", 0.6, "one.png")])
    (lowest,) = re.findall(r"The lowest F1 have (.*?)\. ", card(run, {"variant": "b0", "weights": "none"}))
    assert lowest == "cat (66.7%), =sum (66.7%)"
    write_predictions(run, right)
    assert "lowest" not in card(run, {"variant": "b0", "weights": "none"})


def test_calibrated_and_random_weights(run: Path) -> None:
    text = card(run, {"variant": "b0", "weights": "none"}, **{"test/ece": 0.02, "test/ece_uncalibrated": 0.2})
    assert "random weights" in text and "calibrated: their expected error is 2.0%, before it was 20.0%" in text


def test_unknown_weights_are_named_alone(run: Path) -> None:
    assert "the weights gone/&lt;b&gt;.pth; where they come from is not known" in card(
        run, {"variant": "b0", "weights": "gone/<b>.pth"}
    )


def test_validation_images_are_said_to_flatter(run: Path) -> None:
    (run / "metrics.json").write_text(json.dumps({"val/acc1": 0.5, "val/macro_f1": 0.5, "val/ece": 0.1}))
    assert "new images may fare worse" in card(run, {"variant": "b0", "weights": "none"})
