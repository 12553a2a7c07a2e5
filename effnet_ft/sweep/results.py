"""The results of a sweep: read from the run folders, ranked, written as ``sweep.csv`` and as text."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

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


@dataclass
class SeedMean(Result):
    """A setting whose value is the mean over its seeds; NaN if one of them is not finished."""

    spread: float = math.nan  # standard deviation over the seeds
    numbers: tuple[int, ...] = ()  # of the seeds' results
    finished: int = 0  # of them


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
    """Return the results, the best first: finished ones, then diverged and waiting ones; ties in order of number.

    The results of a setting's seeds rank by their mean, last if a seed is not finished, for no seed is better.
    """
    sign = -1 if METRICS[metric] else 1
    values = {number: sign * mean.value for mean in _seed_means(results) for number in mean.numbers}

    def order(result: Result) -> tuple[int, float, int]:
        value = values[result.number]
        return (
            (FINISHED, DIVERGED, WAITING).index(result.state),
            math.inf if math.isnan(value) else value,
            result.number,
        )

    return sorted(results, key=order)


def over_seeds(results: Sequence[Result]) -> list[SeedMean]:
    """Return the mean of each setting over its seeds, in the order of ``results``; none if ``seed`` is not swept."""
    return _seed_means(results) if "seed" in results[0].setting else []


def _seed_means(results: Sequence[Result]) -> list[SeedMean]:
    groups: dict[tuple[tuple[str, str], ...], list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(item for item in result.setting.items() if item[0] != "seed"), []).append(result)
    means = []
    for setting, group in groups.items():
        values, numbers = [result.value for result in group], tuple(result.number for result in group)
        finished = sum(result.state == FINISHED for result in group)
        mean = SeedMean(min(numbers), dict(setting), fmean(values), numbers=numbers, finished=finished)
        mean.spread = stdev(values) if 1 < finished == len(group) else math.nan
        means.append(mean)
    return means


def results_text(results: Sequence[Result], metric: str) -> str:
    """Return the results as a table for the terminal, and one of means if ``seed`` is swept."""
    rows = _rows(results, metric, "{:.4f}", "{:.0f}")
    text = columns(rows, right=range(1, len(rows[0]) - 1))
    if means := over_seeds(results):
        head = [*means[0].setting, f"mean {metric}", "standard deviation", "seeds finished"]
        cells = [
            [
                *mean.setting.values(),
                *("" if math.isnan(number) else f"{number:.4f}" for number in (mean.value, mean.spread)),
                f"{mean.finished} of {len(mean.numbers)}",
            ]
            for mean in means
        ]
        text += f"\n\n{columns([head, *cells])}"
    return text


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
