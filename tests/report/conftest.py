"""Runs whose reports are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_run import write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder written by hand."""
    return write_run(tmp_path)
