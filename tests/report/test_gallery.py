"""Pictures of single images in a report."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from report_run import section_html

from effnet_ft.report.contents import read_run
from effnet_ft.report.rendering import Section
from effnet_ft.report.run_page import mistakes, uncertain


def test_mistakes_most_confident_first(run: Path) -> None:
    html = section_html(Section("", "gallery", mistakes(read_run(run))))
    order = [html.index(f"{share}%<small>") for share in ("99.0", "70.0", "55.0")]
    assert order == sorted(order)
    assert "label: <b>=sum</b><br>prediction: <b>cat</b>, 55.0%" in html
    # The missing file is shown by its name, the two others as images.
    assert html.count("data:image/jpeg;base64,") == 2 and html.count("no image") == 1 and "gone.png" in html


def test_broken_and_outside_images_show_their_name(run: Path) -> None:
    (run.parent / "images" / "seven.png").write_bytes(b"no image at all")
    Image.new("RGB", (8, 8)).save(run.parent / "secret.png")
    data = read_run(run)
    assert data.thumbnails.thumbnail("one.png")
    for path in ("seven.png", "../secret.png", str(run.parent / "secret.png"), "nul\0.png"):
        assert data.thumbnails.thumbnail(path) == ""


def test_least_confident_correct_predictions_come_first(run: Path) -> None:
    html = section_html(Section("", "gallery", uncertain(read_run(run))))
    order = [html.index(f"{share}%<small>") for share in ("50.0", "60.0", "80.0", "90.0")]
    assert order == sorted(order) and "label and prediction: <b>cat</b>, 80.0%" in html and "4 of 7" in html


def test_without_a_checkpoint_the_page_says_that_grad_cam_is_missing(run: Path) -> None:
    assert "Without Grad-CAM" in section_html(Section("", "gallery", mistakes(read_run(run))))


def test_a_training_shows_where_its_network_looks(trained_run: Path) -> None:
    html = (trained_run / "report.html").read_text()
    answers = html.split('id="least-confident-correct-predictions"')[1].split("</section>")[0]
    assert "by Grad-CAM" in answers and answers.count('<div class="views"><img') == answers.count("<figure>") > 0
    assert answers.count("<img") == 2 * answers.count("<figure>")
    assert "used in turn" in html.split('id="training-views"')[1]
