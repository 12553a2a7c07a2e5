"""The headline numbers of a report and their intervals."""

from __future__ import annotations

import json
from pathlib import Path

from report_run import section_html

from effnet_ft import report
from effnet_ft.report.contents import read_run
from effnet_ft.report.rendering import Section


def headline(run: Path) -> str:
    return section_html(Section("", "headline", {"run": read_run(run)}))


def test_headline_numbers(run: Path) -> None:
    html = headline(run)
    assert "<dt>Test accuracy</dt><dd>57.1%</dd><dd>95% interval: 25.0% to 84.2%</dd><dd>top five: 100.0%</dd>" in html
    assert "Wilson" in html and "bootstrap" in html
    assert "4.2%" in html and "3 min 12 s" in html and "test, of 13 in total" in html


def test_all_images_right_are_not_certain(run: Path) -> None:
    measured = {"test/acc1_low": 1.0, "test/acc1_high": 1.0}  # as runs once had it
    (run / "metrics.json").write_text(json.dumps({"test/acc1": 1.0, "test/macro_f1": 1.0, **measured}))
    html = headline(run)
    assert "<dt>Test accuracy</dt><dd>100.0%</dd><dd>95% interval: 64.6% to 100.0%</dd></div>" in html
    assert "<dt>Macro F1</dt><dd>100.0%</dd><dd>mean over the classes</dd></div>" in html


def test_run_without_test_split_says_validation(run: Path) -> None:
    metrics = {"val/acc1": 4 / 7, "val/macro_f1": 0.5, "val/ece": 0.04, "train_seconds": 3.0}
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    text = report.write_report(run).read_text(encoding="utf-8")
    assert "Validation accuracy" in text and "Test accuracy" not in text
    assert "of the validation images" in text and "7 validation images\nare misclassified" in text
    assert "top five" not in text
