"""What the scan of a file finds, on files made for it; a file is read once."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effnet_ft.inspection import file_scan
from effnet_ft.inspection.file_scan import MEANINGS, find_unusual_files, scan_files
from effnet_ft.utils.array_cache import ArrayCache

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
PICTURE = Image.fromarray(NOISE)


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Return a file's content."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def upside_down() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3
    return saved(PICTURE, exif=exif)


# Content and name of a file of each kind, and the detail that is found.
UNUSUAL: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "blank": (lambda: saved(Image.new("RGB", (40, 40), "grey")), "a.jpg", "40 x 40 px"),
    "tiny": (lambda: saved(PICTURE.resize((64, 20))), "a.jpg", "64 x 20 px"),
    "narrow": (lambda: saved(PICTURE.resize((300, 40))), "a.jpg", "300 x 40 px"),
    "wrong ending": (lambda: saved(PICTURE, "PNG"), "a.jpg", "holds PNG"),
    "animated": (
        lambda: saved(PICTURE, "GIF", save_all=True, append_images=[Image.fromarray(NOISE[::-1])]),
        "a.gif",
        "2 frames",
    ),
    "transparent": (lambda: saved(PICTURE.convert("RGBA"), "PNG"), "a.png", "RGBA"),
    "CMYK": (lambda: saved(PICTURE.convert("CMYK")), "a.jpg", "JPEG"),
    "over 8 bits": (lambda: saved(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), "PNG"), "a.png", "I;16"),
    "turned by EXIF": (upside_down, "a.jpg", "64 x 48 px"),
}


def test_every_kind_is_made() -> None:
    assert set(UNUSUAL) == set(MEANINGS)


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_files_are_found(kind: str, tmp_path: Path) -> None:
    make, name, detail = UNUSUAL[kind]
    (tmp_path / name).write_bytes(make())
    records = scan_files([tmp_path / name], ArrayCache(tmp_path / "cache"))
    assert find_unusual_files([name], records) == {kind: [(name, detail)]}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_plain_image_is_not_unusual(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(saved(PICTURE, kind))
    (record,) = records = scan_files([path], ArrayCache(tmp_path / "cache"))
    assert find_unusual_files([path.name], records) == {}
    assert (record["format"], record["width"], record["height"], record["frames"]) == (kind.encode(), 64, 48, 1)
    assert record["digest"].decode() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert np.abs(record["picture"].mean((0, 1)) - NOISE.mean((0, 1))).max() < 8


@pytest.mark.parametrize(
    "content",
    [b"", b"text", saved(PICTURE)[:-300], saved(PICTURE, "PNG")[:2000]],
    ids=["empty", "text", "cut JPEG", "cut PNG"],
)
def test_broken_files_have_a_reason(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    records = scan_files([tmp_path / "a.jpg"], ArrayCache(tmp_path / "cache"))
    assert records["reason"][0]
    assert find_unusual_files(["a.jpg"], records) == {}


def test_files_are_read_again_where_one_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = tmp_path / "a.jpg", ArrayCache(tmp_path / "cache")
    path.write_bytes(saved(PICTURE))
    first = scan_files([path], cache).copy()
    with monkeypatch.context() as patch:
        patch.setattr(file_scan, "_scan", lambda path: pytest.fail(f"read {path} again"))
        assert (scan_files([path], cache) == first).all()
    path.write_bytes(saved(PICTURE, quality=20))
    assert scan_files([path], cache)["digest"] != first["digest"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(saved(PICTURE))
    (tmp_path / "cache").write_text("a file")
    assert scan_files([tmp_path / "a.jpg"], ArrayCache(tmp_path / "cache"))["width"] == 64
