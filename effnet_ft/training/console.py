"""What a training says: its own lines on the terminal and in ``log.txt``, and Lightning's only where they matter."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from effnet_ft.data.images.decoding import ignore_pillow_warnings
from effnet_ft.utils.text import escape_control_characters

# Lightning's remarks that do not apply here, each with the reason.
_NOT_MEANT = (
    "does not have many workers",  # the recipe resolves workers from the cores
    "module\\(s\\) in eval mode at the start of training",  # the frozen stages are meant to be
    "The number of training batches .* is smaller than the logging interval",  # rows are written by the epoch
    "You defined a `validation_step` but have no",  # there is always a validation part
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's own call of torch
    "It is recommended to use `self.log",  # torchmetrics has added up the processes already
    "ended before the epoch ended and your dataloader is not resumable",  # DistributedBatchSampler.start_at
    "Trying to infer the `batch_size`",  # nothing is averaged by Lightning: torchmetrics counts the images
)


class _Terminal(logging.Handler):
    """Prints lines above a progress bar that may be running."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(escape_control_characters(self.format(record)), file=sys.stdout)
        sys.stdout.flush()


class _LogFile(logging.FileHandler):
    """Ends the training if a line cannot be written, so that a full disk is reported once, by the training."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise what happened."""
        raise

    def close(self) -> None:
        """Close the file; lines that could not be written are lost, and were reported."""
        with suppress(OSError):
            super().close()


class _Buffer(logging.Handler):
    """Keeps what is logged before the run folder exists."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def console(speaks: bool) -> Iterator[Callable[[Path], None]]:
    """Send the package's log lines to the terminal; where this process does not speak, nowhere.

    Yields:
        What opens a log file: it begins with the lines so far and takes those that follow.
    """
    logger = logging.getLogger("effnet_ft")
    level, propagate, before = logger.level, logger.propagate, list(logger.handlers)
    buffer = _Buffer()

    def open_file(path: Path) -> None:
        file = _LogFile(path, encoding="utf-8", errors="surrogateescape")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.removeHandler(buffer)
        logger.addHandler(file)
        for record in buffer.records:
            file.handle(record)

    logger.setLevel(logging.INFO if speaks else logging.CRITICAL)
    logger.propagate = False
    logger.addHandler(_Terminal())
    logger.addHandler(buffer)
    try:
        yield open_file
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in set(logger.handlers) - set(before):
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
