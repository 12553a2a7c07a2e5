"""The pieces that drawn flowers are made of: painted polygons, and the ways to make and move them.

Bloom coordinates are free units with y pointing down; the stem is attached at (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

Point: TypeAlias = Sequence[float] | np.ndarray  # x, y

GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
ALONG = (1 - np.cos(np.linspace(0, np.pi, 18))) / 2  # denser at both ends, where a petal's outline turns fastest
CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 17)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 17)[:-1])], 1)


class Piece(NamedTuple):
    """One painted polygon: a petal, a leaf, a dot, a length of stem."""

    outline: np.ndarray  # [n, 2]
    root: np.ndarray | None  # [2], where the colour gradient starts; None paints the piece flat
    role: str  # which pair of tones paints it: "petal", "centre" or "leaf"
    shade: float = 1.0  # brightness factor
    veins: int = 0  # lines from root to rim; the outline must run up one side and back down the other


def moved(piece: Piece, matrix: np.ndarray, shift: Point = (0.0, 0.0)) -> Piece:
    """Return the piece after `point -> matrix @ point + shift`, matrix [2, 2] and shift [2]."""
    root = None if piece.root is None else matrix @ piece.root + shift
    return piece._replace(outline=piece.outline @ matrix.T + shift, root=root)


def shifted(piece: Piece, shift: Point) -> Piece:
    """Return the piece moved by shift [2]."""
    return piece._replace(outline=piece.outline + shift, root=None if piece.root is None else piece.root + shift)


def turn(angle: float) -> np.ndarray:
    """Return the [2, 2] matrix of a clockwise turn (on screen) by `angle` radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def petal(
    length: float, width: float, angle: float = 0.0, *, base: float = 0.6, tip: float = 0.5, bend: float = 0.0,
    ruffle: float = 0.0, role: str = "petal", shade: float = 1.0, veins: int = 3,
) -> Piece:  # fmt: skip
    """Return a petal rooted at (0, 0), pointing up and then turned by `angle` radians.

    Small `base` and `tip` exponents give blunt ends, large ones pointed ends. `bend` moves the tip sideways and
    `ruffle` waves the rim, both as a fraction of the length.
    """
    half = ALONG**base * (1 - ALONG) ** tip
    half *= width / 2 / half.max()
    there_and_back = np.concatenate([ALONG, ALONG[::-1]])
    across = bend * length * there_and_back**2 + np.concatenate([-half, half[::-1]])
    outline = np.stack([across, -length * there_and_back], 1)
    if ruffle:
        wave = np.sin(np.linspace(0, 9 * np.pi, len(outline)) + 40 * angle)
        outline *= 1 + ruffle * (wave * there_and_back**2)[:, None]
    return moved(Piece(outline, np.zeros(2), role, shade, veins), turn(angle))


def disc(middle: Point, radius: float, role: str = "centre", shade: float = 1.0) -> Piece:
    """Return a round piece, lit as a small dome."""
    return Piece(np.array(middle) + radius * CIRCLE, np.array(middle), role, shade)


def ribbon(path: np.ndarray, width: float, role: str = "leaf", shade: float = 1.0) -> Piece:
    """Return a strip of the given width that follows `path` [n, 2] and tapers a little towards its end."""
    slope = np.gradient(path, axis=0)
    side = np.stack([-slope[:, 1], slope[:, 0]], 1) / (np.linalg.norm(slope, axis=1, keepdims=True) + 1e-9)
    side *= width / 2 * np.linspace(1, 0.75, len(path))[:, None]
    return Piece(np.concatenate([path + side, (path - side)[::-1]]), None, role, shade)


def curve(start: Point, control: Point, end: Point, points: int = 16) -> np.ndarray:
    """Return a quadratic Bezier curve, [points, 2]."""
    t = np.linspace(0, 1, points)[:, None]
    path: np.ndarray = (1 - t) ** 2 * np.array(start) + 2 * t * (1 - t) * np.array(control) + t**2 * np.array(end)
    return path


def seed_head(rng: np.random.Generator, radius: float, seeds: int) -> list[Piece]:
    """Return a domed disc covered with seeds in the spiral that real flower heads have."""
    pieces = [disc((0, 0), radius, shade=0.72)]
    for i in range(seeds):
        r, a = radius * 0.95 * np.sqrt((i + 0.5) / seeds), i * GOLDEN_ANGLE
        pieces.append(
            disc((r * np.cos(a), r * np.sin(a)), 0.9 * radius / np.sqrt(seeds), shade=rng.uniform(0.85, 1.15))
        )
    return pieces


def seen_from_somewhere(rng: np.random.Generator, pieces: list[Piece]) -> list[Piece]:
    """Spin a bloom that faces the viewer and tilt it away, which squashes it."""
    squash = np.diag([1.0, rng.uniform(0.62, 1.0)])
    matrix = turn(rng.uniform(-0.6, 0.6)) @ squash @ turn(rng.uniform(0, 2 * np.pi))
    return [moved(piece, matrix) for piece in pieces]
