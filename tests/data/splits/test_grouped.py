"""Groups stay whole, classes come near to their shares, and none is lost to training."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnet_ft.data.sources.source import Sample, Source, labels_of
from effnet_ft.data.splits.grouped import hold_out_groups
from effnet_ft.data.splits.split import make_split
from effnet_ft.errors import DataError


def source_of(samples: list[Sample], multilabel: bool = False) -> Source:
    classes = {name for sample in samples for name in labels_of(sample, multilabel)}
    return Source(Path("root"), tuple(sorted(classes)), {"all": samples}, multilabel=multilabel)


@st.composite
def grouped_samples(draw: st.DrawFn) -> list[Sample]:
    labels = draw(st.lists(st.sampled_from(["a", "b", "c", "a|b", ""]), min_size=6, max_size=60))
    groups = draw(st.lists(st.sampled_from(["", *"pqrstuvw"]), min_size=len(labels), max_size=len(labels)))
    return [Sample(f"{n}.jpg", label, group) for n, (label, group) in enumerate(zip(labels, groups, strict=True))]


@settings(deadline=None, max_examples=200)
@given(
    samples=grouped_samples(),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 9),
    kept=st.integers(1, 2),
    multilabel=st.booleans(),
)
def test_no_group_is_divided_and_no_class_lost(
    samples: list[Sample], fraction: float, seed: int, kept: int, multilabel: bool
) -> None:
    try:
        left, taken = hold_out_groups(samples, fraction, (seed,), kept, multilabel)
    except DataError:
        groups: dict[str, set[str]] = {}
        for sample in samples:
            groups.setdefault(sample.group or sample.path, set()).update(labels_of(sample, multilabel))
        standing = Counter(name for names in groups.values() for name in names if name)
        named = [names - {""} for names in groups.values() if names - {""}]
        stuck = all(any(standing[name] <= kept for name in names) for names in named)
        assert len(groups) <= kept or stuck, "it could have been divided"
        return
    assert taken and left and Counter([*left, *taken]) == Counter(samples)
    assert not {s.group for s in left} & {s.group for s in taken} - {""}
    names = [{n for s in part for n in labels_of(s, multilabel) if n} for part in (samples, left)]
    assert names[0] == names[1], "a class is lost to training"


def test_groups_are_divided_each_class_near_its_share() -> None:
    random = np.random.default_rng(0)
    samples = [
        Sample(f"{group}-{n}.jpg", "abc"[int(random.integers(3)) if group % 5 else 0], str(group))
        for group in range(120)
        for n in range(int(random.integers(1, 12)))
    ]
    split = make_split(source_of(samples), val_fraction=0.2, test_fraction=0.1, seed=3)
    whole = Counter(sample.label for sample in samples)
    for part, fraction in (("val", 0.2), ("test", 0.1)):
        counts = Counter(sample.label for sample in split.part(part))
        for name, count in whole.items():
            assert counts[name] == pytest.approx(fraction * count, abs=0.02 * count)
    assert split == make_split(source_of(samples), val_fraction=0.2, test_fraction=0.1, seed=3)
    assert split != make_split(source_of(samples), val_fraction=0.2, test_fraction=0.1, seed=4)


def test_too_few_groups_are_told() -> None:
    one = [Sample(f"{n}.jpg", "ab"[n % 2], "p1") for n in range(20)]
    with pytest.raises(DataError, match="of 1 group, at least 3 are needed"):
        make_split(source_of(one), val_fraction=0.2, test_fraction=0.2, seed=0)
    own = [Sample(f"{n}.jpg", "abcd"[n % 4], "pqrs"[n % 4]) for n in range(20)]
    with pytest.raises(DataError, match="no group can be held out: each of the 4 groups holds images of a class"):
        make_split(source_of(own), val_fraction=0.2, test_fraction=0.2, seed=0)


def test_a_class_of_a_single_group_is_trained_on_and_told(caplog: pytest.LogCaptureFixture) -> None:
    samples = [Sample(f"{n}.jpg", "ab"[n % 2], f"p{n % 9}") for n in range(90)]
    samples += [Sample(f"c{n}.jpg", "c", "alone") for n in range(9)]
    with caplog.at_level(logging.WARNING):
        split = make_split(source_of(samples), val_fraction=0.2, test_fraction=0.2, seed=0)
    assert {sample.label for sample in split.train} == {"a", "b", "c"}
    told = [record.getMessage() for record in caplog.records]
    words = "without an image in the {} split, so not measured there"
    assert told == [f"1 class {words.format(part)}\n  c" for part in ("val", "test")]
