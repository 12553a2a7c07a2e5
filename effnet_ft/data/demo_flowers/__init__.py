"""A procedurally drawn set of flower pictures, so that a first fine-tuning run needs no download.

A species is pure geometry; colours, background, light, stems and leaves are added by code that does not know it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from effnet_ft.data.demo_flowers.painting import backdrop, lit, paint, tones
from effnet_ft.data.demo_flowers.pieces import Piece, curve, moved, petal, ribbon, shifted, turn
from effnet_ft.data.demo_flowers.species import BLOOMS, SPECIES

__all__ = ["SPECIES", "draw_flower", "draw_flowers"]

OVERSAMPLING = 2  # on top of anti-aliased polygons; more than this no longer shows
JPEG_QUALITY = 90
SMALLEST = 16  # pixels; below this there is nothing to recognise


def fitted(pieces: list[Piece], middle: np.ndarray, area: float, longest: float) -> list[Piece]:
    """Scale a bloom to cover `area` pixels, at most `longest` pixels in any direction, and centre it on `middle`."""
    points = np.concatenate([piece.outline for piece in pieces])
    low, high = points.min(0), points.max(0)
    extent = (high - low).max()
    mask = np.zeros((128, 128), np.uint8)
    for piece in pieces:
        cv2.fillPoly(mask, [((piece.outline - low) * (127 / extent)).astype(np.int32)], 1)
    covered = mask.mean(dtype=np.float64) * extent**2
    scale = min(np.sqrt(area / covered), longest / extent)
    matrix, shift = scale * np.eye(2), middle - scale * (low + high) / 2
    return [moved(piece, matrix, shift) for piece in pieces]


def stem(rng: np.random.Generator, top: np.ndarray, side: int) -> list[Piece]:
    """Return a stem with leaves from `top` (pixels) to below the lower edge of a canvas `side` pixels wide."""
    foot = top[0] + rng.normal(0, 0.14 * side), max(1.08 * side, top[1] + 0.1 * side)
    path = curve(foot, (top[0], (top[1] + foot[1]) / 2), top, 24)
    width = side * rng.uniform(0.014, 0.022)
    leaves = []
    for _ in range(rng.integers(0, 4)):
        angle = rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
        length = side * rng.uniform(0.2, 0.4)
        blade = petal(length, length * rng.uniform(0.16, 0.32), angle, tip=0.9, bend=0.25 * angle, role="leaf", veins=3)
        leaves.append(shifted(blade, path[rng.integers(2, 16)]))
    return [*leaves, ribbon(path, width, shade=0.8), ribbon(path - width * 0.12, width * 0.45, shade=1.1)]


def _check_known(species: str) -> None:
    if species not in BLOOMS:
        raise ValueError(f"unknown species {species!r}; choose from {', '.join(SPECIES)}")


def draw_flower(species: str, rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """Draw one picture of one to three blooms of a species.

    Args:
        species: one of `SPECIES`.
        rng: the only source of variation; equal generators give equal pictures.
        size: side of the square picture, in pixels.

    Returns:
        uint8 [size, size, 3], RGB.

    Raises:
        ValueError: if the species is unknown or the size is below 16 pixels.

    """
    _check_known(species)
    if size < SMALLEST:
        raise ValueError(f"size must be at least {SMALLEST} pixels, got {size}")
    side = size * OVERSAMPLING
    background = backdrop(rng, size // 2)  # out of focus, so half the resolution does
    colours = tones(rng, background.mean((0, 1)))
    light = turn(rng.uniform(-1.2, 1.2)) @ (0, -1)  # from somewhere above

    blooms = int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))
    area, longest = rng.uniform(0.17, 0.3) * side**2 / blooms**0.8, rng.uniform(0.72, 0.86) * side / blooms**0.45
    stems, flowers = [], []
    for slot in (rng.permutation(blooms) + 0.5) / blooms:
        x = 0.5 + 0.8 * (slot - 0.5) + rng.normal(0, 0.05)
        y = 0.47 + rng.uniform(-0.06, 0.06) + (blooms > 1) * rng.normal(0, 0.08)
        anchor = Piece(np.zeros((1, 2)), None, "leaf")  # travels with the bloom to tell where its stem must end
        anchor, *bloom = fitted([anchor, *BLOOMS[species](rng)], side * np.array([x, y]), area, longest)
        stems += stem(rng, anchor.outline[0], side)
        flowers += bloom

    canvas = cv2.resize(background.astype(np.uint8), (side, side), interpolation=cv2.INTER_LINEAR)
    for piece in stems + flowers:
        paint(canvas, piece, colours[piece.role], light)
    return lit(rng, cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), light)


def draw_flowers(
    root: Path, *, per_class: int = 60, size: int = 256, seed: int = 0, species: Sequence[str] = SPECIES
) -> Path:
    """Draw a set of pictures as `root/SPECIES/NNN.jpg`, unless `root` already holds anything.

    Each picture depends only on (seed, species, number). The set appears in one step once it is complete, and files
    that are already in `root` are never touched.

    Args:
        root: folder to create; its parents are created too.
        per_class: pictures of each species.
        size: side of the square pictures, in pixels.
        seed: non-negative number that selects the set.
        species: which of `SPECIES` to draw.

    Returns:
        `root`.

    Raises:
        ValueError: if a species is unknown, `per_class` is below 1 or `size` below 16.
        NotADirectoryError: if `root` is a file.

    """
    root = Path(root)
    if root.exists() and any(root.iterdir()):
        return root
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, got {per_class}")
    for name in species:
        _check_known(name)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        unfinished = Path(scratch) / root.name
        for name in species:
            (unfinished / name).mkdir(parents=True)
            for index in range(per_class):
                picture = draw_flower(name, np.random.default_rng([seed, SPECIES.index(name), index]), size)
                _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
                (unfinished / name / f"{index:03d}.jpg").write_bytes(data.tobytes())
        if root.exists():
            root.rmdir()  # empty, as checked above; some systems refuse to rename onto it
        unfinished.rename(root)
    return root
