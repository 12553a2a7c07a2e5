"""Tables: what a spreadsheet would run is written as text, and reads back as it was."""

from __future__ import annotations

import csv
import io

import pytest

from effnet_ft.utils.tables import escape_formula, unescape_formula, write_csv

NAMES = (
    *("=1+1", "+1", "-1", "@sum", "\t=1", "\r=1", "'=1", "''=1", "'", "''", "", "it's", "'tis", "a=b", " x"),
    *("a,b", 'say "x"', "two\nlines", "dos\r\nlines", "old\rmac", "latin1-\udce9", "\ufeffmark", "line\u2028break"),
)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_cell_reads_back_and_is_no_formula(name: str) -> None:
    assert unescape_formula(escape_formula(name)) == name
    assert not escape_formula(name).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_no_two_names_share_a_cell() -> None:
    assert len({escape_formula(name) for name in NAMES}) == len(NAMES)


def test_names_that_are_no_formula_stay_as_they_are() -> None:
    assert [escape_formula(name) for name in ("a=b", "'tis", "a-b", "")] == ["a=b", "'tis", "a-b", ""]


def test_every_name_stays_in_its_cell() -> None:
    file = io.StringIO(newline="")
    write_csv(file, [(name, "label", 0.5) for name in NAMES])
    rows = list(csv.reader(io.StringIO(file.getvalue(), newline=""), skipinitialspace=True))
    assert [[unescape_formula(cell) for cell in row] for row in rows] == [[name, "label", "0.5"] for name in NAMES]


def test_numbers_are_no_formulas() -> None:
    file = io.StringIO()
    write_csv(file, [(-0.5, -3)])
    assert file.getvalue() == "-0.5,-3\n"
