"""ImageNet's archives: official ones are unpacked; a tar of validation images is read in place."""

import logging
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from effnet_ft.data.images.decoding import ArchiveMember, has_image_suffix
from effnet_ft.errors import DataError

log = logging.getLogger(__name__)

EXPECTED_LAYOUTS = (
    "give the folder that holds train/ and val/ with a folder for each class, or the lists train.txt and val.txt, "
    "or the official archives ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz"
)
"""What to give as ``data.root``, for messages."""


def unpack_archive(root: Path, part: str) -> None:
    """Atomically unpack the official archive of ``part`` (for ``val`` with the devkit) into class folders."""
    from filelock import FileLock
    from torchvision.datasets import imagenet

    needed = [root / imagenet.ARCHIVE_META[name][0] for name in {"train": ["train"], "val": ["val", "devkit"]}[part]]
    if missing := [path.name for path in needed if not path.is_file()]:
        raise DataError(f"{root} holds neither {part}/ nor {part}.txt nor {' and '.join(missing)}: {EXPECTED_LAYOUTS}")
    free, size = shutil.disk_usage(root).free, 1.02 * needed[0].stat().st_size  # blocks are not filled completely
    if free < size:
        raise DataError(
            f"unpacking {needed[0]} takes {size / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free in {root}: "
            "make room, or unpack it elsewhere and give that folder"
        )
    temporary = root / f".{part}.part"
    try:
        with FileLock(root / ".imagenet.lock"):
            if (root / part).is_dir():  # unpacked by another process meanwhile
                return
            log.info("ImageNet: checking and unpacking %s, which takes a while", needed[0])
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                with _data_filter():
                    if part == "train":
                        imagenet.parse_train_archive(str(root), folder=temporary.name)
                    else:
                        imagenet.parse_devkit_archive(str(root))
                        imagenet.parse_val_archive(str(root), folder=temporary.name)
                os.replace(temporary, root / part)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except Exception as error:  # torchvision's RuntimeError names the file; tarfile and zlib raise many kinds
        archives = " and ".join(str(path) for path in needed)
        raise DataError(
            f"cannot unpack {archives}: {error or type(error).__name__}\nIs it complete? Download damaged files again."
        ) from error


@contextmanager
def _data_filter() -> Iterator[None]:
    """Stop archives from writing outside their folder, as torchvision 0.29 does and 0.26 does not."""
    previous = vars(tarfile.TarFile)["extraction_filter"]
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # as PEP 706 provides
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = previous


def tar_members(path: Path) -> dict[str, ArchiveMember]:
    """Return the images of an uncompressed tar file by name."""
    try:
        with tarfile.open(path, "r:") as archive:
            files = [member for member in archive if member.isfile()]
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"cannot read {path} as an uncompressed tar file ({error}): is it complete?") from error
    images = (member for member in files if has_image_suffix(member.name))
    return {member.name: ArchiveMember(path, member.name, member.offset_data, member.size) for member in images}
