"""The drawn demo set: repeatable, complete, never in the way of the user's files, and not solvable by colour."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from effnet_ft.data import demo_flowers


def files_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("species", demo_flowers.SPECIES)
def test_equal_generators_draw_equal_pictures(species: str) -> None:
    first, again, other = (demo_flowers.draw_flower(species, np.random.default_rng(seed), 96) for seed in (1, 1, 2))
    assert first.shape == (96, 96, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_set_has_one_folder_of_numbered_pictures_per_species(tmp_path: Path) -> None:
    root = tmp_path / "new" / "flowers"
    root.mkdir(parents=True)  # an empty folder is filled
    assert demo_flowers.draw_flowers(root, per_class=2, size=48) == root
    assert sorted(files_of(root)) == sorted(f"{name}/{i:03d}.jpg" for name in demo_flowers.SPECIES for i in range(2))
    assert all(cv2.imread(str(path)).shape == (48, 48, 3) for path in root.rglob("*.jpg"))
    assert list(root.parent.iterdir()) == [root], "scratch folders must not stay behind"


def test_a_picture_depends_only_on_seed_species_and_number(tmp_path: Path) -> None:
    whole = files_of(demo_flowers.draw_flowers(tmp_path / "whole", per_class=2, size=32, seed=5))
    part = files_of(
        demo_flowers.draw_flowers(tmp_path / "part", per_class=1, size=32, seed=5, species=["rose", "daisy"])
    )
    other = files_of(demo_flowers.draw_flowers(tmp_path / "other", per_class=1, size=32, seed=6, species=["rose"]))
    assert len(part) == 2
    assert part.items() <= whole.items()
    assert other["rose/000.jpg"] != whole["rose/000.jpg"]


def test_a_folder_that_holds_anything_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert demo_flowers.draw_flowers(tmp_path, per_class=1, size=32) == tmp_path
    assert files_of(tmp_path) == {"notes.txt": b"mine"}


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the pen broke")

    monkeypatch.setattr(demo_flowers, "draw_flower", fail)
    with pytest.raises(RuntimeError, match="the pen broke"):
        demo_flowers.draw_flowers(tmp_path / "flowers")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_species_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'triffid'.*daisy, lavender, .*tulip"):
        demo_flowers.draw_flower("triffid", np.random.default_rng(0))
    with pytest.raises(ValueError, match="'triffid'"):
        demo_flowers.draw_flowers(tmp_path / "flowers", species=["rose", "triffid"])
    assert list(tmp_path.iterdir()) == []


def test_senseless_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size"):
        demo_flowers.draw_flower("rose", np.random.default_rng(0), size=0)
    with pytest.raises(ValueError, match="per_class"):
        demo_flowers.draw_flowers(tmp_path / "flowers", per_class=0)


def test_colour_does_not_give_the_species_away() -> None:
    """A nearest neighbour in colour histograms must do badly, or the demo would teach nothing about shape."""
    per_class, train = 20, 14
    histograms = np.array(
        [
            np.bincount(
                (demo_flowers.draw_flower(name, np.random.default_rng([0, k, i]), 96) >> 5).reshape(-1, 3) @ [64, 8, 1],
                minlength=512,
            )
            for k, name in enumerate(demo_flowers.SPECIES)
            for i in range(per_class)
        ]
    ).reshape(len(demo_flowers.SPECIES), per_class, 512)
    known, asked = histograms[:, :train].reshape(-1, 512), histograms[:, train:].reshape(-1, 512)
    nearest = np.abs(asked[:, None] - known[None]).sum(2).argmin(1) // train
    truth = np.repeat(np.arange(len(demo_flowers.SPECIES)), per_class - train)
    assert (nearest == truth).mean() < 0.6
