"""The batches of each phase, from where the plan says; where that fails on the way, the plan is revised."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

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
from effnet_ft.planning.devices import AUTOCAST
from effnet_ft.planning.sources import choose_sources, cut_name, image_source
from effnet_ft.recipe.plan import BatchSource, PhasePlan, Plan
from effnet_ft.runs.plan_file import PlanFile
from effnet_ft.utils.array_cache import ArrayCache, half_of_free_memory

log = logging.getLogger(__name__)


class PhaseData:
    """Gives each phase its batches.

    Args:
        plan: of the run; revised where its sources fail.
        split: the images.
    """

    def __init__(self, plan: PlanFile, split: Split) -> None:
        self.plan = plan
        self.split = split
        self.cache = ArrayCache()
        self._decoded: tuple[object, tuple[DecodedImages, DecodedImages | None]] | None = None
        """The decoded images of the last phase that read some, and what they depend on: the next may take the same."""

    def data_module(
        self, index: int, model: Classifier, device: torch.device, resumed: bool = False
    ) -> ImageDataModule | ActivationDataModule:
        """Return the batches of a phase.

        Args:
            index: of the phase.
            model: as the phase begins with it.
            device: where a prefix is computed.
            resumed: the phase goes on within, and must read what it read before.

        Raises:
            DataError: where an image cannot be read, or stored activations of a resumed phase cannot be kept any more.
        """
        if self.plan.phase(index).source.kind == "stored":
            stored = self._stored(index, model, device)
            if stored is not None:
                return stored
            if resumed:
                raise DataError(
                    f"phase {index + 1} trained from stored activations before it was interrupted, which do not fit "
                    f"now: make room on the disk of {self.cache.folder}"
                )
        phase, plan = self.plan.phase(index), self.plan.plan
        decoded = self._decoded_images(phase, model) if phase.source.kind == "decoded" else (None, None)
        return ImageDataModule(
            self.split,
            model.preprocessing,
            batch_size=phase.batch_size,
            augment=phase.augmentation.name,
            **phase.augmentation.rates,
            balanced=phase.balanced,
            workers=plan.data.workers,
            seed=(plan.seed, index),
            decoded=decoded,
        )

    def logits(self, predictor: Predictor, index: int, part: str, batch_size: int) -> np.ndarray:
        """Return the logits of a part's images, ``[N, K]``, by a model of the phase with ``index``.

        All processes call this together: each computes its part. Where the phase reads the store, what the frozen
        stages make of the images is kept too, computed exactly as a prediction computes it.
        """
        shard = collectives.rank_slice(len(self.split.part(part)))
        cut = self.plan.phase(index).cut
        maps = self._evaluated_maps(predictor, index, part)
        if maps is None:
            images = [self.split.image(sample) for sample in self.split.part(part)]
            own = images[shard.start : shard.stop]
            rows = collectives.run_on_all_ranks(lambda: predictor.logits(own, batch_size, f"evaluating {part}"))
        else:
            rows = collectives.run_on_all_ranks(
                lambda: predictor.logits_from(maps[shard.start : shard.stop], cut, batch_size)
            )
        return np.concatenate(collectives.all_gather(rows))

    def _evaluated_maps(self, predictor: Predictor, index: int, part: str) -> np.ndarray | None:
        """Return what the frozen stages make of a part's images, where the phase reads the store and there is room."""
        phase, store = self.plan.phase(index), self.plan.plan.store
        if phase.source.kind != "stored":
            return None
        settings = ComputeSettings(max_bytes=store.max_bytes, dtype="float32", device=predictor.device)
        try:
            return ActivationStore(self.split, settings, self.cache).evaluated(predictor.model, part, phase.cut)
        except (OSError, Overflow):
            return None

    def _stored(self, index: int, model: Classifier, device: torch.device) -> ActivationDataModule | None:
        """Return the stored activations of a phase; None, and a revised plan, where they cannot be kept."""
        plan, phase = self.plan.plan, self.plan.phase(index)
        source = phase.source
        settings = ComputeSettings(
            max_bytes=plan.store.max_bytes,
            dtype=plan.store.dtype,
            device=device,
            autocast=AUTOCAST.get(plan.trainer.precision),
        )
        rates = phase.augmentation.rates
        views = Views(model.preprocessing, phase.augmentation.name, source.views, (plan.seed,), **rates)
        log.info(
            "store: %d x %d + %d views at %s, %.2f GB in %s",
            *(len(self.split.train), len(views), len(self.split.val)),
            " and ".join(cut_name(cut) for cut in source.cuts),
            *(source.bytes / 1e9, self.cache.folder),
        )
        try:
            arrays = ActivationStore(self.split, settings, self.cache).arrays(model, views, source.cuts)
        except OSError as error:
            why = f"store: cannot be written ({error}): phase {phase.number} reads images in every epoch"
            self._read_images(phase, why)
            return None
        except Overflow:
            return self._overflowed(index, model, device)
        labels = (self.split.labels(self.split.train), self.split.labels(self.split.val))
        train, val = arrays[phase.cut]
        return ActivationDataModule(
            train,
            val,
            labels,
            views,
            batch_size=phase.batch_size,
            balanced=phase.balanced,
            seed=(plan.seed, index),
        )

    def _overflowed(self, index: int, model: Classifier, device: torch.device) -> ActivationDataModule | None:
        """Keep float32 where 16 bits are too few; where values are no numbers at all, read images."""
        plan = self.plan.plan
        if plan.store.dtype == "float32":
            self._read_images(plan.phases[index], "store: values are infinite or no numbers: images are read instead")
            return None
        wider = replace(plan, store=replace(plan.store, dtype="float32"))
        phases, reasons = choose_sources(wider, self._memory(), start=index)
        why = f"store: values too large for {plan.store.dtype}: kept as float32"
        self._revise(plan.revised(why, reasons, store=wider.store, phases=phases))
        return self._stored(index, model, device) if phases[index].source.kind == "stored" else None

    def _read_images(self, phase: PhasePlan, why: str) -> None:
        source, reason = image_source(self.plan.plan, phase, self._memory())
        self._take_source(phase, source, why, reason)

    def _take_source(self, phase: PhasePlan, source: BatchSource, why: str, reason: str) -> None:
        # A grid of heads is trained on stored features alone.
        search = "range test" if phase.search and source.kind != "stored" else phase.search
        changed = replace(phase, source=source, search=search)
        self._revise(self.plan.plan.with_phase(changed, why, {f"phases.{phase.index}.source": reason}))

    def _revise(self, plan: Plan) -> None:
        self.plan.revise(plan, logging.WARNING)

    def _decoded_images(self, phase: PhasePlan, model: Classifier) -> tuple[DecodedImages | None, DecodedImages | None]:
        """Return the training and the validation images decoded; where they cannot be kept, nothing, and revise."""
        plain, view = phase.augmentation.name == "none", model.preprocessing
        wanted = (plain, view)
        if self._decoded and self._decoded[0] == wanted:
            return self._decoded[1]
        self._decoded = None  # before others are made room for
        places: Mapping[str, tuple[ArrayCache | None, int]] = {
            "disk": (self.cache, self.plan.plan.store.max_bytes),
            "memory": (None, self._memory()),
        }
        cache, room = places[phase.source.place]
        root, split = self.split.root, self.split
        try:
            if plain:
                train = decoded_for_evaluation(root, split.train, view, cache, room)
            else:
                train = decoded_for_training(root, split.train, view.size, cache, room)
            fault = "" if train else f"would take more than {room / 1e9:.1f} GB"
            val = decoded_for_evaluation(root, split.val, view, cache, room) if train else None
        except OSError as error:
            train, val, fault = None, None, f"cannot be kept ({error})"
        if train is None:
            return self._decoded_elsewhere(phase, model, fault)
        where = str(self.cache.folder) if cache else "memory"
        log.info("decoded: %d training images, %.2f GB in %s", len(train), train.pixels.nbytes / 1e9, where)
        self._decoded = (wanted, (train, val))
        return train, val

    def _decoded_elsewhere(
        self, phase: PhasePlan, model: Classifier, fault: str
    ) -> tuple[DecodedImages | None, DecodedImages | None]:
        """Keep decoded images in memory where the disk cannot; else read the files in every epoch."""
        place, data = phase.source.place, self.plan.plan.data
        if place == "disk" and data.decoded == "auto" and phase.source.bytes <= self._memory():
            source, next_ = replace(phase.source, place="memory"), "kept in memory"
        else:
            source, next_ = BatchSource("files"), "files are decoded again in every epoch"
        why = f"decoded images {fault} on {place}: {next_}" if place == "disk" else f"decoded images {fault}: {next_}"
        self._take_source(phase, source, why, fault)
        phase = self.plan.phase(phase.index)
        return self._decoded_images(phase, model) if phase.source.kind == "decoded" else (None, None)

    def _memory(self) -> int:
        """Return what may be kept in memory, bytes; each process of a node keeps its own."""
        ranks = len(NodeGroup.at(self.cache.folder).ranks)
        return min(collectives.all_gather(half_of_free_memory() // ranks))
