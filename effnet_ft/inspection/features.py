"""What a frozen pretrained network makes of the images, from the store that a training takes it from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from effnet_ft.activations.store import ActivationStore, ComputeSettings, Overflow
from effnet_ft.data.sources.source import SPLITS, Sample
from effnet_ft.data.splits.split import Split
from effnet_ft.errors import MachineError
from effnet_ft.models.variants import STAGES
from effnet_ft.planning.devices import AUTOCAST, plan_trainer, torch_device
from effnet_ft.planning.facts import machine_facts
from effnet_ft.planning.weights import choose_weights
from effnet_ft.recipe import Recipe
from effnet_ft.training.setup import build_model
from effnet_ft.utils.array_cache import ArrayCache


def pooled_features(recipe: Recipe, split: Split, samples: Sequence[Sample], cache: ArrayCache) -> np.ndarray:
    """Return the pooled features of ``samples``, all of them in ``split``, float ``[N, F]``.

    Computed once, part by part: a training of the same recipe finds them, and so does the next inspection.

    Raises:
        DataError: where an image cannot be read.
        MachineError: where the cache cannot be written.
        WeightsError: where the weights cannot be had.
    """
    trainer, _ = plan_trainer(recipe.trainer, machine_facts(cache))
    weights = choose_weights(recipe.model, recipe.data)
    model = build_model(weights.model, weights.image_size, weights.crop, split)
    settings = ComputeSettings(device=torch_device(trainer), autocast=AUTOCAST.get(trainer.precision))
    rows: dict[str, np.ndarray] = {}
    try:
        for part in (part for part in SPLITS if split.part(part)):
            try:
                found = ActivationStore(split, settings, cache).evaluated(model, part, STAGES)
            except Overflow:
                settings = replace(settings, dtype="float32")
                found = ActivationStore(split, settings, cache).evaluated(model, part, STAGES)
            assert found is not None, "no limit was set"
            rows.update((sample.path, row) for sample, row in zip(split.part(part), found, strict=True))
    except OSError as error:
        raise MachineError(
            f"cannot write to {cache.folder} ({error}): let EFFNET_FT_CACHE name a folder that has room"
        ) from error
    return np.stack([rows[sample.path] for sample in samples])
