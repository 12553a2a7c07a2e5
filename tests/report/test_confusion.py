"""The confusion matrix of a report, and the pairs that are confused most."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_run import CLASSES, HOSTILE, PREDICTIONS, section_html, write_predictions

from effnet_ft.report import confusion
from effnet_ft.report.confusion import confused_pairs, matrix_data, orders
from effnet_ft.report.contents import read_run
from effnet_ft.report.rendering import Section


def test_cells_count_the_predictions(run: Path) -> None:
    cells = matrix_data(read_run(run))["cells"]
    assert [cell[:3] for cell in cells] == [[0, 0, 2], [0, 1, 1], [1, 0, 1], [1, 1, 1], [2, 0, 1], [2, 2, 1]]
    images = {tuple(cell[:2]): cell[3] for cell in cells}
    # Of right answers the least certain comes first; the file that is gone has no picture.
    assert [image[:2] for image in images[0, 0]] == [["two.png", 0.8], ["one.png", 0.9]]
    assert images[0, 0][0][2].startswith("data:image/jpeg;base64,")
    assert images[0, 1] == [["gone.png", 0.99, ""]]


def test_every_mistake_is_pictured_before_right_answers(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion, "PICTURES_IN_PAGE", 3)
    monkeypatch.setattr(confusion, "NAMES_IN_PAGE", 5)
    cells = matrix_data(read_run(run))["cells"]
    pictured = {image[0] for cell in cells for image in cell[3] if image[2]}
    assert pictured == {'<img src=x onerror="x">.png', "seven.png"}  # the third is gone.png, which cannot be read
    named = [cell[3] for cell in cells if cell[0] == cell[1]]
    assert sum(len(images) for images in named) == 2  # what is left of five after three mistakes


def test_a_cell_names_its_surest_mistakes_and_no_more_than_it_may(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion, "CELL_NAMES", 2)
    write_predictions(run, [("cat", HOSTILE, share, f"{share}.png") for share in (0.3, 0.5, 0.4)])
    ((true, guess, count, images),) = matrix_data(read_run(run))["cells"]
    assert (true, guess, count) == (0, 1, 3) and [image[1] for image in images] == [0.5, 0.4]


def test_orders(run: Path) -> None:
    ranks = orders(read_run(run))
    assert [CLASSES[place] for place in ranks["name"]] == [HOSTILE, "=sum", "a&b 'c'", "cat"]
    assert ranks["errors"] == [0, 1, 2, 3]  # cat 3 mistakes, hostile 2, =sum 1, none
    assert all(sorted(order) == [0, 1, 2, 3] for order in ranks.values())
    write_predictions(run, [("cat", "a&b 'c'", 0.5, "1"), (HOSTILE, "=sum", 0.5, "2")])
    similar = orders(read_run(run))["similarity"]
    assert abs(similar.index(0) - similar.index(3)) == abs(similar.index(1) - similar.index(2)) == 1


def test_a_single_class_has_an_order(run: Path) -> None:
    (run / "classes.txt").write_text("cat\n")
    write_predictions(run, [("cat", "cat", 0.5, "1")])
    (run / "split.csv").write_text("path,label,split\n1,cat,test\n")
    assert orders(read_run(run))["similarity"] == [0]


def test_json_cannot_end_its_script_element() -> None:
    names = ["</script><!--", "\udc80"]
    data = {"split_name": "test", "orders": {}, "data": {"classes": names}}
    html = section_html(Section("", "confusion_matrix", data))
    text = html.split('<script type="application/json">')[1].split("</script>")[0]
    assert "<" not in text and json.loads(text) == {"classes": names}


def test_pairs_stand_side_by_side_most_confused_first(run: Path) -> None:
    html = section_html(Section("", "confused_pairs", pairs := confused_pairs(read_run(run))))
    assert pairs is not None
    errors = [[(*map(side.get, ("name", "other", "errors", "total")),) for side in pair] for pair in pairs["pairs"]]
    assert errors == [
        [("cat", HOSTILE, 1, 3), (HOSTILE, "cat", 1, 2)],
        [("cat", "=sum", 0, 3), ("=sum", "cat", 1, 2)],
    ]
    assert "2 pairs of classes are confused" in html and html.count('class="pair"') == 2
    assert html.count('data-cell="0,1"') == html.count('data-cell="1,0"') == html.count('data-cell="2,0"') == 1
    assert "0 of 3 predicted as =sum</p>" in html  # nothing to click


def test_without_mistakes_there_are_no_pairs(run: Path) -> None:
    write_predictions(run, [row for row in PREDICTIONS if row[0] == row[1]])
    html = section_html(Section("", "confused_pairs", confused_pairs(read_run(run))))
    assert "No test image is misclassified" in html
