"""The report as a browser shows it: no errors, cells that open, tables that sort, no overflow on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, browser
from report_run import CLASSES, HOSTILE, PREDICTIONS, write_csv, write_predictions, write_run

from effnet_ft.report import write_report
from effnet_ft.report.comparison import compare, write_comparison
from effnet_ft.sweep.definition import Sweep
from effnet_ft.sweep.results import FINISHED, Result
from effnet_ft.sweep.sweep_page import write_sweep_page

ROWS = "[...document.querySelectorAll('.matrix tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))"
PANEL = "document.querySelector('.cell').innerText"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run of a thousand classes with five thousand images, a fifth of them mistaken."""
    run = write_run(tmp_path_factory.mktemp("large"))
    names = [f"class {number:03}" for number in range(1000)]
    (run / "classes.txt").write_text("\n".join(names))
    random = np.random.default_rng(0)
    rows = []
    for number in range(5000):
        true = number % 1000
        guess = true if number % 5 else int(random.integers(1000))
        rows.append((names[true], names[guess], float(random.uniform()), f"{number}.png"))
    write_predictions(run, rows)
    write_csv(run / "split.csv", ("path", "label", "split"), *((row[3], row[0], "test") for row in rows))
    return write_report(run)


def test_matrix_and_its_cells(chromium: Browser, small: Path) -> None:
    chromium.open(small)
    assert chromium.run(ROWS) == [
        [HOSTILE, "1", "", "", "1"],
        ["=sum", "", "1", "", "1"],
        ["a&b 'c'", "", "", "", ""],
        ["cat", "1", "", "", "2"],
    ]
    chromium.click('.matrix [data-cell="0,1"]')
    assert f"cat, predicted as {HOSTILE}: 1 image" in chromium.run(PANEL) and "gone.png" in chromium.run(PANEL)
    chromium.click('.matrix [data-cell="0,0"]')
    assert "cat, correct: 2 images" in chromium.run(PANEL)
    assert chromium.run("document.querySelectorAll('.cell img').length") == 2
    chromium.run("(s => {s.value = 'errors'; s.dispatchEvent(new Event('change'))})(document.querySelector('select'))")
    assert [row[0] for row in chromium.run(ROWS)] == CLASSES
    chromium.click('.pair [data-cell="2,0"]')
    assert "=sum, predicted as cat: 1 image" in chromium.run(PANEL)
    assert chromium.console == []


def test_tables_sort(chromium: Browser, small: Path) -> None:
    chromium.open(small)
    names = "[...document.querySelectorAll('#classes tbody tr')].map(row => row.cells[0].innerText)"
    assert chromium.run(names) == CLASSES
    chromium.click("#classes th:nth-child(3) button")  # recall: 2/3, 1/2, 1/2, none
    assert chromium.run(names) == CLASSES
    chromium.click("#classes th:nth-child(3) button")
    assert chromium.run(names) == [HOSTILE, "=sum", "cat", "a&b 'c'"]
    assert chromium.console == []


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_overflows(chromium: Browser, small: Path, width: int) -> None:
    chromium.open(small, width)
    chromium.click('.matrix [data-cell="0,0"]')
    assert chromium.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 1200])
def test_runs_side_by_side(chromium: Browser, tmp_path: Path, width: int) -> None:
    runs = [write_run(tmp_path / name) for name in ("a", "b")]
    write_predictions(runs[1], [(row[0], "cat", *row[2:]) for row in PREDICTIONS])
    page = write_comparison(compare(runs), tmp_path / "page.html")
    chromium.open(page, width)
    assert chromium.run("document.documentElement.scrollWidth") <= width
    assert chromium.run("document.querySelectorAll('.answers figure').length") == 3
    # What does not fit fades out at its right edge until it is scrolled there.
    boxes = "[...document.querySelectorAll('.scroll')]"
    faded = f"{boxes}.filter(box => getComputedStyle(box).maskImage !== 'none').length"
    assert chromium.run(faded) == chromium.run(f"{boxes}.filter(box => box.scrollWidth > box.clientWidth + 2).length")
    assert chromium.run(faded) or width > 390
    chromium.run(f"{boxes}.forEach(box => {{ box.scrollLeft = 9999; box.dispatchEvent(new Event('scroll')); }})")
    assert chromium.run(faded) == 0
    assert chromium.console == []


@pytest.mark.parametrize(("width", "height"), [(390, 50), (1200, 80)])
def test_the_links_stay_in_sight(chromium: Browser, small: Path, width: int, height: int) -> None:
    chromium.open(small, width)
    chromium.run("document.getElementById('times').scrollIntoView()")
    box = "document.querySelector('nav').getBoundingClientRect()"
    assert chromium.run(f"{box}.top") == 0 and chromium.run(f"{box}.height") < height
    title = "document.querySelector('#times h2').getBoundingClientRect().top"
    assert chromium.run(title) > chromium.run(f"{box}.bottom")


@pytest.mark.parametrize("width", [390, 1200])
def test_a_chart_alone_keeps_its_size(chromium: Browser, tmp_path: Path, width: int) -> None:
    settings = [{"optim.weight_decay": value} for value in ("0", "1e-4")]
    results = [Result(n, setting, 0.8 + n / 100, 1.0, FINISHED) for n, setting in enumerate(settings, 1)]
    sweep = Sweep(tmp_path, "folder", (), settings, "val/acc1", {})
    chromium.open(write_sweep_page(sweep, results[::-1]), width)
    assert 300 < chromium.run("document.querySelector('svg').getBoundingClientRect().width") < 600


def test_dark_where_the_reader_prefers_it(chromium: Browser, small: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    chromium.open(small)
    assert chromium.run(background) == "rgb(255, 255, 255)"
    chromium.open(small, dark=True)
    assert chromium.run(background) == "rgb(20, 24, 28)"


def test_a_thousand_classes(chromium: Browser, large: Path) -> None:
    assert large.stat().st_size < 1.5e6
    chromium.open(large)
    assert chromium.run("document.querySelectorAll('.matrix tbody tr').length") == 20
    cells = "JSON.parse(document.querySelector('.confusion script').textContent).cells"
    true, guess = chromium.run(f"{cells}.find(cell => cell[0] == 415 && cell[1] != 415)")[:2]
    place = f"(b => [b.x + b.width * {(guess + 0.5) / 1000}, b.y + b.height * {(true + 0.5) / 1000}])"
    chromium.run("document.querySelector('canvas').scrollIntoView({block: 'center'})")
    chromium.press(*chromium.run(f"{place}(document.querySelector('canvas').getBoundingClientRect())"))
    assert "class 415, predicted as" in chromium.run(PANEL)
    assert "class 415" in [row[0] for row in chromium.run(ROWS)]
    assert chromium.console == []
