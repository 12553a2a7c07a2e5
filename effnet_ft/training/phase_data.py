"""The batches of each phase, from the source that the plan names; the plan is revised if that source fails."""

import logging
from dataclasses import dataclass, field, replace

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
from effnet_ft.recipe.plan import BatchSource, PhasePlan
from effnet_ft.runs.plan_file import PlanFile
from effnet_ft.utils.array_cache import ArrayCache, half_of_free_memory
from effnet_ft.utils.text import counted

log = logging.getLogger(__name__)


Decoded = tuple[DecodedImages | None, DecodedImages | None]
"""Decoded training and validation images."""


@dataclass
class PhaseData:
    """Builds the batches of each phase."""

    plan: PlanFile  # revised if a source fails
    split: Split
    cache: ArrayCache = field(default_factory=ArrayCache)
    _decoded: tuple[object, Decoded] | None = field(default=None, init=False)
    """Images decoded for the last phase, with what they depend on, for the next phase to reuse."""

    def data_module(
        self, index: int, model: Classifier, device: torch.device, resumed: bool = False
    ) -> ImageDataModule | ActivationDataModule:
        """Return the batches of a phase, the frozen prefix of ``model`` computed on ``device``.

        A phase that is ``resumed`` partway must read from the same source as before.

        Raises:
            DataError: if an image cannot be read, or the stored activations of a resumed phase no longer fit.
        """
        if self.plan.phase(index).source.kind == "stored":
            stored = self._stored(index, model, device)
            if stored is not None:
                return stored
            if resumed:
                raise DataError(
                    f"phase {index + 1} trained from stored activations before the interruption, which no longer fit: "
                    f"make room on the disk of {self.cache.folder}"
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
        """Return the logits of a part's images, ``[N, K]``, from a model of the phase with ``index``.

        Each rank computes its share. If the phase reads stored activations, those of the part are stored too, computed
        exactly as for a prediction.
        """
        samples = self.split.part(part)
        share = collectives.rank_slice(len(samples))
        own = slice(share.start, share.stop)
        maps = self._evaluation_maps(predictor, index, part)

        def compute() -> np.ndarray:
            if maps is not None:
                return predictor.logits_from(maps[own], self.plan.phase(index).cut, batch_size)
            return predictor.logits([self.split.image(one) for one in samples[own]], batch_size, f"evaluating {part}")

        return np.concatenate(collectives.all_gather(collectives.run_on_all_ranks(compute)))

    def _evaluation_maps(self, predictor: Predictor, index: int, part: str) -> np.ndarray | None:
        """Return a part's stored activations; None if the phase reads images, or they do not fit."""
        phase, store = self.plan.phase(index), self.plan.plan.store
        if phase.source.kind != "stored":
            return None
        settings = ComputeSettings(max_bytes=store.max_bytes, dtype="float32", device=predictor.device)
        try:
            return ActivationStore(self.split, settings, self.cache).evaluated(predictor.model, part, phase.cut)
        except (OSError, Overflow):
            return None

    def _stored(self, index: int, model: Classifier, device: torch.device) -> ActivationDataModule | None:
        """Return the stored activations of a phase; None, after revising the plan, if they cannot be stored."""
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
            self._read_images(phase, f"store: cannot be written ({error})")
            return None
        except Overflow:
            if plan.store.dtype == "float32":
                self._read_images(phase, "store: activations are infinite or NaN")
                return None
            wider = replace(plan, store=replace(plan.store, dtype="float32"))
            phases, reasons = choose_sources(wider, self._memory(), start=index)
            change = f"store: values too large for {plan.store.dtype}: stored as float32"
            self.plan.revise(plan.revised(change, reasons, store=wider.store, phases=phases), logging.WARNING)
            return self._stored(index, model, device) if phases[index].source.kind == "stored" else None
        labels = (self.split.labels(self.split.train), self.split.labels(self.split.val))
        return ActivationDataModule(
            *arrays[phase.cut],
            labels,
            views,
            batch_size=phase.batch_size,
            balanced=phase.balanced,
            seed=(plan.seed, index),
        )

    def _read_images(self, phase: PhasePlan, fault: str) -> None:
        source, reason = image_source(self.plan.plan, phase, self._memory())
        self._change_source(phase, source, f"{fault}: phase {phase.number} reads images in every epoch", reason)

    def _change_source(self, phase: PhasePlan, source: BatchSource, change: str, reason: str) -> None:
        # Only stored features can be searched by the grid of heads.
        search = "range test" if phase.search and source.kind != "stored" else phase.search
        changed = replace(phase, source=source, search=search)
        plan = self.plan.plan.with_phase(changed, change, {f"phases.{phase.index}.source": reason})
        self.plan.revise(plan, logging.WARNING)

    def _decoded_images(self, phase: PhasePlan, model: Classifier) -> Decoded:
        """Return the decoded images; none, after revising the plan, if they cannot be stored."""
        plain, view = phase.augmentation.name == "none", model.preprocessing
        if self._decoded and self._decoded[0] == (plain, view):
            return self._decoded[1]
        self._decoded = None  # frees the memory
        split, on_disk = self.split, phase.source.place == "disk"
        place = "on disk" if on_disk else "in memory"
        cache, limit = (self.cache, self.plan.plan.store.max_bytes) if on_disk else (None, self._memory())
        try:
            if plain:
                train = decoded_for_evaluation(split.root, split.train, view, cache, limit)
            else:
                train = decoded_for_training(split.root, split.train, view.size, cache, limit)
            val = decoded_for_evaluation(split.root, split.val, view, cache, limit) if train else None
            fault = f"would take more than {limit / 1e9:.1f} GB {place}"
        except OSError as error:
            train, val, fault = None, None, f"cannot be stored {place} ({error})"
        if train is None:
            return self._decode_elsewhere(phase, model, fault)
        where = str(self.cache.folder) if cache else "memory"
        log.info("decoded: %s, %.2f GB in %s", counted(len(train), "training image"), train.pixels.nbytes / 1e9, where)
        self._decoded = ((plain, view), (train, val))
        return train, val

    def _decode_elsewhere(self, phase: PhasePlan, model: Classifier, fault: str) -> Decoded:
        """Store decoded images in memory if they do not fit on disk; else decode the files in every epoch."""
        source, now = BatchSource("files"), "files are decoded in every epoch"
        movable = phase.source.place == "disk" and self.plan.plan.data.decoded == "auto"
        if movable and phase.source.bytes <= self._memory():
            source, now = replace(phase.source, place="memory"), "stored in memory"
        self._change_source(phase, source, f"decoded images {fault}: {now}", fault)
        phase = self.plan.phase(phase.index)
        return self._decoded_images(phase, model) if phase.source.kind == "decoded" else (None, None)

    def _memory(self) -> int:
        """Return the bytes that this process may store in memory; each process of a node stores its own."""
        ranks = len(NodeGroup.at(self.cache.folder).ranks)
        return min(collectives.all_gather(half_of_free_memory() // ranks))
