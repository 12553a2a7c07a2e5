"""Colour and light for drawn flowers. Nothing here knows the species, so nothing but the shape gives a class away."""

from __future__ import annotations

import cv2
import numpy as np

from effnet_ft.data.demo_flowers.pieces import Piece

SHADOW = np.array([0.75, 1.0, 1.1])  # shade takes more of the blue than of the red, so it looks warm, not grey


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
