"""Which weights a recipe means, and what a file's name or content tells of its training."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from effnet_ft.errors import WeightsError
from effnet_ft.models.creation import create_model
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.files import DESCRIPTION
from effnet_ft.models.weights.resolving import (
    default_family,
    families_of,
    family_of_name,
    is_url,
    resolve_weights,
    scratch_preprocessing,
    weights_named,
)
from effnet_ft.models.weights.table import FAMILIES, WEIGHTS, WeightsRecord, record_of_family
from effnet_ft.preprocessing import Preprocessing


def refused(variant: str, weights: str, family: str = "auto") -> str:
    with pytest.raises(WeightsError) as error:
        resolve_weights(variant, weights, family)
    return str(error.value)


# Names


@pytest.mark.parametrize("record", WEIGHTS.values(), ids=lambda record: record.name)
def test_published_names_tell_their_family(record: WeightsRecord) -> None:
    assert family_of_name(record.file) == record.family


# Names that others publish, or that carry another date and other digits than the table's.
TELLING = {
    "efficientnet-b0_3rdparty_8xb32_in1k_20300101-00000000.pth": "in1k",
    "efficientnet-b0_3rdparty_8xb32-aa_in1k_20300101-00000000.pth": "aa",
    "efficientnet-b0_3rdparty_8xb32-aa-advprop_in1k_20300101-00000000.pth": "advprop",
    "efficientnet-b0_8xb32-01norm_in1k.pth": "advprop",
    "tf_efficientnet_b0_ap-f262efe1.pth": "advprop",
    "tf_efficientnet_b3_aa-84b4657e.pth": "aa",
    "tf_efficientnet_b3.aa_in1k.safetensors": "aa",
    "tf_efficientnet_b8.ap_in1k.safetensors": "advprop",
    "tf_efficientnet_b5.in1k.safetensors": "in1k",
    "adv-efficientnet-b0-b64d5a18.pth": "advprop",
    "efficientnet_b0_rwightman-3dd342df.pth": "torchvision",
    "efficientnet_b5_lukemelas-b6417697.pth": "torchvision",
    "tf_efficientnet_lite0-0aa007d2.pth": "lite",
    "tf_efficientnet_lite3.in1k.safetensors": "lite",
    "efficientnet-lite4-00000000.pth": "lite",
}
SILENT = (
    "",
    "model.pth",
    "best_ap.pth",
    "b0_aa.pth",
    "lite0.pth",
    "efficientnet-b0-355c32eb.pth",
    "efficientnet-b0_3rdparty-ra-noisystudent_in1k_20221103-75cd08d3.pth",
    "efficientnet_b0-c27df63c.pth",
    "efficientnet_b1-533bc792.pth",  # timm's; torchvision's of the same beginning is in the table
    "efficientnet_b3_ra2-cf984f9c.pth",
    "efficientnetv2-s_3rdparty_in1k_20221220-f0eaff9d.pth",
    "tf_efficientnet_b0-0af12548.pth",
    "tf_efficientnet_b0_ns-c0e6a31c.pth",
    "tf_efficientnet_b0.ns_jft_in1k.safetensors",
    "tf_efficientnet_b5_ra-9a3e5369.pth",
    "tf_efficientnet_b0_apples.pth",
    "my_tf_efficientnet_b0_ap-f262efe1.pth",
)


@pytest.mark.parametrize(("name", "family"), TELLING.items())
def test_names_that_tell(name: str, family: str) -> None:
    assert family_of_name(name) == family


@pytest.mark.parametrize("name", SILENT)
def test_names_that_tell_nothing(name: str) -> None:
    assert family_of_name(name) == ""


@pytest.mark.parametrize("name", timm.list_pretrained(["*efficientnet_b?.*", "*efficientnet_lite?.*"]))
def test_no_name_of_timms_tells_another_normalisation_or_padding(name: str) -> None:
    published = timm.get_pretrained_cfg(name)
    for file in (f"{name}.safetensors", f"{name}.pth", published.url.rpartition("/")[2]):
        if family := FAMILIES.get(family_of_name(file)):
            # Lite's official 127 and 128 are rounded in timm.
            assert family.mean == pytest.approx([255 * value for value in published.mean], abs=0.6), file
            assert family.std == pytest.approx([255 * value for value in published.std], abs=0.6), file
            assert (family.padding == "same") == name.startswith("tf_"), file


# Families and words


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_default_can_be_had(variant: str) -> None:
    offered = [record.family for record in WEIGHTS.values() if record.variant == variant]
    assert families_of(variant) == offered
    for weights in [default_family(variant), "none", *offered]:
        record = resolve_weights(variant, weights)
        assert record is None if weights == "none" else record is WEIGHTS[f"{variant}/{weights}"]
    with nullcontext() if offered else pytest.raises(WeightsError):
        resolve_weights(variant, "auto")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_default_has_the_best_top1(variant: str) -> None:
    published = {record.top1: record.family for record in WEIGHTS.values() if record.variant == variant}
    assert default_family(variant) == (published[max(published)] if published else "none")
    if published:
        assert resolve_weights(variant, "auto") is WEIGHTS[f"{variant}/{default_family(variant)}"]


def test_some_defaults() -> None:
    expected = {"b0": "torchvision", "b1": "torchvision-v2", "b5": "advprop", "b8": "advprop", "lite0": "lite"}
    assert {variant: default_family(variant) for variant in expected} == expected


def test_families_are_words_of_their_own() -> None:
    assert not {"auto", "none", "own", ""} & set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_may_be_said_twice_but_not_otherwise(family: str) -> None:
    variant = next(record.variant for record in WEIGHTS.values() if record.family == family)
    assert resolve_weights(variant, family, family) is WEIGHTS[f"{variant}/{family}"]
    other = next(name for name in FAMILIES if name != family)
    assert f"model.family is '{other}', but model.weights is '{family}': leave" in refused(variant, family, other)
    assert f"model.family is '{family}', but model.weights is 'none': leave" in refused(variant, "none", family)


def test_the_default_and_a_family_that_is_another() -> None:
    assert resolve_weights("b5", "auto", "advprop") is WEIGHTS["b5/advprop"]
    assert "model.family is 'aa', but model.weights is 'auto'" in refused("b5", "auto", "aa")


@pytest.mark.parametrize(
    ("variant", "weights", "expected"),
    [
        ("b0", "torchvison", f"URL nor one of auto, none, {', '.join(FAMILIES)}; did you mean 'torchvision'?"),
        ("b0", "xyz.pth", "'xyz.pth', which is neither a file nor a URL nor one of"),
        ("b0", "imagenet", "'imagenet', which is neither"),
        ("b0", "lite", "'lite', which has no b0; b0 has: in1k, aa, advprop, torchvision, a file, none"),
        ("b6", "in1k", "'in1k', which has no b6; b6 has: aa, advprop, torchvision, a file, none"),
        ("lite3", "lite", "'lite', which has no lite3; lite3 has: a file, none"),
        ("lite4", "auto", "there are no weights for lite4; give a file, none, or a variant"),
    ],
)
def test_faults(variant: str, weights: str, expected: str) -> None:
    fault = refused(variant, weights)
    assert fault.startswith("model.weights") and expected in fault
    with pytest.raises(WeightsError) as error:
        create_model(variant, weights)
    assert str(error.value) == fault


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert refused("b0", str(tmp_path)) == f"model.weights is '{tmp_path}', which is a folder: name a file in it"


@pytest.mark.parametrize("variant", VARIANTS)
def test_preprocessing_without_weights(variant: str) -> None:
    size = VARIANTS[variant].size
    assert scratch_preprocessing(variant) == Preprocessing(size, size + 32)


@pytest.mark.parametrize("record", WEIGHTS.values(), ids=lambda record: record.name)
def test_preprocessing_and_record_by_name(record: WeightsRecord) -> None:
    assert resolve_weights(record.variant, record.family) is record
    assert weights_named(record.name) is record
    assert weights_named(record.variant) is WEIGHTS[f"{record.variant}/{default_family(record.variant)}"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("b9/aa", "no weights are called 'b9/aa'; did you mean 'b"),
        ("aa", "no weights are called 'aa'"),
        ("", "no weights are called ''"),
        ("b8/aa", "there is no 'b8/aa'; b8 has: advprop"),
        ("lite3/lite", "there is no 'lite3/lite'; lite3 has: no weights"),
    ],
)
def test_names_of_no_record(name: str, expected: str) -> None:
    with pytest.raises(WeightsError) as error:
        weights_named(name)
    assert str(error.value).startswith(expected)


# Files and addresses


def write_foreign(file: Path) -> None:
    """Write weights that do not say how they were trained."""
    weights = {"weight": torch.zeros(1)}
    save_file(weights, file) if file.suffix == ".safetensors" else torch.save(weights, file)


@pytest.fixture(params=["path", "address"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder of files that say nothing themselves, or a server's address."""
    if request.param == "address":
        return "https://example.org/some/where"
    for name in [*TELLING, "mine.pth"]:
        write_foreign(tmp_path / name)
    return str(tmp_path)


@pytest.mark.parametrize(("name", "family"), TELLING.items())
def test_a_file_whose_name_tells(name: str, family: str, place: str) -> None:
    digit = next(character for character in name.split("efficientnet")[1] if character.isdigit())
    variant = f"{'lite' if 'lite' in name else 'b'}{digit}"
    record = resolve_weights(variant, f"{place}/{name}")
    like = WEIGHTS.get(f"{variant}/{family}") or record_of_family(variant, family, name, place)
    assert record == replace(like, file=name, address=place, layout="", top1=None, top5=None)
    assert resolve_weights(variant, f"{place}/{name}", family) == record
    other = next(word for word in FAMILIES if word != family)
    expected = f"model.family is '{other}', but the file's name says {family}: {name}"
    assert refused(variant, f"{place}/{name}", other) == expected


@pytest.mark.parametrize("variant", ["b0", "b5", "lite3"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_whose_family_is_said(variant: str, family: str, place: str) -> None:
    record = resolve_weights(variant, f"{place}/mine.pth", family)
    assert record is not None
    assert (record.name, record.file, record.address) == (f"{variant}/{family}", "mine.pth", place)
    assert (record.layout, record.top1, record.top5) == ("", None, None)
    numbers, view = FAMILIES[family], record.preprocessing
    assert (view.size, view.mean, view.std, view.crop) == (
        *(VARIANTS[variant].size, numbers.mean, numbers.std, numbers.crop),
    )
    # torchvision's own B5 to B7 are ported from TensorFlow, with its epsilon.
    ported = (variant, family) == ("b5", "torchvision")
    assert (record.padding, record.norm_eps) == (numbers.padding, 1e-3 if ported else numbers.norm_eps)


def test_a_file_that_tells_nothing_is_asked_about(tmp_path: Path) -> None:
    write_foreign(tmp_path / "mine.pth")
    for weights in (str(tmp_path / "mine.pth"), "https://example.org/mine.pth"):
        text = refused("b0", weights)
        assert text.startswith(f"model.weights is '{weights}': neither its name nor its content says")
        assert "model.family=..." in text
        assert [line.split(":")[0] for line in text.splitlines()[1:]] == [f"  - {name}" for name in FAMILIES]
        assert "advprop: with AutoAugment and AdvProp; mean 127.5, std 127.5 of red, same padding" in text


@pytest.mark.parametrize("family", ["advprob", "none", "own"])
def test_a_family_that_there_is_not(family: str, place: str) -> None:
    text = refused("b0", f"{place}/mine.pth", family)
    assert f"model.family is '{family}'" in text
    assert all(name in text for name in FAMILIES)


@pytest.mark.parametrize("name", ["b1/torchvision", "b1/advprop", "lite0/lite"])
def test_a_published_file_of_another_variant(name: str, place: str, tmp_path: Path) -> None:
    record = WEIGHTS[name]
    write_foreign(tmp_path / record.file)
    text = refused("b0", f"{place}/{record.file}")
    assert f"{place}/{record.file} holds weights of {record.variant}, the model is b0" in text
    assert f"model.variant={record.variant}" in text


@pytest.mark.parametrize("query", ["?download=true", "?path=a/b.pth"])
def test_an_address_with_a_query(query: str) -> None:
    address = f"https://example.org/some/tf_efficientnet_b0_ap-f262efe1.pth{query}"
    record = resolve_weights("b0", address)
    assert record is not None
    assert record.family == "advprop"
    assert f"{record.address}/{record.file}" == address and record.address == "https://example.org/some"


@pytest.mark.parametrize("name", ["b0/in1k", "b1/torchvision-v2", "lite0/lite"])
def test_a_published_file_elsewhere(name: str, place: str, tmp_path: Path) -> None:
    record = WEIGHTS[name]
    write_foreign(tmp_path / record.file)
    assert resolve_weights(record.variant, f"{place}/{record.file}") == replace(record, address=place)


def test_a_file_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_foreign(tmp_path / "mine.pth")
    record = resolve_weights("b0", "~/mine.pth", "aa")
    assert record is not None
    assert Path(record.address).expanduser() == tmp_path


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("http://a/b.pth", True), ("https://a/b.pth", True), ("a/https://b.pth", False), ("C:/b.pth", False), ("", False)],
)
def test_addresses(weights: str, expected: bool) -> None:
    assert is_url(weights) is expected


# Files of this project's own

VIEW = Preprocessing(96, 100, "bilinear", "openmmlab", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
OWN = {
    "variant": "lite0",
    "classes": ["a", "b"],
    "preprocessing": VIEW.to_dict(),
    "head": "mlp",
    "padding": "symmetric",
    "norm_eps": 1e-5,
}


@pytest.mark.parametrize("home", [False, True])
@pytest.mark.parametrize("name", ["mine.pth", "efficientnet-lite0-flowers.pth"])
def test_a_file_that_says_itself(name: str, home: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({"state_dict": {"weight": torch.zeros(1)}, DESCRIPTION: OWN}, tmp_path / name)
    weights = f"{'~' if home else tmp_path}/{name}"
    record = resolve_weights("lite0", weights)
    assert record is not None
    assert (record.variant, record.family, record.file) == ("lite0", "own", name)
    assert Path(record.address).expanduser() == tmp_path
    assert (record.padding, record.norm_eps, record.preprocessing) == ("symmetric", 1e-5, VIEW)
    assert f"{name} holds weights of lite0, the model is b0: use model.variant=lite0" in refused("b0", weights)
