"""What came out of a sweep's settings: read from their run folders, ranked, written as ``sweep.csv`` and as text."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from effnet_ft.errors import DataError, UsageError
from effnet_ft.sweep.definition import METRICS, Sweep
from effnet_ft.sweep.grid import Setting
from effnet_ft.utils.atomic_files import atomic_write_text
from effnet_ft.utils.tables import columns, write_csv

FINISHED, DIVERGED, WAITING = "finished", "diverged", "waiting"


@dataclass
class Result:
    """What became of a setting.

    Attributes:
        number: from 1.
        setting: the swept keys and their values.
        value: of the metric; NaN where there is none.
        seconds: of training; NaN where it has not ended.
        state: ``finished``, ``diverged`` or ``waiting``.
    """

    number: int
    setting: Setting
    value: float = math.nan
    seconds: float = math.nan
    state: str = WAITING

    @property
    def name(self) -> str:
        """The name of its run folder."""
        return f"{self.number:03d}"


def read_results(sweep: Sweep) -> list[Result]:
    """Return every setting in order, with what is known of it.

    Raises:
        DataError: where a finished run's metrics are damaged.
        UsageError: where finished runs do not have the metric.
    """
    diverged: dict[str, float] = {}
    if sweep.table.is_file():
        with sweep.table.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("state") == DIVERGED]
        diverged = {row["setting"]: float(row["seconds"] or "nan") for row in rows}
    results = [Result(number, setting) for number, setting in enumerate(sweep.settings, 1)]
    for result in results:
        if sweep.run(result.number).metrics.is_file():
            read_metrics(sweep, result)
        elif result.name in diverged:
            result.seconds, result.state = diverged[result.name], DIVERGED
    return results


def read_metrics(sweep: Sweep, result: Result) -> None:
    """Enter the metrics of a setting's finished run into its result.

    Raises:
        DataError: where they are damaged.
        UsageError: where they do not have the sweep's metric.
    """
    path = sweep.run(result.number).metrics
    try:
        metrics = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be understood: remove {path.parent} to train that setting again") from error
    if sweep.metric not in metrics:
        known = ", ".join(name for name in METRICS if name in metrics)
        raise UsageError(f"--metric is '{sweep.metric}', which these runs do not have; they have {known}")
    result.value, result.seconds, result.state = metrics[sweep.metric], metrics["train_seconds"], FINISHED


def ranked(results: Sequence[Result], metric: str) -> list[Result]:
    """Return the results with the best first, those that diverged after the finished ones; the earlier of equals."""
    sign = -1 if METRICS[metric] else 1
    states = (FINISHED, DIVERGED, WAITING)

    def order(result: Result) -> tuple[int, float, int]:
        value = math.inf if math.isnan(result.value) else sign * result.value
        return states.index(result.state), value, result.number

    return sorted(results, key=order)


def results_text(results: Sequence[Result], metric: str) -> str:
    """Return the results as a table for the terminal."""
    head = ["setting", *results[0].setting, metric, "seconds", "state"]
    rows = [
        [result.name, *result.setting.values(), *_numbers(result, "{:.4f}", "{:.0f}"), result.state]
        for result in results
    ]
    return columns([head, *rows], right=range(1, len(head) - 1))


def write_table(sweep: Sweep, results: Sequence[Result]) -> None:
    """Write the row of every setting to ``sweep.csv``; an interrupted write leaves what was there."""
    text = io.StringIO()
    rows = (
        [result.name, *result.setting.values(), *_numbers(result, "{:.6f}", "{:.1f}"), result.state]
        for result in results
    )
    write_csv(text, [["setting", *sweep.settings[0], sweep.metric, "seconds", "state"], *rows])
    atomic_write_text(sweep.table, text.getvalue())


def _numbers(result: Result, value: str, seconds: str) -> list[str]:
    pairs = ((result.value, value), (result.seconds, seconds))
    return [style.format(number) if math.isfinite(number) else "" for number, style in pairs]
