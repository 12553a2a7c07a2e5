"""A drawn set of flower pictures, so that a first fine-tuning run needs no download.

A species is a shape: a list of polygons. Colours, background and light are drawn without knowing it, so that the
colours alone do not give a class away.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

Shape: TypeAlias = tuple[np.ndarray, str, float]
"""A polygon ``[n, 2]`` (x to the right, y down), the part whose colour it has, and its brightness."""

ALONG = (1 - np.cos(np.linspace(0, np.pi, 14))) / 2  # denser at the ends, where a petal's outline turns fastest


def turned(points: Sequence[float] | np.ndarray, angle: float) -> np.ndarray:
    """Return ``points`` after a clockwise turn around (0, 0)."""
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(points) @ matrix


def petal(
    length: float, width: float, angle: float, tip: float = 0.5, at: Sequence[float] | np.ndarray = (0.0, 0.0)
) -> np.ndarray:
    """Return the outline of a petal that grows from ``at``, upwards if ``angle`` is 0; a small ``tip`` is blunt."""
    half = ALONG**0.6 * (1 - ALONG) ** tip
    across = np.concatenate([-half, half[::-1]]) * width / 2 / half.max()
    return turned(np.stack([across, -length * np.concatenate([ALONG, ALONG[::-1]])], 1), angle) + at


def daisy(rng: np.random.Generator) -> list[Shape]:
    """Many thin petals around a disc, every other one behind."""
    count, heart = int(rng.integers(13, 24)), rng.uniform(0.24, 0.34)
    places = [*range(0, 2 * count, 2), *range(1, 2 * count, 2)]
    rays = [petal(rng.uniform(0.9, 1.05), 3.3 / count, np.pi * place / count, 0.3) for place in places]
    disc = petal(2 * heart, 2 * heart, 0, 0.6, (0, heart))
    return [*((ray, "petal", 0.82 + 0.18 * (i >= count)) for i, ray in enumerate(rays)), (disc, "centre", 0.9)]


def lavender(rng: np.random.Generator) -> list[Shape]:
    """A spike of many small florets."""
    whorls, lean, girth = int(rng.integers(8, 12)), rng.normal(0, 0.15), rng.uniform(0.17, 0.24)
    shapes: list[Shape] = [(petal(2.4, 0.07, lean), "leaf", 0.8)]
    for t in np.linspace(0, 1, whorls):
        for x in (-1.0, 1.0, -0.5, 0.5, 0.0):  # the outer florets first, the nearest one last
            spot = turned([x * girth * (1 - 0.7 * t), -0.5 - 1.8 * t + rng.normal(0, 0.02)], lean)
            size, angle = 0.27 - 0.1 * t, lean + 0.9 * x + rng.normal(0, 0.2)
            shapes += [(petal(size, 0.14, angle + a, 0.4, spot), "petal", rng.uniform(0.7, 1.1)) for a in (-0.5, 0.5)]
    return shapes


def lily(rng: np.random.Generator) -> list[Shape]:
    """A star of six pointed petals with long stamens."""
    width, tip = rng.uniform(0.42, 0.56), rng.uniform(0.85, 1.1)
    shapes: list[Shape] = []
    for i in (0, 2, 4, 1, 3, 5):  # three behind, three in front
        angle = i * np.pi / 3 + rng.normal(0, 0.06)
        shapes.append((petal(rng.uniform(0.95, 1.08), width, angle, tip), "petal", 1.0 if i % 2 else 0.85))
    for angle in np.arange(6) * np.pi / 3 + np.pi / 6:
        end = turned([0.0, -rng.uniform(0.4, 0.55)], angle)
        shapes += [(petal(0.5, 0.04, angle), "leaf", 1.2), (petal(0.1, 0.1, angle, at=end), "centre", 1.0)]
    return shapes


def rose(rng: np.random.Generator) -> list[Shape]:
    """Broad petals that spiral into the heart."""
    count, twist = int(rng.integers(15, 22)), rng.choice([-1, 1]) * rng.uniform(2.2, 2.6)
    shapes: list[Shape] = []
    for i in range(count):
        size = 1 - 0.86 * (i / count) ** 0.8
        # Each petal grows from beyond the middle, so that the next one covers all of it but its rim.
        root = turned([0.0, 0.35 * size], i * twist)
        shapes.append((petal(1.35 * size, 1.5 * size, i * twist, 0.28, root), "petal", 1.08 - 0.4 * i / count))
    return shapes


def tulip(rng: np.random.Generator) -> list[Shape]:
    """A closed cup seen from the side."""
    width, tip, flare = rng.uniform(0.6, 0.75), rng.uniform(0.45, 0.7), rng.uniform(0.16, 0.3)
    blades = [(-0.7 * flare, 0.8, 0.72), (0.7 * flare, 0.8, 0.72), (-flare - 0.16, 0.9, 0.9), (flare + 0.16, 0.9, 0.9)]
    blades.append((rng.normal(0, 0.08), 1.0, 1.0))
    return [(petal(rng.uniform(0.92, 1.08), width * wide, angle, tip), "petal", shade) for angle, wide, shade in blades]


BLOOMS = {bloom.__name__: bloom for bloom in (daisy, lavender, lily, rose, tulip)}
SPECIES = tuple(BLOOMS)
UPRIGHT = ("lavender", "tulip")  # seen from the side; the others from above, turned and tilted


def rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """Return float32 ``[3]`` in 0..255 from a hue in degrees and a saturation and value in 0..1."""
    colour: np.ndarray = cv2.cvtColor(np.array([[[hue % 360, saturation, value]]], np.float32), cv2.COLOR_HSV2RGB)
    return colour[0, 0] * 255


def backdrop(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return an out-of-focus background, uint8 ``[side, side, 3]``."""
    ends = [rgb(rng.uniform(0, 360), rng.uniform(0.1, 0.6), rng.uniform(0.15, 0.95)) for _ in range(2)]
    fade = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    clouds = cv2.resize(rng.standard_normal((6, 6, 3)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip((1 - fade) * ends[0] + fade * ends[1] + rng.uniform(4, 14) * clouds, 0, 255).astype(np.uint8)


def fill(canvas: np.ndarray, points: np.ndarray, colour: np.ndarray) -> None:
    """Paint one polygon, in pixels."""
    cv2.fillPoly(canvas, [(points * 16).astype(np.int32)], np.minimum(colour, 255).tolist(), cv2.LINE_AA, 4)


def draw_flower(species: str, rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """Draw one picture with one to three blooms, uint8 ``[size, size, 3]``, RGB, equal for equal generators."""
    if species not in BLOOMS:
        raise ValueError(f"unknown species {species!r}; choose from {', '.join(SPECIES)}")
    if size < 16:  # nothing to recognise
        raise ValueError(f"size must be at least 16 pixels, got {size}")
    side = 2 * size
    canvas = backdrop(rng, side)
    hue, depth = rng.uniform(170, 430), rng.uniform(0.05, 0.8)  # no green: petals would look like leaves
    rims = {"petal": rgb(hue, depth, rng.uniform(0.85, 1)), "centre": rgb(rng.uniform(20, 62), 0.8, 0.9)}
    rims["leaf"] = rgb(rng.uniform(78, 138), 0.55, rng.uniform(0.35, 0.7))
    hearts = {**rims, "petal": rgb(hue + rng.normal(0, 28), rng.uniform(0.1, 0.9), rng.uniform(0.5, 1))}
    count = int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))
    for slot in (rng.permutation(count) + 0.5) / count:
        shapes = BLOOMS[species](rng)
        squash, angle = (1.0, rng.normal(0, 0.15)) if species in UPRIGHT else (rng.uniform(0.6, 1), rng.uniform(0, 6.3))
        outlines = [turned(points, angle) * (1, squash) for points, _, _ in shapes]
        low, high = np.concatenate(outlines).min(0), np.concatenate(outlines).max(0)
        scale = side * rng.uniform(0.7, 0.9) / count**0.4 / (high - low).max()
        middle = side * np.array([0.5 + 0.8 * (slot - 0.5) + rng.normal(0, 0.04), rng.uniform(0.4, 0.52)])
        origin = middle - scale * (low + high) / 2  # where the stem ends
        fill(canvas, petal(1.2 * side, 0.04 * side, np.pi + rng.normal(0, 0.1), 0.1, origin), rims["leaf"])
        leaf_root = (origin[0], rng.uniform(0.85, 1.1) * side)
        fill(canvas, petal(0.35 * side, 0.1 * side, rng.uniform(-1.2, 1.2), 0.9, leaf_root), rims["leaf"])
        for outline, (_, part, shade) in zip(outlines, shapes, strict=True):
            root = outline[[0, -1]].mean(0)
            fill(canvas, origin + scale * outline, 0.8 * shade * rims[part])  # a thin dark edge
            for share in np.linspace(0.04, 0.8, 8):  # smaller copies, ever closer to the heart's colour
                colour = ((1 - share) * rims[part] + share * hearts[part]) * shade
                fill(canvas, origin + scale * (root + (1 - share) * (outline - root)), colour)
    picture = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA) * rng.uniform(0.9, 1.05, 3)
    return np.clip(picture + rng.integers(-4, 5, (size, size, 1)), 0, 255).astype(np.uint8)


def draw_flowers(
    root: Path, *, per_class: int = 60, size: int = 256, seed: int = 0, species: Sequence[str] = SPECIES
) -> Path:
    """Draw ``per_class`` pictures of each species as ``root/SPECIES/NNN.jpg``, unless ``root`` already holds anything.

    Each picture depends only on (seed, species, number). The folder appears once it is complete.
    """
    root = Path(root)
    if root.exists() and any(root.iterdir()):
        return root
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, got {per_class}")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        unfinished = Path(scratch) / root.name
        for name in species:
            (unfinished / name).mkdir(parents=True)
            for index in range(per_class):
                picture = draw_flower(name, np.random.default_rng([seed, *name.encode(), index]), size)
                _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
                (unfinished / name / f"{index:03d}.jpg").write_bytes(data.tobytes())
        if root.exists():
            root.rmdir()  # empty, as checked above; some systems refuse to rename onto it
        unfinished.rename(root)
    return root
