"""Published sets from a server: whole, cut, of other content, or away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from published_files import Made, check, left_in, make, pieces, refused
from serving import Site, serving
from torchvision import datasets

from effnet_ft.data.sources.published import read_published
from effnet_ft.data.sources.published.table import PUBLISHED


@dataclass
class Folder(Site):
    """A server of one folder's files, by their names alone."""

    folder: Path = Path()

    def content(self, path: str) -> bytes | None:
        found = next(self.folder.rglob(path.rsplit("/", 1)[-1]), None)
        return found.read_bytes() if found else None

    @property
    def asked(self) -> list[str]:
        return [path.rsplit("/", 1)[-1] for path, _ in self.requests]


@pytest.fixture(params=["cifar100", "flowers102"])
def name(request: pytest.FixtureRequest) -> str:
    """A set to download: an archive alone, or an archive and lists."""
    return request.param


@pytest.fixture
def made(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    return make(name, tmp_path, monkeypatch)


@pytest.fixture
def site(made: Made, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """A server on this machine, which torchvision's addresses lead to."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(Folder(folder=made.folder)) as site:
        monkeypatch.setattr(datasets.CIFAR100, "url", f"{site.address}/~kriz/cifar-100-python.tar.gz")
        monkeypatch.setattr(datasets.Flowers102, "_download_url_prefix", f"{site.address}/data/flowers/102/")
        yield site


def test_a_set_is_downloaded_once(site: Folder, name: str, made: Made, tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    check(read_published(name, root), made, root)
    assert sorted(site.asked) == sorted(piece.name for piece in pieces(name))
    check(read_published(name, root), made, root)
    assert len(site.asked) == len(pieces(name))


def test_a_cut_download_is_taken_up_by_the_next_run(site: Folder, name: str, made: Made, tmp_path: Path) -> None:
    site.cuts = [100, 50, 25]
    text = refused(name, tmp_path / "root", download=True)
    file = pieces(name)[0].name
    assert f"cannot download {PUBLISHED[name].title}: the connection was lost after 175 of" in text
    assert "Try again, or put into" in text and file in text
    assert site.asked == [file] * 3
    assert [Path(path).name for path in left_in(tmp_path / "root")] == [f"{file}.part"]
    check(read_published(name, tmp_path / "root"), made, tmp_path / "root")


def test_a_wrong_file_leaves_nothing(site: Folder, name: str, made: Made, tmp_path: Path) -> None:
    piece = pieces(name)[-1]
    path = made.folder / PUBLISHED[name].base / piece.name
    right = path.read_bytes()
    path.write_bytes(b"a page that asks to log in")
    text = refused(name, tmp_path / "root", download=True)
    assert f"what {piece.url} sent is cut short, damaged or another file" in text
    assert piece.name not in {Path(path).name for path in left_in(tmp_path / "root")}
    assert not [path for path in left_in(tmp_path / "root") if path.endswith(".part")]
    path.write_bytes(right)
    check(read_published(name, tmp_path / "root"), made, tmp_path / "root")


def test_no_server(name: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(datasets.CIFAR100, "url", "http://127.0.0.1:1/cifar-100-python.tar.gz")
    monkeypatch.setattr(datasets.Flowers102, "_download_url_prefix", "http://127.0.0.1:1/")
    text = refused(name, tmp_path / "root", download=True)
    assert "refused" in text
    assert all(piece.url in text for piece in pieces(name))
    assert left_in(tmp_path / "root") == []
