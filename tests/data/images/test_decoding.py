"""Every common kind of image file becomes upright uint8 RGB; a file that cannot be read is named before training."""

import hashlib
import os
import runpy
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from effnet_ft.data.images import decoding
from effnet_ft.data.images.decoding import (
    SUFFIXES,
    content_digests,
    downscale,
    downscaled_shape,
    image_sides,
    pixels_key,
    read_image,
    to_rgb,
)
from effnet_ft.data.images.unreadable import find_unreadable
from effnet_ft.errors import DataError
from effnet_ft.utils.array_cache import ArrayCache

# Twelve plain fields of 16 px, no two alike: survives JPEG, fits a palette, has no symmetry.
PICTURE = np.random.default_rng(3).integers(0, 256, (3, 4, 3), np.uint8).repeat(16, 0).repeat(16, 1)
HEIGHT, WIDTH = PICTURE.shape[:2]
GREY = PICTURE[..., 0]
DEEP = np.linspace(0, 65535, HEIGHT * WIDTH).round().astype(np.uint16).reshape(HEIGHT, WIDTH)
RIGHT = np.arange(WIDTH) >= WIDTH // 2
LOSSY = 8  # colours run across the borders of the fields; other orientations are ten times as far off


def rgb(grey: np.ndarray) -> np.ndarray:
    """Repeat grey values, ``[H, W]`` on the scale 0..255, as the three channels."""
    return np.repeat(np.asarray(grey).round().astype(np.uint8)[..., None], 3, 2)


def over_white(alpha: np.ndarray | float, picture: np.ndarray = PICTURE) -> np.ndarray:
    """Lay ``picture`` on white; ``alpha`` in 0..255, one number or ``[W]``."""
    share = np.broadcast_to(np.asarray(alpha) / 255, (HEIGHT, WIDTH))[..., None]
    return (picture * share + 255 * (1 - share)).round().astype(np.uint8)


def with_alpha(pixels: np.ndarray, alpha: np.ndarray) -> Image.Image:
    plane = np.broadcast_to(alpha.astype(np.uint8), (HEIGHT, WIDTH))
    return Image.fromarray(np.dstack([pixels, plane]))


def indexed() -> Image.Image:
    return Image.fromarray(PICTURE).quantize(16)


def assert_same(got: np.ndarray, expected: np.ndarray, tolerance: float = 0) -> None:
    """Check what every reading promises, then the values; ``tolerance`` is of the average."""
    assert got.dtype == np.uint8 and got.flags.c_contiguous
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_listed_ending_is_read(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / f"x{suffix}", quality=95)
    lossless = suffix in (".png", ".bmp", ".dib", ".tif", ".tiff", ".gif")
    assert_same(read_image(tmp_path / f"x{suffix}"), PICTURE, 0 if lossless else LOSSY)


RIGHT_CLEAR = np.where(RIGHT, 0, 255)
FIRST_COLOUR = np.where((PICTURE[0, 0] == PICTURE).all(2), 0, 255)

KINDS: dict[str, tuple[str, Callable[[], Image.Image], dict, np.ndarray, float]] = {
    "grey": ("png", lambda: Image.fromarray(GREY), {}, rgb(GREY), 0),
    "grey-jpeg": ("jpg", lambda: Image.fromarray(GREY), {"quality": 95}, rgb(GREY), LOSSY),
    "one-bit": ("png", lambda: Image.fromarray(GREY > 128), {}, rgb(255 * (GREY > 128)), 0),
    "one-bit-tiff": ("tif", lambda: Image.fromarray(GREY > 128), {}, rgb(255 * (GREY > 128)), 0),
    "grey-alpha": ("png", lambda: with_alpha(GREY, RIGHT_CLEAR), {}, over_white(RIGHT_CLEAR, rgb(GREY)), 0),
    "grey-one-clear": (
        "png",
        lambda: Image.fromarray(GREY),
        {"transparency": int(GREY[0, 0])},
        rgb(np.where(GREY[0, 0] == GREY, 255, GREY)),
        0,
    ),
    "palette": ("png", indexed, {}, PICTURE, 0),
    "palette-one-clear": (
        "png",
        indexed,
        {"transparency": np.asarray(indexed())[0, 0].item()},
        over_white(FIRST_COLOUR),
        0,
    ),
    "palette-half-clear": ("png", indexed, {"transparency": bytes([128] * 16)}, over_white(128), 1),
    "palette-gif-one-clear": (
        "gif",
        indexed,
        {"transparency": np.asarray(indexed())[0, 0].item()},
        over_white(FIRST_COLOUR),
        0,
    ),
    "rgb-one-clear": (
        "png",
        lambda: Image.fromarray(PICTURE),
        {"transparency": tuple(PICTURE[0, 0].tolist())},
        over_white(FIRST_COLOUR),
        0,
    ),
    "rgba": ("png", lambda: with_alpha(PICTURE, RIGHT_CLEAR), {}, over_white(RIGHT_CLEAR), 0),
    "rgba-half-clear": ("png", lambda: with_alpha(PICTURE, np.array(128)), {}, over_white(128), 1),
    "rgba-webp": ("webp", lambda: with_alpha(PICTURE, RIGHT_CLEAR), {"lossless": True}, over_white(RIGHT_CLEAR), 0),
    "rgba-tiff": ("tif", lambda: with_alpha(PICTURE, RIGHT_CLEAR), {}, over_white(RIGHT_CLEAR), 0),
    "cmyk-jpeg": ("jpg", lambda: Image.fromarray(PICTURE).convert("CMYK"), {"quality": 95}, PICTURE, LOSSY),
    "cmyk-tiff": ("tif", lambda: Image.fromarray(PICTURE).convert("CMYK"), {}, PICTURE, 0),
    "16-bit-grey": ("png", lambda: Image.fromarray(DEEP), {}, rgb(DEEP / 257), 0),
    "16-bit-grey-tiff": ("tif", lambda: Image.fromarray(DEEP), {}, rgb(DEEP / 257), 0),
    "16-bit-big-endian": ("tif", lambda: Image.fromarray(DEEP.astype(">u2")), {}, rgb(DEEP / 257), 0),
    "32-bit-integer": ("tif", lambda: Image.fromarray(DEEP.astype(np.int32)), {}, rgb(DEEP / 257), 0),
    "32-bit-of-8": ("tif", lambda: Image.fromarray((DEEP // 257).astype(np.int32)), {}, rgb(DEEP // 257), 0),
    "float-to-one": ("tif", lambda: Image.fromarray((DEEP / 65535).astype(np.float32)), {}, rgb(DEEP / 257), 0),
    "float-to-255": ("tif", lambda: Image.fromarray((DEEP / 257).astype(np.float32)), {}, rgb(DEEP / 257), 0),
    "first-frame": (
        "gif",
        lambda: Image.fromarray(PICTURE),
        {"save_all": True, "append_images": [Image.fromarray(PICTURE[::-1])]},
        PICTURE,
        0,
    ),
    "first-page": (
        "tif",
        lambda: Image.fromarray(PICTURE),
        {"save_all": True, "append_images": [Image.fromarray(PICTURE[::-1])]},
        PICTURE,
        0,
    ),
    "one-pixel": ("png", lambda: Image.new("RGB", (1, 1), "red"), {}, np.array([[[255, 0, 0]]]), 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_pixel_becomes_rgb(kind: str, tmp_path: Path) -> None:
    suffix, make, options, expected, tolerance = KINDS[kind]
    make().save(tmp_path / f"x.{suffix}", **options)
    assert_same(read_image(tmp_path / f"x.{suffix}"), expected, tolerance)
    assert find_unreadable(tmp_path, [f"x.{suffix}"]) == {}


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_colour_is_scaled(suffix: str, tmp_path: Path) -> None:
    deep = np.dstack([DEEP, DEEP[::-1], DEEP[:, ::-1]])
    assert cv2.imwrite(str(tmp_path / f"x.{suffix}"), deep[..., ::-1])
    assert_same(read_image(tmp_path / f"x.{suffix}"), (deep / 257).round().astype(np.uint8), 1)


STORED = {
    1: PICTURE,
    2: PICTURE[:, ::-1],
    3: PICTURE[::-1, ::-1],
    4: PICTURE[::-1],
    5: PICTURE.transpose(1, 0, 2),
    6: np.rot90(PICTURE),  # the camera was turned: a quarter turn clockwise puts it right
    7: PICTURE[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PICTURE, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_every_exif_orientation_comes_out_upright(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    stored.save(tmp_path / f"x.{suffix}", exif=exif, quality=95)
    assert_same(read_image(tmp_path / f"x.{suffix}"), PICTURE, 0 if suffix in ("png", "tif") else LOSSY)


def test_16_bit_grey_is_rotated_too() -> None:
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(DEEP)))
    stored.getexif()[ExifTags.Base.Orientation] = 6
    assert_same(to_rgb(stored), rgb(DEEP / 257))


def test_missing_float_values_are_black() -> None:
    assert_same(to_rgb(Image.fromarray(np.array([[np.nan, 0.2, 1]], np.float32))), rgb([[0, 51, 255]]))


@pytest.mark.parametrize("exif", [b"Exif\0\0no such thing", b"Exif\0\0MM\0*"], ids=["no-header", "cut-off"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_broken_exif_does_not_cost_the_image(suffix: str, exif: bytes, tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / f"x.{suffix}", exif=exif, quality=95)
    assert_same(read_image(tmp_path / f"x.{suffix}"), PICTURE, LOSSY)
    assert find_unreadable(tmp_path, [f"x.{suffix}"]) == {}


def encoded(suffix: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(PICTURE).save(buffer, Image.registered_extensions()[f".{suffix}"])
    return buffer.getvalue()


BROKEN = {
    **{f"cut-off.{suffix}": encoded(suffix)[: len(encoded(suffix)) // 2] for suffix in ("jpg", "png", "webp", "bmp")},
    "cut-off-late.jpg": encoded("jpg")[:-40],
    "bad-checksum.png": encoded("png").replace(b"IDAT", b"IDAT\1", 1),
    "empty.jpg": b"",
    "text.jpg": b"once upon a time",
    "page.png": b"<!doctype html><title>404</title>",
}
"""File name to contents."""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(DataError, match=rf"cannot read the image .*{name}: \w+"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["folder.jpg", "gone.jpg"])
def test_a_folder_and_a_missing_file_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(DataError, match=name):
        read_image(str(tmp_path / name))


@pytest.mark.parametrize("threads", [None, 1])
def test_unreadable_finds_the_broken_files_alone(threads: int | None, tmp_path: Path) -> None:
    for name, contents in BROKEN.items():
        (tmp_path / name).write_bytes(contents)
    good = [f"good{suffix}" for suffix in SUFFIXES]
    for name in good:
        Image.fromarray(PICTURE).save(tmp_path / name)
    mixed = sorted([*good, *BROKEN, "gone.jpg"], key=lambda name: name[::-1])
    found = find_unreadable(tmp_path, mixed, threads)
    assert list(found) == [name for name in mixed if name not in good]
    assert all(found.values())
    assert found["text.jpg"] == "not an image, or of a kind that is not supported: save it as JPEG"
    assert "truncated" in found["cut-off.jpg"].lower()


def test_unreadable_of_nothing_is_nothing(tmp_path: Path) -> None:
    assert find_unreadable(tmp_path, []) == {}


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's limit at the size of the picture: it warns above that, and refuses above double."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 2 * HEIGHT * WIDTH)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_large_image_is_read_without_pillows_warning(suffix: str, tmp_path: Path) -> None:
    large = np.concatenate([PICTURE, PICTURE])
    Image.fromarray(large).save(tmp_path / f"x.{suffix}", quality=95)
    before = list(warnings.filters)
    with decoding.silence_pillow():
        assert_same(read_image(tmp_path / f"x.{suffix}"), large, LOSSY)
    assert warnings.filters == before
    assert find_unreadable(tmp_path, [f"x.{suffix}"]) == {}


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("lifted", [False, True], ids=["both-limits", "our-limit-alone"])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_an_image_over_the_limit_is_refused_before_it_is_decoded(
    suffix: str, lifted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.concatenate([PICTURE] * 3)).save(tmp_path / f"x.{suffix}")
    file = (tmp_path / f"x.{suffix}").read_bytes()
    (tmp_path / f"x.{suffix}").write_bytes(file[:-200])  # decoding it would complain of the missing end
    if lifted:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(DataError, match=rf"x\.{suffix}: .*pixels"):
        read_image(tmp_path / f"x.{suffix}")
    assert "pixels" in find_unreadable(tmp_path, [f"x.{suffix}"])[f"x.{suffix}"]


def test_a_limit_lifted_before_the_import_does_not_refuse_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert runpy.run_path(decoding.__file__)["MAX_PIXELS"] > 10**8


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [1, 6, 9])
def test_reduced_images_keep_their_shape_in_every_format(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (900, 300), "red").save(tmp_path / f"a{suffix}", exif=exif)
    whole = read_image(tmp_path / f"a{suffix}")
    assert read_image(tmp_path / f"a{suffix}", 100).shape == downscale(whole, 100).shape


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(("width", "height"), [(1200, 900), (900, 1201), (2000, 250), (120, 90)])
def test_reduced_images_look_the_same_and_are_as_large_as_said(
    width: int, height: int, orientation: int, tmp_path: Path
) -> None:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * x / width, 255 * y / height, 128 + 0 * x], 2).astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    whole, small = read_image(tmp_path / "a.jpg"), read_image(tmp_path / "a.jpg", 200)
    scale = min(1.0, 200 / min(whole.shape[:2]))
    assert small.shape == (round(whole.shape[0] * scale), round(whole.shape[1] * scale), 3)
    with Image.open(tmp_path / "a.jpg") as image:
        assert downscaled_shape(image, 200) == small.shape[:2]
    assert np.abs(small.astype(int) - downscale(whole, 200)).max() <= 6
    assert (small is whole) or scale < 1 or np.array_equal(small, whole)


def test_a_large_jpeg_is_decoded_at_a_smaller_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (3200, 2400), "red").save(tmp_path / "a.jpg")
    decoded: list[tuple[int, int]] = []
    convert = decoding.to_rgb

    def noted(image: Image.Image) -> np.ndarray:
        pixels = convert(image)
        decoded.append(pixels.shape[:2])
        return pixels

    monkeypatch.setattr(decoding, "to_rgb", noted)
    assert read_image(tmp_path / "a.jpg", 448).shape == (448, 597, 3)
    assert decoded == [(600, 800)]


def test_the_limit_holds_for_reduced_images_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "a.jpg")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(DataError, match=r"64 x 64 pixels"):
        read_image(tmp_path / "a.jpg", 8)


def test_sides_are_read_from_headers(tmp_path: Path) -> None:
    for number, side in enumerate((20, 300, 90)):
        Image.new("L", (side, 400)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    (tmp_path / "4.png").mkdir()
    files = [tmp_path / f"{number}.png" for number in range(6)]
    assert image_sides(files) == [(400, 20), (400, 300), (400, 90)]


def test_files_that_change_places_are_read_again(tmp_path: Path) -> None:
    """Two files of one size and one time, exchanged: only inode and change time tell."""
    paths, cache = [tmp_path / "a.bmp", tmp_path / "b.bmp"], ArrayCache(tmp_path / "cache")
    for path, grey in zip(paths, (0, 255), strict=True):
        Image.new("L", (8, 8), grey).save(path)
        os.utime(path, ns=(10**18, 10**18))
    before = content_digests(paths, cache)
    assert before == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    paths[0].rename(tmp_path / "c.bmp")
    paths[1].rename(paths[0])
    (tmp_path / "c.bmp").rename(paths[1])
    assert content_digests(paths, cache) == before[::-1]
    assert pixels_key(paths, cache) != pixels_key(paths[::-1], cache)


def test_another_decoder_makes_other_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = tmp_path / "a.png", ArrayCache(tmp_path / "cache")
    Image.new("L", (8, 8)).save(path)
    before = pixels_key([path], cache)
    monkeypatch.setattr("PIL.__version__", "0.1")
    assert pixels_key([path], cache) != before


@pytest.mark.parametrize("values", [[0.0, 5000.0], [-1.0, 1.0], [0.0, np.inf]])
def test_greys_of_an_unknown_scale_are_refused(values: list[float], tmp_path: Path) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x\.tif: grey values from .* whose scale is not known"):
        read_image(tmp_path / "x.tif")


def test_colours_of_another_profile_become_srgb(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    Image.fromarray(PICTURE).save(tmp_path / "srgb.png", icc_profile=lab.tobytes())
    assert np.array_equal(read_image(tmp_path / "srgb.png"), PICTURE)
    Image.fromarray(PICTURE).save(tmp_path / "wide.png", icc_profile=swapped_profile())
    assert_same(read_image(tmp_path / "wide.png"), PICTURE[..., ::-1], 3)
    Image.fromarray(PICTURE).convert("RGBA").save(tmp_path / "wide.png", icc_profile=swapped_profile())
    assert_same(read_image(tmp_path / "wide.png"), PICTURE[..., ::-1], 3)
    grey = Image.fromarray(PICTURE).convert("L")
    grey.save(tmp_path / "grey.png", icc_profile=swapped_profile())
    assert_same(read_image(tmp_path / "grey.png"), np.asarray(grey.convert("RGB")), 3)
    Image.fromarray(PICTURE).save(tmp_path / "broken.png", icc_profile=b"x" * 200)
    assert np.array_equal(read_image(tmp_path / "broken.png"), PICTURE)


def swapped_profile() -> bytes:
    """Return sRGB's profile with red and blue exchanged, under another name."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")
    return swapped.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be")).replace(b"sRGB", b"test")
