"""What a training says: its own lines on the terminal and in ``log.txt``, and Lightning's only where they matter."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from effnet_ft.data.images import ignore_pillow_warnings

# Lightning's remarks that do not apply here, each with the reason.
_NOT_MEANT = (
    "does not have many workers",  # the recipe resolves workers from the cores
    "module\\(s\\) in eval mode at the start of training",  # the frozen stages are meant to be
    "Checkpoint directory .* exists and is not empty",  # the phases of a run share it
    "The number of training batches .* is smaller than the logging interval",  # rows are written by the epoch
    "You defined a `validation_step` but have no",  # there is always a validation part
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's own call of torch
    "It is recommended to use `self.log",  # torchmetrics has added up the processes already
    "Trying to infer the `batch_size`",  # nothing is averaged by Lightning: torchmetrics counts the images
)


class _Terminal(logging.Handler):
    """Prints lines above a progress bar that may be running."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


@contextmanager
def logging_to(file: Path | None) -> Iterator[None]:
    """Send the package's log lines to the terminal and to ``file``; with None, as in a second process, nowhere."""
    logger = logging.getLogger("effnet_ft")
    handlers: list[logging.Handler] = []
    if file is not None:
        handlers = [_Terminal(), logging.FileHandler(file, encoding="utf-8")]
        handlers[1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO if handlers else logging.CRITICAL)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's banners and the warnings that do not apply off the terminal."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            ignore_pillow_warnings()
            for message in _NOT_MEANT:
                warnings.filterwarnings("ignore", f".*{message}")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
