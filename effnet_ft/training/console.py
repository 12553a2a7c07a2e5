"""The log of a training, on the terminal and in ``log.txt``, and which of Lightning's messages are shown."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import BufferingHandler
from pathlib import Path

from tqdm import tqdm

from effnet_ft.data.images.decoding import ignore_pillow_warnings
from effnet_ft.utils.text import escape_control_characters

_IGNORED_WARNINGS = (
    "does not have many workers",  # the plan decides their number
    "module\\(s\\) in eval mode at the start of training",  # the frozen stages
    "The number of training batches .* is smaller than the logging interval",  # we log once per epoch
    "You defined a `validation_step` but have no",  # there is always a validation split
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's own call of torch
    "It is recommended to use `self.log",  # torchmetrics has already reduced the values over all ranks
    "ended before the epoch ended and your dataloader is not resumable",  # ours is: DistributedBatchSampler.start_at
    "Trying to infer the `batch_size`",  # Lightning averages nothing: torchmetrics counts the images
)


class _Terminal(logging.Handler):
    """Prints lines above the progress bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(escape_control_characters(self.format(record)), file=sys.stdout)
        sys.stdout.flush()


class _LogFile(logging.FileHandler):
    """Stops the training if a line cannot be written, so that a full disk is reported once."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise

    def close(self) -> None:
        with suppress(OSError):  # already reported
            super().close()


@contextmanager
def console(main: bool) -> Iterator[Callable[[Path], None]]:
    """Log to the terminal within the block, if this is the ``main`` process.

    Yields:
        A function that opens a log file, which starts with the lines logged before the run folder existed.
    """
    logger = logging.getLogger("effnet_ft")
    level, propagate, before = logger.level, logger.propagate, list(logger.handlers)
    buffer = BufferingHandler(sys.maxsize)

    def open_file(path: Path) -> None:
        file = _LogFile(path, encoding="utf-8", errors="surrogateescape")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.removeHandler(buffer)
        logger.addHandler(file)
        for record in buffer.buffer:
            file.handle(record)

    logger.setLevel(logging.INFO if main else logging.CRITICAL)
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
    """Hide Lightning's banners and the warnings that do not apply within the block."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            ignore_pillow_warnings()
            for message in _IGNORED_WARNINGS:
                warnings.filterwarnings("ignore", f".*{message}")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
