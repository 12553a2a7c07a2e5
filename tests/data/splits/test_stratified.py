"""Images are held out at random, each class and label near its share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnet_ft.data.sources.source import SPLITS, Sample, Source
from effnet_ft.data.splits.split import make_split
from effnet_ft.data.splits.stratified import hold_out, hold_out_multilabel


def test_images_are_taken_at_random_and_keep_their_order() -> None:
    samples = [Sample(f"{number}.jpg", "a") for number in range(1000)]
    left, taken = hold_out(samples, 0.2, (0,), min_remaining=1)
    numbers = [samples.index(sample) for sample in taken]
    assert numbers == sorted(numbers) and left == [sample for sample in samples if sample not in set(taken)]
    assert np.std(numbers) == pytest.approx(1000 / 12**0.5, rel=0.2), "spread over the class, not a run of it"


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), fraction=st.floats(0.1, 0.4))
def test_labels_are_divided_each_near_its_share(seed: int, fraction: float) -> None:
    random = np.random.default_rng(seed)
    rates = {"often": 0.5, "sometimes": 0.2, "seldom": 0.03}
    labels = ["|".join(sorted(name for name, rate in rates.items() if random.random() < rate)) for _ in range(400)]
    samples = [Sample(f"{number}.jpg", label) for number, label in enumerate(labels)]
    left, taken = hold_out_multilabel(samples, fraction, (seed,), 1)
    assert Counter([*left, *taken]) == Counter(samples)
    assert len(taken) == pytest.approx(400 * fraction, abs=25)
    for name in rates:
        count, held = (sum(name in sample.label.split("|") for sample in part) for part in (samples, taken))
        assert held == pytest.approx(fraction * count, abs=max(2, 0.05 * count))
        assert held >= (count > 1)


def test_of_three_images_of_a_label_each_part_gets_one() -> None:
    samples = [Sample(f"{n}.jpg", "a|b" if n < 3 else "a") for n in range(60)]
    source = Source(Path("root"), ("a", "b"), {"all": samples}, multilabel=True)
    split = make_split(source, val_fraction=0.15, test_fraction=0.15, seed=0)
    assert [sum(sample.label == "a|b" for sample in split.part(part)) for part in SPLITS] == [1, 1, 1]
