"""Lists images in class folders, with or without ``train/``, ``val/`` and ``test/`` above them."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

from effnet_ft.data.images.decoding import SUFFIXES
from effnet_ft.data.sources.source import CAMERA_SUFFIXES, SPLIT_OF, SPLIT_WORDS, Sample, Source, same_name
from effnet_ft.errors import DataError
from effnet_ft.utils.progress import progress_bar
from effnet_ft.utils.text import counted, listing

SYSTEM_NAMES = {
    *("@eadir", "$recycle.bin", "recycler", "system volume information", "lost+found", "found.000", "__macosx"),
    *("#recycle", "@recycle", "#snapshot", "@recently-snapshot", "network trash folder", "temporary items"),
}
"""Folders that operating systems and network drives make, lower case."""

_AROUND = r"[\W\d_]*(?:(?:data|data.?sets?|sets?|images?|imgs?|photos?|pictures?|splits?|folders?|files?)[\W\d_]*)?"
_SPLIT_LIKE = re.compile(f"{_AROUND}({'|'.join(SPLIT_OF)}){_AROUND}", re.IGNORECASE)
"""Names that people give to parts, such as ``training_set`` and ``images-val2017``."""

Owners = dict[tuple[int, int], tuple[Path, str]]
"""By device and inode of each folder listed: the class folder that it was listed for, and its path there."""


def scan_folder(root: str | Path, *, for_training: bool = True, empty_classes: bool = False) -> Source:
    """List a folder of images: ``train/``, ``val/`` and ``test/`` with class folders, or class folders alone.

    Class folders are searched to any depth. Hidden files and folders are skipped.

    Args:
        root: the folder.
        for_training: refuse a single class, and a class of ``val/`` or ``test/`` that is not in ``train/``.
        empty_classes: accept class folders without images.

    Raises:
        DataError: for a missing folder, no images, or an empty class; the message names the folder.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(f"data.root is '{root}', which {_non_folder_hint(root)}")
    ignored: list[str] = []
    folders = _split_folders(root)
    if for_training and folders and "train" not in folders:
        present = ", ".join(folder.name + "/" for folder in folders.values())
        raise DataError(f"{root} has {present} but no train/: there is nothing to train on")
    with progress_bar("listing images") as bar:
        listed = (folders or {"all": root}).items()
        owners: Owners = {}
        splits = {split: _scan_classes(root, folder, owners, ignored, bar, empty_classes) for split, folder in listed}
    if folders:
        others = (entry for entry in root.iterdir() if entry.is_dir() and entry not in folders.values())
        ignored += sorted(f"{entry.name}/" for entry in others if not entry.name.startswith("."))
    classes = tuple(sorted(splits["train"] if "train" in splits else set().union(*splits.values())))
    if for_training:
        _check_for_training(root, classes, splits)
    samples = {
        split: [Sample(path, name) for name in sorted(by_class) for path in by_class[name]]
        for split, by_class in splits.items()
    }
    return Source(root, classes, samples, ignored)


def _non_folder_hint(path: Path) -> str:
    """Return what ``path`` is instead of a folder, and what to do."""
    suffix = path.suffix.lower()
    if path.is_file() and suffix in (".csv", ".tsv"):
        return "is a list of images: add data.source=manifest"
    if path.is_file() and suffix in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        return "is an archive: unpack it, and give the folder"
    return f"{'is a file' if path.is_file() else 'does not exist'}: give the folder that holds the images"


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folders named after a split; none if the root holds class folders."""
    folders = [entry for entry in root.iterdir() if entry.is_dir() and is_visible(entry.name)]
    has_others = any(entry.name.lower() not in SPLIT_OF for entry in folders)
    # Beside other folders, a folder called train that holds images directly is a class: trains, beside buses.
    present = {entry.name.lower(): entry for entry in folders if has_folders(entry) or not has_others}
    named = {split: [present[name] for name in names if name in present] for split, names in SPLIT_WORDS.items()}
    splits = {split: found[0] for split, found in named.items() if found}
    matches = filter(None, (_SPLIT_LIKE.fullmatch(entry.name) for entry in folders))
    alike = {match[0]: SPLIT_OF[match[1].lower()] for match in matches}
    rename = [f"{name}/ to {split}/" for name, split in sorted(alike.items()) if name.lower() not in SPLIT_OF]
    if rename and "train" not in splits and len(set(alike.values())) > 1:
        raise DataError(f"{root} has split folders that would be read as classes: rename {', '.join(rename)}")
    return splits


def has_folders(folder: Path) -> bool:
    """Return whether ``folder`` has subfolders that are not hidden."""
    return any(entry.is_dir() and is_visible(entry.name) for entry in folder.iterdir())


def _scan_classes(
    root: Path, folder: Path, owners: Owners, ignored: list[str], bar: tqdm, empty_classes: bool
) -> dict[str, list[str]]:
    """Return the image paths of each class folder in ``folder``."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in entries if entry.is_dir() and is_visible(entry.name)]
    ignored += [
        f"{entry.relative_to(root).as_posix()}/" for entry in entries if entry.is_dir() and entry not in folders
    ]
    by_class = {entry.name: _scan_images(root, entry, owners, ignored, bar) for entry in folders}
    outside = [entry for entry in entries if entry.is_file()]
    ignored += [entry.relative_to(root).as_posix() for entry in outside]
    if not any(by_class.values()):
        loose = [entry for entry in outside if entry.suffix.lower() in SUFFIXES]
        hint = f"; {counted(len(loose), 'image')} in it without a class folder" if loose else ""
        raise DataError(
            f"no images in {folder}: expected a folder for each class with images in it ({', '.join(SUFFIXES)}){hint}"
        )
    empty = [name for name, paths in by_class.items() if not paths]
    if empty and not empty_classes:
        inside = tuple(f"{(folder / name).relative_to(root).as_posix()}/" for name in empty)
        camera = any(path.startswith(inside) and path.lower().endswith(CAMERA_SUFFIXES) for path in ignored)
        raise DataError(
            f"no image in {counted(len(empty), 'class folder')} of {folder}: add images, or remove empty folders"
            f"{'; HEIC and raw photographs are not supported: save them as JPEG' * camera}\n{listing(empty)}"
        )
    return by_class


def _scan_images(root: Path, folder: Path, owners: Owners, ignored: list[str], bar: tqdm) -> list[str]:
    """Return the images of a class folder, relative to ``root``, as strings: a million Paths would take too long."""
    paths: list[str] = []
    passed: list[str] = []
    start = len(str(root)) + 1
    for path in walk_files(folder, passed, owners):
        (paths if path.lower().endswith(SUFFIXES) else ignored).append(path[start:].replace(os.sep, "/"))
        bar.update()
    ignored += [path[start:].replace(os.sep, "/") for path in passed]
    return paths


def walk_files(folder: Path, passed: list[str], owners: Owners | None = None) -> Iterator[str]:
    """Yield the files in ``folder`` at any depth, links followed, hidden ones left out.

    Folders that systems make, and links to folders that are already listed, are appended to ``passed``.

    Raises:
        DataError: if ``owners``, of class folders walked before, has a folder for a class of another name.
    """

    def fail(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        stat = os.stat(parent)
        identity = stat.st_dev, stat.st_ino
        if identity in seen:  # a link to a parent folder would list its files endlessly
            passed.append(f"{parent}{os.sep}")
            folders.clear()
            continue
        seen.add(identity)
        owner, first = (folder, parent) if owners is None else owners.setdefault(identity, (folder, parent))
        if owner.name != folder.name:
            raise DataError(f"{first} and {parent} are the same folder in two classes: remove the link")
        passed += [
            os.path.join(parent, f"{name}{os.sep}") for name in sorted(folders) if name.casefold() in SYSTEM_NAMES
        ]
        folders[:] = sorted(filter(is_visible, folders))
        yield from (os.path.join(parent, name) for name in sorted(files) if not name.startswith("."))


def is_visible(name: str) -> bool:
    """Return whether a folder is neither hidden nor one that systems make for themselves."""
    return not name.startswith(".") and name.casefold() not in SYSTEM_NAMES


def _check_for_training(root: Path, classes: tuple[str, ...], splits: Mapping[str, Mapping[str, object]]) -> None:
    if len(classes) == 1:
        inside = root / classes[0]
        hint = f"; if they lie in {inside}, give that folder" if inside.is_dir() and has_folders(inside) else ""
        raise DataError(
            f"{root} holds one class only, '{classes[0]}': a classifier needs at least two class folders{hint}"
        )

    for split, by_class in splits.items():
        if unknown := sorted(by_class.keys() - set(classes)):
            similar = {same_name(name): f"; train/ has '{name}', spelled differently" for name in classes}
            lines = [f"{name}{similar.get(same_name(name), '')}" for name in unknown]
            raise DataError(
                f"{counted(len(unknown), 'class')} of {split}/ without a folder in train/, which a model cannot learn: "
                f"add training images, or remove them from {split}/\n{listing(lines)}"
            )
