"""Where a phase's batches come from: stored activations where its prefix is frozen and they fit, images otherwise."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.activations.store import ActivationStore, ComputeSettings, Overflow
from effnet_ft.data.datamodule import ImageDataModule
from effnet_ft.data.images.decoded_store import DecodedImages, decoded_for_evaluation, decoded_for_training
from effnet_ft.data.images.views import Views
from effnet_ft.data.splits.split import Split
from effnet_ft.distributed import collectives
from effnet_ft.distributed.collectives import NodeGroup
from effnet_ft.errors import DataError
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.variants import STAGES
from effnet_ft.planning.phases import PhasePlan
from effnet_ft.recipe import Recipe
from effnet_ft.training.trainer import AUTOCAST
from effnet_ft.utils.array_cache import ArrayCache, half_of_free_memory

log = logging.getLogger(__name__)


class PhaseDataSource:
    """Gives each phase its batches.

    Args:
        recipe: resolved, for this machine too.
        split: the images.
        plans: all phases.
    """

    def __init__(self, recipe: Recipe, split: Split, plans: Sequence[PhasePlan]) -> None:
        self.recipe = recipe
        self.split = split
        self.plans = plans
        self.cache = ArrayCache()
        self.choices: dict[str, Any] = {"dtype": recipe.store.dtype, "kept": [], "stored": {}}
        """What was decided on the way, as plain values for checkpoints: a resumed run decides nothing otherwise."""
        self._held: tuple[object, tuple[DecodedImages, DecodedImages | None]] | None = None
        store = recipe.store
        settings = ComputeSettings(
            views=store.views,
            max_bytes=self._limit(),
            dtype=store.dtype,
            autocast=AUTOCAST.get(recipe.trainer.precision),
        )
        self.store = ActivationStore(split, settings, self.cache) if store.mode == "keep" else None

    def load_choices(self, choices: Mapping[str, Any]) -> None:
        """Keep to what an interrupted run decided."""
        self.choices.update(choices)
        if self.store is not None:
            self.store.settings = replace(self.store.settings, dtype=self.choices["dtype"])

    def data(self, plan: PhasePlan, model: Classifier, device: torch.device) -> ImageDataModule | ActivationDataModule:
        """Return the batches of ``plan``; a :class:`ActivationDataModule` holds what the prefix made of the images.

        Args:
            plan: the phase.
            model: as the phase begins with it.
            device: where a prefix is computed.

        Raises:
            DataError: where an image cannot be read, or a phase that was fed from the store cannot be any more.
        """
        if self.store is not None:
            self.store.settings = replace(self.store.settings, device=device)
        before = self.choices["stored"].get(plan.index)
        stored = None if before is False else self._stored(plan, model)
        if before and stored is None:
            raise DataError(
                f"phase {plan.index + 1} trained from stored activations before it was interrupted, which do not fit "
                f"now: make room on the disk of {self.cache.folder}"
            )
        self.choices["stored"][plan.index] = stored is not None
        return stored or ImageDataModule(
            self.split,
            model.preprocessing,
            batch_size=plan.data.batch_size,
            augment=plan.data.augment,
            **_rates(plan),
            balanced=plan.data.sampling == "balanced",
            workers=plan.data.workers,
            seed=(self.recipe.seed, plan.index),
            decoded=self._decoded(plan, model),
        )

    def answers(self, predictor: Predictor, plan: PhasePlan, part: str, batch_size: int) -> np.ndarray:
        """Return the logits of a part's images, ``[N, K]``, of a model of phase ``plan``.

        All processes call this together: each computes its part. The frozen stages are computed once for all runs,
        exactly as a prediction computes them, where the phase was fed from the store and their maps do not take too
        much.
        """
        share = collectives.rank_slice(len(self.split.part(part)))
        maps = self._maps(predictor, plan, part)
        if maps is None:
            images = [self.split.image(sample) for sample in self.split.part(part)]
            own = images[share.start : share.stop]
            rows = collectives.run_on_all_ranks(lambda: predictor.logits(own, batch_size, f"evaluating {part}"))
        else:
            rows = collectives.run_on_all_ranks(
                lambda: predictor.logits_from(maps[share.start : share.stop], plan.cut, batch_size)
            )
        return np.concatenate(collectives.all_gather(rows))

    def _maps(self, predictor: Predictor, plan: PhasePlan, part: str) -> np.ndarray | None:
        """Return what the frozen stages of phase ``plan`` make of a part's images, where they are kept."""
        if self.store is None or plan.cut not in self.choices["kept"]:
            return None
        settings = replace(self.store.settings, dtype="float32", autocast=None, device=predictor.device)
        store = ActivationStore(self.split, replace(settings, max_bytes=self._limit()), self.cache)
        try:
            return store.evaluated(predictor.model, part, plan.cut)
        except (OSError, Overflow):
            return None

    def _decoded(self, plan: PhasePlan, model: Classifier) -> tuple[DecodedImages | None, DecodedImages | None]:
        """Return the training and the validation images decoded, where they fit and are read more than once."""
        if self.recipe.data.decoded == "off" or plan.epochs < 2:
            return None, None
        places = {"auto": (self.cache, None), "disk": (self.cache,), "memory": (None,)}[self.recipe.data.decoded]
        view, root = model.preprocessing, self.split.root
        wanted = (plan.data.augment == "none", view)
        if self._held and self._held[0] == wanted:
            return self._held[1]
        self._held = None  # before others are made room for
        for cache in places:
            room, where = (self._memory, "memory") if cache is None else (self._limit, str(cache.folder))
            try:
                if plan.data.augment == "none":
                    train = decoded_for_evaluation(root, self.split.train, view, cache, room())
                else:
                    train = decoded_for_training(root, self.split.train, view.size, cache, room())
                if train is None:
                    reason = f"would take more than {room() / 1e9:.1f} GB in {where}"
                    continue
                val = decoded_for_evaluation(root, self.split.val, view, cache, room())
            except OSError as error:
                reason = f"cannot be written to {where} ({error})"
                continue
            log.info("decoded: %d training images, %.2f GB in %s", len(train), train.pixels.nbytes / 1e9, where)
            self._held = (wanted, (train, val))
            return train, val
        log.warning("decoded images %s: files are decoded again in every epoch", reason)
        return None, None

    def _memory(self) -> int:
        """Return what may be kept in memory, bytes; each process of a node keeps its own."""
        return min(collectives.all_gather(half_of_free_memory() // len(NodeGroup.at(self.cache.folder).ranks)))

    def _limit(self) -> int:
        """Return what may be kept in all, bytes: half of the disk's free space where nothing is set.

        Of several processes, whose disks may differ, the least: they must keep the same arrays.
        """
        given = self.recipe.store.max_gb
        return min(collectives.all_gather(self.cache.half_of_free_disk() if given is None else int(given * 1e9)))

    def _stored(self, plan: PhasePlan, model: Classifier) -> ActivationDataModule | None:
        if self.store is None or plan.cut == 0:
            return None
        if plan.data.mixup or plan.data.cutmix:
            log.info("store: not for images that are mixed (data.mixup, data.cutmix): they are read in every epoch")
            return None
        together = self._together(plan)
        if not any(
            self._worth(earlier) and plan in self._together(earlier) for earlier in self.plans[: plan.index + 1]
        ):
            return None  # nothing would be read twice
        count = min(self.store.settings.views, max(other.epochs for other in together))
        views = Views(model.preprocessing, plan.data.augment, count, (self.recipe.seed,), **_rates(plan))
        cuts = sorted({other.cut for other in together})
        limit = self._limit()
        while cuts and self.store.size(model, views, cuts) > limit:
            cuts.remove(min(cuts))  # the earlier the cut, the larger the maps
        if plan.cut not in cuts:
            need = self.store.size(model, views, [plan.cut])
            log.info(
                "store: %s would take %.1f GB, more than the %.1f GB allowed (store.max_gb): images are read again "
                "in every epoch",
                *(_name(plan.cut), need / 1e9, limit / 1e9),
            )
            return None
        images = f"{len(self.split.train)} x {len(views)} + {len(self.split.val)} views"
        where = " and ".join(_name(cut) for cut in cuts)
        size = self.store.size(model, views, cuts)
        log.info("store: %s at %s, %.2f GB in %s", images, where, size / 1e9, self.store.cache.folder)
        try:
            arrays = self.store.arrays(model, views, cuts)
        except OSError as error:
            log.warning("store: cannot be written (%s): images are read again in every epoch", error)
            return None
        except Overflow:
            if self.store.settings.dtype == "float32":
                log.warning("store: values are infinite or no numbers: images are read again in every epoch")
                return None
            log.warning("store: values too large for %s: kept as float32", self.store.settings.dtype)
            self.choices["dtype"] = "float32"
            self.store.settings = replace(self.store.settings, dtype="float32")
            return self._stored(plan, model)
        self.choices["kept"] = sorted({*self.choices["kept"], *cuts})
        labels = (self.split.labels(self.split.train), self.split.labels(self.split.val))
        train, val = arrays[plan.cut]
        seed = (self.recipe.seed, plan.index)
        balanced = plan.data.sampling == "balanced"
        return ActivationDataModule(
            train, val, labels, views, batch_size=plan.data.batch_size, balanced=balanced, seed=seed
        )

    def _worth(self, plan: PhasePlan) -> bool:
        """Return whether what is kept for ``plan`` is read twice."""
        mixed = plan.data.mixup or plan.data.cutmix
        return plan.cut > 0 and not mixed and sum(other.epochs for other in self._together(plan)) >= 2

    def _together(self, plan: PhasePlan) -> list[PhasePlan]:
        """Return ``plan`` and the later phases whose prefix holds still until they come, on the same views."""
        together, lowest = [plan], plan.cut
        for later in self.plans[plan.index + 1 :]:
            if 0 < later.cut <= lowest and _pixels(later) == _pixels(plan):
                together.append(later)
            lowest = min(lowest, later.cut)
        return together


def _pixels(plan: PhasePlan) -> tuple[object, ...]:
    """Return what decides the pixels that a phase sees, but for the order of the epochs."""
    data = plan.data
    return data.augment, _rates(plan), data.mixup, data.cutmix, data.image_size


def _rates(plan: PhasePlan) -> dict[str, float]:
    """Return what augmentation is told beside its name."""
    data = plan.data
    return {"erasing": data.erasing, "cutout": data.cutout, "smallest_crop": data.smallest_crop}


def _name(cut: int) -> str:
    return "the features" if cut == STAGES else f"stage{cut}"
