"""Errors that the user can cause or cure: the command line prints their message and exits with 2. And interruptions."""

import errno
from typing import Any

EXIT_USER_FAULT = 2
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Base of every error that the user can cure; its text says what is wrong and what to do."""

    shared = False  # every process of the run has raised it, so that only the first needs to print it


class RecipeError(UserError):
    """The recipe is at fault: a key, a type or a value. Carries every fault found, not only the first.

    Args:
        faults: one sentence a fault, each naming the key and the value.
        recipe: the recipe's name or path, for the heading.
    """

    def __init__(self, faults: list[str] | str, recipe: str = "") -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        self.recipe = recipe
        heading = f" in {recipe}" if recipe else ""
        if len(self.faults) == 1:
            super().__init__(f"recipe error{heading}: {self.faults[0]}")
        else:
            super().__init__("\n  - ".join([f"{len(self.faults)} recipe errors{heading}:", *self.faults]))

    def __reduce__(self) -> tuple[Any, ...]:
        # By default an exception is pickled with its text alone, which would become a fault of its own.
        return type(self), (self.faults, self.recipe), self.__dict__


class DivergedError(RecipeError):
    """The loss is no longer a number: the recipe's settings do not train."""


class DataError(UserError):
    """The images, their folders or their lists are at fault."""


class MachineError(UserError):
    """The machine is at fault: a full disk, too little memory, a process that was killed."""


class WeightsError(UserError):
    """Weights cannot be found, read or downloaded, or do not fit the model."""


class ExportError(UserError):
    """The model cannot be exported in this format."""


class UsageError(UserError):
    """An argument of a command is at fault."""


class MissingPackageError(UserError):
    """A package that this feature needs is not installed."""


class RunLockedError(UserError):
    """Another training is at work in the run folder."""


class Interrupted(KeyboardInterrupt):
    """The signal ``number`` asked the program to end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"signal {number}")

    @property
    def exit_code(self) -> int:
        """What a shell reports for a program ended by the signal: 130 for Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1."""
        return 128 + self.number


def is_disk_full(error: Exception) -> bool:
    """Return whether the disk, or the user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_fault(error: OSError) -> str | None:
    """Return what is wrong with the disk or a folder and what to do, as a sentence; None for other faults."""
    closed = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT)
    if not is_disk_full(error) and error.errno not in closed:
        return None
    place = f"cannot write or read '{error.filename}'" if error.filename else "cannot write"
    cure = "make room" if is_disk_full(error) else "give a folder that is there, can be written to and stays"
    return f"{place} ({error.strerror}): {cure}"
