"""Copies a data set and plants faults in the copy, and tells which."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


@dataclass
class Planted:
    """A copy of a data set and what is wrong with it, by paths relative to its root.

    Attributes:
        root: the copy, with ``train/`` and ``test/``.
        copies: a test image's copy in train, by the test image.
        wrong: images that were moved to another class, with the right one.
        broken: files that cannot be read.
    """

    root: Path
    copies: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def plant(source: Path, root: Path, *, count: int = 10, seed: int = 0) -> Planted:
    """Copy ``source``, which has train/CLASS and test/CLASS, to ``root`` and plant ``count`` faults of each kind.

    Test images come up again in train: in turn smaller, recompressed, mirrored, and all three. Training images change
    class. Files are cut short, emptied, or text.
    """
    shutil.copytree(source, root)
    random = np.random.default_rng(seed)
    classes = sorted(folder.name for folder in (root / "train").iterdir())
    tests, trains = (
        random.permutation(sorted(path.relative_to(root).as_posix() for path in (root / part).rglob("*.jpg")))
        for part in ("test", "train")
    )
    planted = Planted(root)
    for number, path in enumerate(tests[:count].tolist()):
        copy = f"train/{Path(path).parent.name}/again{number}.jpg"
        with Image.open(root / path) as image:
            changed(image.convert("RGB"), number % 4).save(root / copy, quality=(90, 40, 90, 50)[number % 4])
        planted.copies[path] = copy
    for path in trains[:count].tolist():
        right = Path(path).parent.name
        others = [name for name in classes if name != right]
        moved = f"train/{others[random.integers(len(others))]}/moved-{Path(path).name}"
        (root / path).rename(root / moved)
        planted.wrong[moved] = right
    for number, path in enumerate(trains[count : 2 * count].tolist()):
        content = (root / path).read_bytes()
        (root / path).write_bytes(
            (content[: len(content) // 2], b"", b"no image", content[: len(content) - 400])[number % 4]
        )
        planted.broken.append(path)
    return planted


def changed(image: Image.Image, how: int) -> Image.Image:
    """Return ``image`` smaller (0), as it is (1), mirrored (2), or smaller and mirrored (3)."""
    if how in (0, 3):
        image = image.resize((image.width * 2 // 5, image.height * 2 // 5), Image.Resampling.BICUBIC)
    return ImageOps.mirror(image) if how in (2, 3) else image
