"""Kills runs at random moments, resumes them until they are done, and compares each with a run that nothing stopped.

``make soak``: fifty runs of three phases on drawn images, each started again and again by the one command line that a
scheduler would requeue, and ended at moments drawn at random, by SIGKILL and SIGTERM in turn. With ``--devices 2`` each
run is of two processes, and the signal goes to the first of them, which was started, or to both.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effnet_ft.data.demo_flowers import draw_flowers
from effnet_ft.runs.run_folder import Run, read_checkpoint
from effnet_ft.training.recovery.resume import find_damage
from effnet_ft.utils.array_cache import FOLDER_VARIABLE
from effnet_ft.utils.atomic_files import PARTIAL_SUFFIX

ROOT = Path(__file__).parent.parent
SPECIES = ("daisy", "lavender", "tulip")
PHASES = (
    "phases=[{{train: head, epochs: 4, lr: 1e-2, sampling: balanced}}, "
    "{{train: stage6, epochs: 4, lr: 1e-3, ema: 0.9}}, "
    "{{train: all, epochs: 3, lr: 1e-3, accumulate: 2, batch_size: {last}}}]"
)
SETTINGS = ("model.variant=lite0", "data.image_size=32", "data.workers=0", "trainer.accelerator=cpu")
MINUTES = (0, 0.005, 10)
"""Between checkpoints within an epoch: after every step, three times a second, never in runs as short as these."""

EARLY = 0.15
START_SECONDS = 8.0
"""So often a process is ended in its first seconds, when it loads its libraries and finds its run."""

TIMED = ("seconds", "images_per_second", "data_wait_fraction", "train_seconds")


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        kills: the signals that ended it, with where it was.
        faults: what should not have happened.
    """

    kills: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Attempt:
    """A process that trains, and how far its log lines say that it is."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.where = "start"
        self.spoke = threading.Event()
        self.process = subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(r"phase (\d)/\d", line):
                self.where = f"phase {found[1]}"
            elif line.startswith("store:"):
                self.where = "store"
            elif "accuracy" in line or "run folder:" in line:
                self.where = "end"
            if not line.startswith("resume=auto"):
                self.spoke.set()
        self.spoke.set()

    def end(self, number: int, after: float, early: bool = False, to_all: bool = False) -> int:
        """Send the signal so many seconds after the first line of the log, or after the start; return the exit code."""
        if not early:
            self.spoke.wait()
        time.sleep(after)
        if to_all and self.process.poll() is None:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code."""
        code = self.process.wait()
        self._reader.join()
        return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--devices", type=int, default=1, help="processes of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="where the runs are kept; without, they are thrown away")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).absolute()
        images = draw_flowers(folder / "images", per_class=40, size=48, species=SPECIES)
        reference, seconds = train_whole(folder / "reference", images, options.devices)
        print(f"reference: {seconds:.1f} s from the first line of its log to its end", flush=True)
        begun = time.monotonic()
        with ThreadPoolExecutor(options.jobs) as pool:
            outcomes = list(
                pool.map(
                    lambda number: one_run(number, folder, images, reference, seconds, options.devices, options.seed),
                    range(1, options.runs + 1),
                )
            )
        print(summary(outcomes, time.monotonic() - begun))
    return int(any(outcome.faults for outcome in outcomes))


def command_for(run: Path, images: Path, devices: int, minutes: float) -> tuple[list[str], dict[str, str]]:
    """Return the one command line of a run, and its environment: threads and activation store of its own.

    Several processes look every ten steps whether to write a checkpoint: they take smaller batches, to have as many.
    """
    batch, last = (8, 4) if devices == 1 else (2, 2)
    keys = [f"data.root={images}", f"run_dir={run}", f"trainer.checkpoint_minutes={minutes}", *SETTINGS]
    keys += [PHASES.format(last=last), f"data.batch_size={batch}", f"trainer.devices={devices}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", FOLDER_VARIABLE: str(run.with_name(f"{run.name}-cache"))}
    return [sys.executable, "train.py", "folder", *keys, "resume=auto"], environment


def train_whole(folder: Path, images: Path, devices: int) -> tuple[Run, float]:
    """Train without interruption, and return the run with its seconds after the first line of the log."""
    attempt = Attempt(*command_for(folder, images, devices, 10))
    attempt.spoke.wait()
    begun = time.monotonic()
    if attempt.wait():
        raise SystemExit("".join(attempt.lines))
    return Run(folder), time.monotonic() - begun


def one_run(
    number: int, folder: Path, images: Path, reference: Run, seconds: float, devices: int, seed: int
) -> Outcome:
    """Start, kill and resume a run until it is done, and compare it."""
    moments = random.Random(1000 * seed + number)
    run, outcome = Run(folder / f"run{number}"), Outcome()
    command, environment = command_for(run.folder, images, devices, MINUTES[number % len(MINUTES)])
    reached = (-1, 0, 0)
    for attempt_number in range(1 + moments.randint(1, 4)):
        attempt = Attempt(command, environment)
        signal_number = (signal.SIGKILL, signal.SIGTERM)[(number + attempt_number) % 2]
        early = moments.random() < EARLY
        after = moments.uniform(0, START_SECONDS if early else seconds)
        to_all = devices > 1 and moments.random() < 0.5
        code = attempt.end(signal_number, after, early, to_all)
        if code == 0:
            break
        outcome.kills.append((signal_number.name, attempt.where))
        allowed = (-signal.SIGKILL,) if signal_number == signal.SIGKILL else (143, -signal.SIGTERM)
        if code not in allowed:
            outcome.faults.append(f"exit code {code} after {signal_number.name}: {''.join(attempt.lines[-3:])}")
        place = newest(run)
        if place < reached:
            outcome.faults.append(f"a checkpoint was lost: {reached} was reached, {place} is left")
        reached = place
    else:
        attempt = Attempt(command, environment)
        if code := attempt.wait():
            outcome.faults.append(f"exit code {code} of the last resumption: {''.join(attempt.lines[-5:])}")
    if not outcome.faults:
        outcome.faults += compared(run, reference)
    cache = run.folder.with_name(f"{run.folder.name}-cache")
    outcome.faults += [f"left over: {path.name}" for path in cache.glob(f"*{PARTIAL_SUFFIX}")]
    ends = ", ".join(f"{name} in {where}" for name, where in outcome.kills) or "never hit"
    print(f"run {number}: {'; '.join(outcome.faults) or 'the same'} ({ends})", flush=True)
    return outcome


def newest(run: Run) -> tuple[int, int, int]:
    """Return phase, epoch and batch of the newest checkpoint that is whole; phase -1 where there is none."""
    for path in (run.last, run.previous):
        if path.is_file() and not find_damage(path):
            checkpoint = read_checkpoint(path)
            epoch, batch = checkpoint["callbacks"]["checkpoint"]["place"]
            return checkpoint["effnet_ft"]["phase"], epoch, batch
    return -1, 0, 0


def compared(run: Run, reference: Run) -> list[str]:
    """Return in what a run differs from the reference: weights bit by bit, predictions, metrics, files."""
    faults = []
    for name in ("last", "best"):
        ours, theirs = (read_checkpoint(getattr(each, name)) for each in (run, reference))
        states = [each["state_dict"] for each in (ours, theirs)]
        if states[0].keys() != states[1].keys() or not all(
            value.equal(states[0][key]) for key, value in states[1].items()
        ):
            faults.append(f"other weights in {name}.ckpt")
    if run.predictions.read_text() != reference.predictions.read_text():
        faults.append("other predictions")
    if untimed(run) != untimed(reference):
        faults.append("other metrics")
    files = [{str(path.relative_to(each.folder)) for path in each.folder.rglob("*")} for each in (run, reference)]
    if files[0] != files[1]:
        faults.append(f"other files: {', '.join(sorted(files[0] ^ files[1]))}")
    return faults


def untimed(run: Run) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Return the table and the metrics of a run without what a clock measured."""
    with run.table.open(newline="") as file:
        rows = [{name: value for name, value in row.items() if name not in TIMED} for row in csv.DictReader(file)]
    metrics = json.loads(run.metrics.read_text())
    return rows, {name: value for name, value in metrics.items() if name not in TIMED}


def summary(outcomes: list[Outcome], seconds: float) -> str:
    """Return the result as Markdown."""
    same = sum(not outcome.faults for outcome in outcomes)
    kills = Counter(kill for outcome in outcomes for kill in outcome.kills)
    places = sorted({where for _, where in kills})
    hit = sum(bool(outcome.kills) for outcome in outcomes)
    lost = sum("checkpoint was lost" in fault for outcome in outcomes for fault in outcome.faults)
    stray = sum("other files" in fault or "left over" in fault for outcome in outcomes for fault in outcome.faults)
    lines = [
        f"\n{same} of {len(outcomes)} runs ended bit-identical to the uninterrupted one; {hit} of them were killed,",
        f"{kills.total()} times in all; checkpoints lost: {lost}; runs with stray files: {stray};",
        f"{seconds / 60:.0f} minutes.\n",
        "| ended by | " + " | ".join(places) + " |",
        "|---" * (len(places) + 1) + "|",
        *(
            f"| {name} | " + " | ".join(str(kills[name, where]) for where in places) + " |"
            for name in ("SIGKILL", "SIGTERM")
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
