"""The results of a sweep: read from the run folders, ranked, written as ``sweep.csv`` and as text."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from effnet_ft.errors import DataError, UsageError
from effnet_ft.sweep.definition import METRICS, Sweep
from effnet_ft.sweep.grid import Setting
from effnet_ft.utils.atomic_files import atomic_write
from effnet_ft.utils.tables import columns, write_csv

FINISHED, DIVERGED, WAITING = "finished", "diverged", "waiting"


@dataclass
class Result:
    """The result of a setting."""

    number: int  # from 1
    setting: Setting
    value: float = math.nan  # of the metric, if finished
    seconds: float = math.nan  # of training, once ended
    state: str = WAITING

    @property
    def name(self) -> str:
        """The name of its run folder."""
        return f"{self.number:03d}"


def read_results(sweep: Sweep) -> list[Result]:
    """Return the results so far, in the order of the settings; errors of :func:`read_metrics`."""
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
    """Update ``result`` from its run; DataError if the metrics are damaged, UsageError if they lack the sweep's."""
    path = sweep.run(result.number).metrics
    try:
        metrics = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"cannot read {path}: remove {path.parent} to train that setting again") from error
    if sweep.metric not in metrics:
        known = ", ".join(name for name in METRICS if name in metrics)
        raise UsageError(f"--metric is '{sweep.metric}', which these runs do not have; they have {known}")
    result.value, result.seconds, result.state = metrics[sweep.metric], metrics["train_seconds"], FINISHED


def ranked(results: Sequence[Result], metric: str) -> list[Result]:
    """Return the results, the best first: finished ones, then diverged and waiting ones; ties in order of number."""
    sign = -1 if METRICS[metric] else 1

    def order(result: Result) -> tuple[int, float, int]:
        value = math.inf if math.isnan(result.value) else sign * result.value
        return (FINISHED, DIVERGED, WAITING).index(result.state), value, result.number

    return sorted(results, key=order)


def results_text(results: Sequence[Result], metric: str) -> str:
    """Return the results as a table for the terminal."""
    rows = _rows(results, metric, "{:.4f}", "{:.0f}")
    return columns(rows, right=range(1, len(rows[0]) - 1))


def write_table(sweep: Sweep, results: Sequence[Result]) -> None:
    """Atomically write ``sweep.csv``."""
    with atomic_write(sweep.table, newline="") as file:
        write_csv(file, _rows(results, sweep.metric, "{:.6f}", "{:.1f}"))


def _rows(results: Sequence[Result], metric: str, value: str, seconds: str) -> list[list[str]]:
    """Return a head and a row per result, with ``value`` and ``seconds`` as format strings."""

    def cells(result: Result) -> list[str]:
        numbers = ((result.value, value), (result.seconds, seconds))
        formatted = [form.format(number) if math.isfinite(number) else "" for number, form in numbers]
        return [result.name, *result.setting.values(), *formatted, result.state]

    return [["setting", *results[0].setting, metric, "seconds", "state"], *map(cells, results)]
