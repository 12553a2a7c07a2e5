"""One function a species: the pieces of one bloom, pure geometry. A new one is a function and a line in ``BLOOMS``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from effnet_ft.data.demo_flowers.pieces import (
    GOLDEN_ANGLE,
    Piece,
    curve,
    disc,
    moved,
    petal,
    ribbon,
    seed_head,
    seen_from_somewhere,
    shifted,
    turn,
)


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


BLOOMS: dict[str, Callable[[np.random.Generator], list[Piece]]] = {
    "allium": allium,
    "bluebell": bluebell,
    "daisy": daisy,
    "lavender": lavender,
    "lily": lily,
    "poppy": poppy,
    "rose": rose,
    "tulip": tulip,
}
SPECIES: tuple[str, ...] = tuple(BLOOMS)
