"""A procedurally drawn set of flower pictures, so that a first fine-tuning run needs no download.

A species is pure geometry: a function that returns the pieces of one bloom. Colours, background, light, stems and
leaves are then added by code that does not know the species, so nothing but the shape can give a class away.

Bloom coordinates are free units with y pointing down; the stem is attached at (0, 0).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np

Point: TypeAlias = Sequence[float] | np.ndarray  # x, y

OVERSAMPLING = 2  # on top of anti-aliased polygons; more than this no longer shows
JPEG_QUALITY = 90
SMALLEST = 16  # pixels; below this there is nothing to recognise
SHADOW = np.array([0.75, 1.0, 1.1])  # shade takes more of the blue than of the red, so it looks warm, not grey
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


# ------------------------------------------------------------------------------------------------ pieces


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


# ------------------------------------------------------------------------------------------------ species


def allium(rng: np.random.Generator) -> list[Piece]:
    """Draw a ball of tiny star florets."""
    florets, points = int(rng.integers(60, 100)), int(rng.integers(5, 7))
    size, inner = rng.uniform(0.17, 0.22), rng.uniform(0.35, 0.5)
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    around = np.arange(2 * points) * np.pi / points
    star = radii[:, None] * np.stack([np.cos(around), np.sin(around)], 1)
    stalks, stars = [], []
    for i in reversed(range(florets)):  # from the rim inwards, so that the nearest florets lie on top
        r, a = np.sqrt((i + 0.5) / florets) * rng.uniform(0.93, 1.05), i * GOLDEN_ANGLE
        spot = r * np.array([np.cos(a), np.sin(a)])
        depth = np.sqrt(max(0.0, 1 - min(r, 1.0) ** 2))  # how far the floret faces the viewer
        squash = turn(a) @ np.diag([0.55 + 0.45 * depth, 1.0]) @ turn(rng.uniform(0, np.pi))
        stalks.append(Piece(np.array([spot, (0.02, 0.02), (-0.02, -0.02)]), None, "leaf", 0.85))
        stars.append(moved(Piece(star * size, np.zeros(2), "petal", 0.72 + 0.36 * depth), squash, spot))
        stars.append(disc(spot, size * 0.17))
    return stalks + stars


def bluebell(rng: np.random.Generator) -> list[Piece]:
    """Draw bells that hang from an arched stem."""
    side, bells = rng.choice([-1, 1]), int(rng.integers(4, 7))
    length, width = rng.uniform(0.62, 0.75), rng.uniform(0.46, 0.58)
    arch = curve((0, 0), (0.05 * side, -rng.uniform(1.7, 2.0)), (1.35 * side, -rng.uniform(1.1, 1.35)), 40)
    pieces = [ribbon(arch, 0.055, shade=0.85), ribbon(arch - 0.008, 0.022, shade=1.15)]
    for i, place in enumerate(np.linspace(13, 39, bells).astype(int)):
        top = arch[place]
        # the bells take turns on both sides of the stem while it still climbs
        lean = (-1) ** i * side * 0.5 * (1 - i / bells) + rng.normal(0, 0.1)
        hook = top + np.array([0.3 * np.sin(lean), 0.17])
        size = 1.08 - 0.35 * i / bells
        pieces.append(ribbon(curve(top, (hook[0], top[1]), hook, 6), 0.04))
        pieces += [moved(p, turn(-0.7 * lean) * size, hook) for p in bell(length, width)]
    return pieces


def bell(length: float, width: float) -> list[Piece]:
    """Return one hanging bell, its root at (0, 0), with the three lobes of its mouth curling outwards."""
    lobe = partial(petal, base=0.4, tip=0.8, veins=1)
    pieces = []
    for x in (-1, 1):
        side = lobe(0.5 * length, 0.45 * width, np.pi - 0.45 * x, bend=-0.3 * x, shade=0.88)
        pieces.append(shifted(side, (0.2 * width * x, 0.66 * length)))
    tube = petal(length, 0.85 * width, np.pi, base=0.42, tip=0.15, veins=2)
    front = lobe(0.45 * length, 0.5 * width, np.pi)
    return [*pieces, tube, shifted(front, (0, 0.72 * length)), petal(0.16, 0.2, np.pi, role="leaf", veins=0)]


def daisy(rng: np.random.Generator) -> list[Piece]:
    """Draw many thin petals around a disc."""
    petals, heart = int(rng.integers(13, 24)), rng.uniform(0.24, 0.34)
    width, tip = rng.uniform(2.7, 3.8) / petals, rng.uniform(0.2, 0.4)
    pieces = []
    for layer, shade in ((0.5, 0.82), (0.0, 1.0)):
        for i in range(petals):
            angle = 2 * np.pi * (i + layer) / petals + rng.normal(0, 0.05)
            pieces.append(petal(rng.uniform(0.92, 1.05), width, angle, base=0.75, tip=tip, shade=shade, veins=2))
    return seen_from_somewhere(rng, pieces + seed_head(rng, heart, 42))


def lavender(rng: np.random.Generator) -> list[Piece]:
    """Draw a spike of many small florets in whorls."""
    whorls, lean = int(rng.integers(9, 13)), rng.normal(0, 0.12)
    height, girth, size = rng.uniform(2.1, 2.5), rng.uniform(0.14, 0.2), rng.uniform(0.17, 0.21)
    axis = curve((0, 0), (0, -height / 2), (lean * height, -height), 60)
    pieces = [ribbon(axis[:56], 0.05)]
    for i in range(whorls):
        t = 0.0 if i == 0 else (i + 0.7) / (whorls + 0.7)  # the lowest whorl sits apart
        for x in (-1.0, 1.0, -0.5, 0.5, 0.0):  # outer florets first, the nearest one last
            spot = axis[int(t * 59)] + (x * girth * (1 - 0.7 * t), rng.normal(0, 0.025))
            angle, shade, grown = 0.9 * x + rng.normal(0, 0.2), rng.uniform(0.85, 1.15), size * (1 - 0.35 * t)
            bud = petal(1.25 * grown, 0.7 * grown, angle, shade=0.65 * shade, veins=0)
            lips = [petal(grown, 0.6 * grown, angle + a, base=1.2, tip=0.4, shade=shade, veins=1) for a in (-0.5, 0.5)]
            pieces += [shifted(bud, spot + np.array([0, 0.05])), *(shifted(lip, spot) for lip in lips)]
    return pieces


def lily(rng: np.random.Generator) -> list[Piece]:
    """Draw a star of six pointed petals with long stamens."""
    width, tip = rng.uniform(0.42, 0.56), rng.uniform(0.85, 1.1)
    pieces, stamens = [], []
    for i in (0, 2, 4, 1, 3, 5):  # three petals behind, three in front
        angle, bend = i * np.pi / 3 + rng.normal(0, 0.06), rng.normal(0, 0.09)
        front = 1.0 if i % 2 else 0.88
        blade = petal(rng.uniform(0.95, 1.08), width * front, angle, base=0.7, tip=tip, bend=bend, shade=front, veins=5)
        rib = petal(0.8, 0.06, angle, base=0.5, tip=1.0, bend=bend, shade=1.15 * front, veins=0)
        freckles = [
            moved(disc(spot, 0.016, shade=0.55), turn(angle))
            for spot in np.stack([rng.normal(0, 0.06, 7), -rng.uniform(0.2, 0.5, 7)], 1)
        ]
        pieces += [blade, rib, *freckles]
        reach, way = rng.uniform(0.4, 0.55), turn(angle + np.pi / 6)
        stalk = curve((0, 0), (0.06, -reach / 2), (0, -reach))
        anther = moved(disc((0, 0), 1), way @ np.diag([0.07, 0.03]), way @ (0, -reach))
        stamens += [moved(ribbon(stalk, 0.028, shade=1.2), way), anther]
    return seen_from_somewhere(rng, [*pieces, *stamens, disc((0, 0), 0.06, "leaf", 1.2)])


def poppy(rng: np.random.Generator) -> list[Piece]:
    """Draw four broad overlapping petals around a ring of stamens."""
    width, ruffle = rng.uniform(1.25, 1.5), rng.uniform(0.015, 0.035)
    pieces = []
    for i in (0, 2, 1, 3):  # two opposite petals behind, two in front
        angle = i * np.pi / 2 + rng.normal(0, 0.1)
        length, shade = rng.uniform(0.92, 1.05), 1.0 if i % 2 else 0.85
        pieces.append(petal(length, width, angle, base=0.5, tip=0.3, ruffle=ruffle, shade=shade, veins=11))
        pieces.append(petal(0.45, 0.46, angle, tip=0.5, role="centre", shade=0.5, veins=0))
    for angle in rng.uniform(0, 2 * np.pi, 46):
        reach = rng.uniform(0.2, 0.33)
        pieces.append(disc((reach * np.cos(angle), reach * np.sin(angle)), 0.026, shade=rng.uniform(0.7, 1.2)))
    pod = [petal(0.15, 0.05, a, role="leaf", shade=0.7, veins=0) for a in np.arange(8) * np.pi / 4]
    return seen_from_somewhere(rng, [*pieces, disc((0, 0), 0.16, "leaf", 1.15), *pod])


def rose(rng: np.random.Generator) -> list[Piece]:
    """Draw broad petals that spiral into the heart."""
    petals, twist = int(rng.integers(15, 22)), rng.choice([-1, 1]) * rng.uniform(2.2, 2.6)
    pieces = []
    for i in range(petals):
        size = 1 - 0.86 * (i / petals) ** 0.8
        # each petal is rooted beyond the middle, so that the next one covers all but its rolled rim
        leaf = petal(1.35 * size, 1.5 * size, i * twist, base=0.4, tip=0.28, ruffle=0.012, veins=0)
        shade = 1.08 - 0.38 * i / petals + rng.normal(0, 0.03)
        pieces.append(shifted(leaf._replace(shade=shade), turn(i * twist) @ (0, 0.35 * size)))
    swirl = np.linspace(0.2, 3.2 * np.pi, 40)
    spiral = 0.014 * swirl[:, None] * np.stack([np.cos(swirl), np.sign(twist) * np.sin(swirl)], 1)
    return seen_from_somewhere(rng, [*pieces, ribbon(spiral, 0.035, "petal", 0.55)])


def tulip(rng: np.random.Generator) -> list[Piece]:
    """Draw a closed cup seen from the side."""
    width, tip, flare = rng.uniform(0.6, 0.75), rng.uniform(0.45, 0.7), rng.uniform(0.16, 0.3)
    blade = partial(petal, base=0.42, tip=tip, veins=6)
    back = [blade(rng.uniform(0.98, 1.08), width * 0.8, a, shade=0.72) for a in (-0.7 * flare, 0.7 * flare)]
    sides = [
        blade(rng.uniform(0.98, 1.08), width * 0.9, s * (flare + 0.16), bend=-s * 0.12, shade=0.9) for s in (-1, 1)
    ]
    front = blade(rng.uniform(0.88, 0.98), width, rng.normal(0, 0.08))
    matrix = turn(rng.normal(0, 0.15)) @ np.diag([1.0, rng.uniform(0.95, 1.2)])
    return [moved(piece, matrix) for piece in [*back, *sides, front]]


_BLOOMS: dict[str, Callable[[np.random.Generator], list[Piece]]] = {
    "allium": allium,
    "bluebell": bluebell,
    "daisy": daisy,
    "lavender": lavender,
    "lily": lily,
    "poppy": poppy,
    "rose": rose,
    "tulip": tulip,
}
SPECIES: tuple[str, ...] = tuple(_BLOOMS)


# ------------------------------------------------------------------------------------------------ colour and light


def rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """Return float32 [3] in 0..255 from hue in degrees (any turn) and saturation and value in 0..1."""
    hsv = np.array([[[hue % 360, np.clip(saturation, 0, 1), np.clip(value, 0, 1)]]], np.float32)
    colour: np.ndarray = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] * 255
    return colour


def tones(rng: np.random.Generator, background: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the (rim, heart) colours of each role, with petals that stand out from the background colour [3]."""

    def petals() -> tuple[np.ndarray, np.ndarray]:
        hue = rng.uniform(170, 430)  # everything but green, which would read as leaves
        depth = rng.choice([0.1, 0.4, 0.72]) + rng.uniform(-0.1, 0.1)  # white-ish, pastel or vivid
        depth *= 0.75 if 215 < hue < 265 else 1.0  # full blue is so dark that it swallows the shading
        rim = rgb(hue, depth, rng.uniform(0.85, 1.0))
        heart = rgb(hue + rng.normal(0, 28), depth + rng.uniform(-0.45, 0.15), rng.uniform(0.5, 1.0))
        return rim, heart

    pairs = [petals() for _ in range(2)]
    best = max(pairs, key=lambda pair: np.abs(pair[0] - background).sum())
    warm, green = rng.uniform(20, 62), rng.uniform(78, 138)
    value, fresh = rng.uniform(0.35, 0.95), rng.uniform(0.35, 0.7)
    centre = rgb(warm, rng.uniform(0.55, 0.95), value * 0.75), rgb(warm + 8, rng.uniform(0.4, 0.9), value)
    return {"petal": best, "centre": centre, "leaf": (rgb(green, 0.6, fresh), rgb(green - 8, 0.5, fresh * 0.75))}


def clouds(rng: np.random.Generator, cells: int, size: int, channels: int = 3) -> np.ndarray:
    """Return smooth noise around zero, float32 [size, size, channels]."""
    coarse = rng.standard_normal((cells, cells, channels), np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC).reshape(size, size, channels)


def backdrop(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return an out-of-focus background, float32 [size, size, 3] in 0..255."""
    kind = rng.choice(["meadow", "sky", "bokeh", "dark", "paper"])
    green, blue = rng.uniform(70, 130), rng.uniform(190, 230)
    top, bottom, rough = {
        "meadow": (rgb(green - 20, 0.35, 0.85), rgb(green, 0.6, 0.4), 14),
        "sky": (rgb(blue, 0.6, 0.85), rgb(blue - 15, 0.15, 0.97), 10),
        "bokeh": (rgb(rng.uniform(0, 360), 0.45, 0.5), rgb(green, 0.5, 0.3), 8),
        "dark": (rgb(rng.uniform(0, 360), 0.4, 0.25), rgb(rng.uniform(0, 360), 0.4, 0.12), 5),
        "paper": (rgb(rng.uniform(20, 60), 0.08, 0.96), rgb(rng.uniform(20, 60), 0.2, 0.88), 3),
    }[kind]
    fade = np.linspace(0, 1, size, dtype=np.float32)[:, None, None] ** rng.uniform(0.6, 1.6)
    picture: np.ndarray = (1 - fade) * top + fade * bottom + rough * clouds(rng, int(rng.integers(4, 9)), size)
    picture += rough * clouds(rng, int(rng.integers(4, 12)), size, 1)
    if kind in ("meadow", "bokeh"):
        for _ in range(rng.integers(6, 22)):
            glow = rgb(rng.uniform(0, 360) if kind == "bokeh" else green, rng.uniform(0.1, 0.5), rng.uniform(0.6, 1.0))
            spot = np.zeros((size, size), np.uint8)
            x, y = rng.integers(0, size, 2).tolist()
            cv2.circle(spot, (x, y), int(size * rng.uniform(0.02, 0.09)), 1, -1)
            picture[spot > 0] += rng.uniform(0.15, 0.4) * (glow - picture[spot > 0])
        picture = cv2.GaussianBlur(picture, (0, 0), size * rng.uniform(0.008, 0.02))
    np.clip(picture, 0, 255, out=picture)
    return picture


def paint(canvas: np.ndarray, piece: Piece, pair: tuple[np.ndarray, np.ndarray], light: np.ndarray) -> None:
    """Paint one piece, in canvas pixels, onto the uint8 canvas; `light` [2] points to where the light comes from."""

    def fixed(points: np.ndarray) -> np.ndarray:
        return (points * 16).astype(np.int32)  # OpenCV's sub-pixel coordinates, four binary digits

    rim, heart = pair
    if piece.root is None:
        colour = np.minimum(rim * piece.shade**SHADOW, 255).tolist()
        cv2.fillPoly(canvas, [fixed(piece.outline)], colour, cv2.LINE_AA, 4)
        return
    reach = piece.outline - piece.root
    span, way = np.abs(reach).max(), reach.mean(0)
    shade = (piece.shade * (1 + 0.16 * (way @ light) / (np.hypot(*way) + 0.1 * span))) ** SHADOW
    # a gradient at the price of a few polygons: copies that shrink towards the root, ever closer to the heart colour
    steps = int(min(max(span / 5, 1), 16))
    depths = np.arange(steps)[:, None] / steps
    colours = np.minimum((rim + depths * (heart - rim)) * shade, 255).tolist()
    for outline, colour in zip(fixed(piece.root + reach * (1 - depths[:, None])), colours, strict=True):
        cv2.fillPoly(canvas, [outline], colour, cv2.LINE_AA, 4)
    if span < 12:
        return
    half = len(piece.outline) // 2
    left, right = piece.outline[:half], piece.outline[half:][::-1]
    shares = np.arange(1, piece.veins + 1)[:, None, None] / (piece.veins + 1)
    veins = list(fixed(left + shares * (right - left))[:, : int(half * 0.75)])
    cv2.polylines(canvas, veins, False, ((0.35 * rim + 0.65 * heart) * shade * 0.9).tolist(), 1, cv2.LINE_AA, 4)
    # a thin dark edge separates petals of one colour that overlap
    cv2.polylines(canvas, [fixed(piece.outline)], True, (rim * shade * 0.78).tolist(), 1, cv2.LINE_AA, 4)


# ------------------------------------------------------------------------------------------------ composition


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


def lit(rng: np.random.Generator, picture: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Return the uint8 picture [size, size, 3] under slanting, slightly tinted light, with a trace of grain."""
    size = len(picture)
    across = np.linspace(-1, 1, size, dtype=np.float32)
    slant = 1 + rng.uniform(0.02, 0.14) * (light[0] * across[None, :] + light[1] * across[:, None])
    tint = rng.uniform(0.94, 1.04, 3) * rng.uniform(0.95, 1.08)
    bright: np.ndarray = picture * slant[..., None].astype(np.float32)
    bright *= tint.astype(np.float32)
    bright += rng.integers(-4, 5, (size, size, 1), np.int8)
    np.clip(bright, 0, 255, out=bright)
    return bright.astype(np.uint8)


def _check_known(species: str) -> None:
    if species not in _BLOOMS:
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
        anchor, *bloom = fitted([anchor, *_BLOOMS[species](rng)], side * np.array([x, y]), area, longest)
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
