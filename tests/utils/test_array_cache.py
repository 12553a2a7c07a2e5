"""An array is stored completely or not at all, whatever happens to the process, the disk or the file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from effnet_ft.utils.array_cache import FOLDER_VARIABLE, ArrayCache, _process, cache_folder


@pytest.fixture
def cache(tmp_path: Path) -> ArrayCache:
    return ArrayCache(tmp_path / "deep" / "cache")


def store(cache: ArrayCache, key: str, values: np.ndarray, used: float | None = None) -> None:
    with cache.create(key, values.shape, values.dtype, f"about {key}") as array:
        array[:] = values
    if used is not None:
        os.utime(cache.folder / f"{key}.npy", (used, used))


def names(cache: ArrayCache) -> set[str]:
    return {path.name for path in cache.folder.iterdir() if not path.name.endswith(".lock")}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
@pytest.mark.parametrize("shape", [(3,), (2, 5), (4, 3, 3, 7)])
def test_a_stored_array_is_read_back(shape: tuple[int, ...], dtype: type, cache: ArrayCache) -> None:
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    assert cache.open("key") is None
    store(cache, "key", values)
    again = ArrayCache(cache.folder).open("key")
    assert again is not None and again.dtype == dtype and np.array_equal(again, values)
    assert not again.flags.writeable, "a reader must not change the stored array"
    assert names(cache) == {"key.npy", "key.json"}


def test_a_key_can_be_overwritten(cache: ArrayCache) -> None:
    store(cache, "key", np.arange(5))
    store(cache, "key", np.arange(9) + 1)
    assert np.array_equal(cache.open("key"), np.arange(9) + 1)


def cut_short(array: Path, metadata: Path) -> None:
    os.truncate(array, array.stat().st_size - 1)


def emptied(array: Path, metadata: Path) -> None:
    array.write_bytes(b"")


def flipped_byte(array: Path, metadata: Path) -> None:
    content = bytearray(array.read_bytes())
    content[-2] ^= 1
    array.write_bytes(content)


def flipped_header(array: Path, metadata: Path) -> None:
    content = bytearray(array.read_bytes())
    content[0] ^= 1
    array.write_bytes(content)


def without_metadata(array: Path, metadata: Path) -> None:
    metadata.unlink()


DAMAGED_METADATA = {
    "cut metadata": '{"about": "x", "crc',
    "empty metadata": "",
    "metadata without checksum": '{"about": "x"}',
    "metadata of zeros": "\0" * 40,
    "metadata of another kind": "[1]",
    "metadata that is null": "null",
    "wrong checksum": '{"about": "x", "crc32": 1}',
}
DAMAGES = {
    **{damage.__name__: damage for damage in (cut_short, emptied, flipped_byte, flipped_header, without_metadata)},
    **{name: lambda array, metadata, text=text: metadata.write_text(text) for name, text in DAMAGED_METADATA.items()},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_only_damaged_arrays_are_removed(damage: str, cache: ArrayCache) -> None:
    store(cache, "bad", np.arange(1000.0))
    store(cache, "good", np.arange(10.0))
    DAMAGES[damage](cache.folder / "bad.npy", cache.folder / "bad.json")
    assert "good" in [entry.key for entry in cache.entries()], "a damaged array hides no other"
    assert cache.open("bad") is None
    assert names(cache) == {"good.npy", "good.json"}
    store(cache, "bad", np.arange(3.0))
    assert np.array_equal(cache.open("bad"), np.arange(3.0))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError, MemoryError])
def test_an_interrupted_block_leaves_no_file(interruption: type[BaseException], cache: ArrayCache) -> None:
    def fill() -> None:
        with cache.create("key", (4,), np.float32, "") as array:
            array[:2] = 1
            raise interruption

    with pytest.raises(interruption):
        fill()
    assert names(cache) == set()
    assert cache.open("key") is None


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve disk space")
def test_a_full_disk_is_an_error_and_leaves_no_file(cache: ArrayCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"), cache.create("key", (4,), np.float32, ""):
        pytest.fail("the block must not be entered")
    assert names(cache) == set()


def test_two_writers_of_one_key_do_not_take_each_others_file(cache: ArrayCache) -> None:
    """Runs that share only some of their arrays hold different locks, and may write one key at once."""
    values = np.arange(100_000.0)
    with cache.create("key", values.shape, values.dtype, "") as first:
        first[:50_000] = values[:50_000]
        store(cache, "key", values)
        first[50_000:] = values[50_000:]
    assert np.array_equal(cache.open("key"), values)
    assert names(cache) == {"key.npy", "key.json"}


def test_entries_come_oldest_first_and_reading_makes_them_new(cache: ArrayCache) -> None:
    assert cache.entries() == []
    for key, used in (("b", 30.0), ("c", 10.0), ("a", 20.0)):
        store(cache, key, np.zeros(10), used)
    found = cache.entries()
    assert [(entry.key, entry.about, entry.used) for entry in found] == [
        ("c", "about c", 10.0),
        ("a", "about a", 20.0),
        ("b", "about b", 30.0),
    ]
    assert {entry.size for entry in found} == {(cache.folder / "a.npy").stat().st_size}
    cache.open("c")
    assert [entry.key for entry in cache.entries()] == ["a", "b", "c"]


SIZE = 128 + 80
"""Of ten float64 in a file."""


@pytest.mark.parametrize(
    ("limit", "keep", "remaining"),
    [
        (4 * SIZE, "", "abcd"),
        (4 * SIZE - 1, "", "bcd"),
        (2 * SIZE, "", "cd"),
        (2 * SIZE, "a", "ad"),
        (2 * SIZE, "abc", "abc"),
        (0, "", ""),
        (-5, "b", "b"),
    ],
)
def test_the_least_recently_used_are_evicted(limit: int, keep: str, remaining: str, cache: ArrayCache) -> None:
    for used, key in enumerate("abcd"):
        store(cache, key, np.zeros(10), float(used))
    cache.evict(limit, set(keep))
    assert names(cache) == {f"{key}.{ending}" for key in remaining for ending in ("npy", "json")}


def test_clearing_removes_leftovers_too_and_nothing_of_others(cache: ArrayCache) -> None:
    cache.clear()
    store(cache, "key", np.zeros(3))
    with cache.lock("key"):
        pass
    (cache.folder / "killed.npy.part").write_bytes(b"half")
    (cache.folder / "lonely.json").write_text("{}")
    (cache.folder / "notes.txt").write_text("mine")
    cache.clear()
    assert [path.name for path in cache.folder.iterdir()] == ["notes.txt"]


BUILD = """
import sys, time
from pathlib import Path
import numpy as np
from effnet_ft.utils.array_cache import ArrayCache

cache = ArrayCache()
print("ready", flush=True)
sys.stdin.readline()
with cache.lock("key"):
    if cache.open("key") is None:
        with cache.create("key", (5,), np.float32, "") as array:
            time.sleep(0.2)
            array[:] = 3
        print("built")
assert cache.open("key").tolist() == [3] * 5
"""


def test_one_of_two_processes_builds_and_the_other_waits(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, FOLDER_VARIABLE: str(tmp_path)}
    processes = [subprocess.Popen([sys.executable, "-c", BUILD], env=environment, **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(printed) == ["", "built\n"]


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("/a/b", "/x", "/a/b"),
        ("~/arrays", None, "/home/me/arrays"),
        (None, "/x", "/x/effnet_ft"),
        ("", "/x", "/x/effnet_ft"),
        (None, None, "/home/me/.cache/effnet_ft"),
        (None, "", "/home/me/.cache/effnet_ft"),  # the XDG specification: empty counts as not set
    ],
)
def test_the_folder_is_named_by_the_environment(
    own: str | None, xdg: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in ((FOLDER_VARIABLE, own), ("XDG_CACHE_HOME", xdg)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert ArrayCache().folder == cache_folder() == Path(expected)


def test_partial_files_of_killed_processes_are_removed(cache: ArrayCache) -> None:
    script = (
        "import os, sys; sys.path.insert(0, '.'); from effnet_ft.utils.array_cache import _process; print(_process())"
    )
    dead, alive = (subprocess.check_output([sys.executable, "-c", script], text=True).strip(), _process())
    cache.folder.mkdir(parents=True)
    for owner in (dead, alive, "0123abcd-1"):  # the last one is another machine's
        (cache.folder / f"other.{owner}.00.npy.part").write_bytes(b"half")
    store(cache, "key", np.arange(3))
    assert {name for name in names(cache) if name.endswith(".part")} == {
        f"other.{alive}.00.npy.part",
        "other.0123abcd-1.00.npy.part",
    }
