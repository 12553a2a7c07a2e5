"""Pictures of single images in a report."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from report_run import Page

from effnet_ft.results import report
from effnet_ft.results.report.gallery import mistakes
from effnet_ft.results.report.reading import read_run


def test_mistakes_most_confident_first(run: Path) -> None:
    html = mistakes(read_run(run))
    order = [html.index(f"{share}%<small>") for share in ("99.0", "70.0", "55.0")]
    assert order == sorted(order)
    # The missing file is shown by its name, the two others as images.
    assert html.count("data:image/jpeg;base64,") == 2 and html.count("no image") == 1 and "gone.png" in html


def test_broken_and_outside_images_show_their_name(run: Path) -> None:
    (run.parent / "images" / "seven.png").write_bytes(b"no image at all")
    Image.new("RGB", (8, 8)).save(run.parent / "secret.png")
    data = read_run(run)
    assert data.pictures.thumbnail("one.png")
    for path in ("seven.png", "../secret.png", str(run.parent / "secret.png"), "nul\0.png"):
        assert data.pictures.thumbnail(path) == ""


def test_without_thumbnails(run: Path) -> None:
    page = Page(report.write_report(run, thumbnails=False))
    assert "img" not in [tag for tag, _ in page.tags]
    assert "seven.png" in page.text
