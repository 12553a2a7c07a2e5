"""The errors that a user can cause, which the command line turns into a message and exit code 2; and being stopped."""

from __future__ import annotations

import errno
from typing import Any

EXIT_USER_FAULT = 2
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Base of every error whose cure lies with the user; its text says what is wrong and what to do.

    Attributes:
        shared: every process of the run has raised it, so that the first one alone needs to tell.
    """

    shared = False


class RecipeError(UserError):
    """The recipe is at fault: a key, a type or a value. Carries every fault that was found, not the first only.

    Args:
        faults: one sentence a fault, each naming the key and the value.
        recipe: the recipe's name or path, for the heading.
    """

    def __init__(self, faults: list[str] | str, recipe: str = "") -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        self.recipe = recipe
        super().__init__(self._text())

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is pickled with its text alone, which would be taken for a fault of its own.
        return type(self), (self.faults, self.recipe), self.__dict__

    def _text(self) -> str:
        where = f" in {self.recipe}" if self.recipe else ""
        if len(self.faults) == 1:
            return f"recipe error{where}: {self.faults[0]}"
        listed = "\n".join(f"  - {fault}" for fault in self.faults)
        return f"{len(self.faults)} recipe errors{where}:\n{listed}"


class DivergedError(RecipeError):
    """The loss is no longer a number: the recipe's settings do not train."""


class DataError(UserError):
    """The images, their folders or their lists are at fault."""


class MachineError(UserError):
    """The machine is at fault: its disk, its memory, a process that it killed."""


class WeightsError(UserError):
    """Pretrained weights cannot be had or do not fit."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"signal {number}")

    @property
    def exit_code(self) -> int:
        """What a shell reports of a program that a signal ended: 130 for Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1."""
        return 128 + self.number


def disk_fault(error: OSError) -> str | None:
    """Return what is wrong with the disk or a folder and what to do, as a sentence; None for other faults."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    closed = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT)
    if error.errno not in (*full, *closed):
        return None
    place = f"cannot write or read '{error.filename}'" if error.filename else "cannot write"
    cure = "make room" if error.errno in full else "give a folder that is there, can be written to and stays"
    return f"{place} ({error.strerror}): {cure}"
