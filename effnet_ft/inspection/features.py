"""Pooled features of a frozen pretrained network, from the store that training uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from effnet_ft.activations.store import ActivationStore, ComputeSettings, Overflow
from effnet_ft.data.sources.source import SPLITS, Sample
from effnet_ft.data.splits.split import Split
from effnet_ft.errors import MachineError
from effnet_ft.models.variants import STAGES
from effnet_ft.planning.devices import AUTOCAST, torch_device
from effnet_ft.planning.weights import WeightsChoice
from effnet_ft.recipe.plan import TrainerPlan
from effnet_ft.training.setup import build_model
from effnet_ft.utils.array_cache import ArrayCache


def pooled_features(
    weights: WeightsChoice, trainer: TrainerPlan, split: Split, samples: Sequence[Sample], cache: ArrayCache
) -> np.ndarray:
    """Return the pooled features of ``samples``, all of them in ``split``, float ``[N, F]``.

    They are stored: a later training of the same recipe and the next inspection find them.

    Raises:
        DataError: if an image cannot be read.
        MachineError: if the cache cannot be written.
        WeightsError: if the weights are not available.
    """
    model = build_model(weights.model, weights.image_size, weights.crop, split)
    settings = ComputeSettings(device=torch_device(trainer), autocast=AUTOCAST.get(trainer.precision))
    rows: dict[str, np.ndarray] = {}
    try:
        for part in (part for part in SPLITS if split.part(part)):
            try:
                features = ActivationStore(split, settings, cache).evaluated(model, part, STAGES)
            except Overflow:
                settings = replace(settings, dtype="float32")
                features = ActivationStore(split, settings, cache).evaluated(model, part, STAGES)
            assert features is not None, "no limit was set"
            rows.update((sample.path, row) for sample, row in zip(split.part(part), features, strict=True))
    except OSError as error:
        raise MachineError(
            f"cannot write to {cache.folder} ({error}): set EFFNET_FT_CACHE to a folder with free space"
        ) from error
    return np.stack([rows[sample.path] for sample in samples])
