"""The activation store: a frozen prefix computed once for every view of every image.

An array holds one view of all images of a part at one cut: the map that enters stage ``cut``, or the pooled features.
Its key covers all that its numbers depend on, so that another run, or another learning rate, finds it; one pass over
the images makes the arrays of every cut that is wanted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from effnet_ft.activations.batched_forward import effective_batch_size, forward_images
from effnet_ft.data.images.decoding import content_digest, read_image
from effnet_ft.data.images.views import Views
from effnet_ft.data.sources.source import Sample
from effnet_ft.data.splits.split import Split
from effnet_ft.distributed.collectives import NodeGroup
from effnet_ft.distributed.shared_arrays import ArraySpec, open_or_fill
from effnet_ft.models.batchnorm_folding import fold_batchnorm
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.variants import STAGES
from effnet_ft.utils.array_cache import ArrayCache, array_key

log = logging.getLogger(__name__)

VERSION = 2
"""Of the arrays' meaning: another number makes every key new."""

_BATCH_VIEWS = 256

_Place = tuple[str, int, int]
"""A part, a view's number, a cut."""


class Overflow(Exception):
    """A value is too large for the 16-bit type."""


@dataclass(frozen=True)
class ComputeSettings:
    """How activations are computed and kept.

    Attributes:
        views: how many views of each training image.
        max_bytes: that all kept arrays may take; None sets no limit.
        dtype: ``float16`` or ``float32``.
        batch_size: views computed at once on a GPU; the CPU takes fewer.
        device: where the prefix is computed.
        autocast: the type that matrix products are computed in, None for the weights' own.
    """

    views: int = 4
    max_bytes: int | None = None
    dtype: str = "float16"
    batch_size: int = _BATCH_VIEWS
    device: torch.device = torch.device("cpu")
    autocast: torch.dtype | None = None


class ActivationStore:
    """Stored activations of a split's training and validation images.

    Args:
        split: the images.
        settings: how they are computed and kept.
        cache: where they are kept.
    """

    def __init__(self, split: Split, settings: ComputeSettings, cache: ArrayCache | None = None) -> None:
        self.split = split
        self.settings = settings
        self.cache = cache or ArrayCache()
        self._digests: dict[str, str] = {}
        self._known_shapes: dict[tuple[int, ...], dict[int, tuple[int, ...]]] = {}

    def size(self, model: Classifier, views: Views, cuts: Sequence[int]) -> int:
        """Return what the arrays of ``cuts`` take, bytes."""
        count = len(self.split.train) * len(views) + len(self.split.val)
        return count * sum(int(np.prod(shape)) for shape in self._shapes(model, cuts).values()) * self._type.itemsize

    def arrays(
        self, model: Classifier, views: Views, cuts: Sequence[int]
    ) -> dict[int, tuple[list[np.ndarray], np.ndarray]]:
        """Return, for each cut, the arrays of the training images' views and that of the validation images.

        What is not kept yet is computed, by all processes of the run together, or waited for where another run
        computes it.

        Raises:
            DataError: where an image cannot be read.
            OSError: where the disk is full.
            Overflow: where a value is too large for the type.
        """
        start = time.perf_counter()
        found, computed = self._kept(model, views, {"train": range(len(views)), "val": range(1)}, cuts)
        if computed:
            log.info("store: computed in %.0f s", time.perf_counter() - start)
        else:
            log.info("store: found, computed before")
        return {cut: ([found["train", view, cut] for view in range(len(views))], found["val", 0, cut]) for cut in cuts}

    def evaluated(self, model: Classifier, part: str, cut: int) -> np.ndarray | None:
        """Return what the prefix makes of the images of ``part`` as they are evaluated, None where that takes too much.

        Errors are those of :meth:`arrays`.
        """
        views = Views(model.preprocessing, "none", 1, (0,))
        limit = self.settings.max_bytes
        if limit is not None and self._bytes(model, [(part, 0, cut)]) > limit:
            return None
        return self._kept(model, views, {part: range(1)}, [cut])[0][part, 0, cut]

    def _kept(
        self, model: Classifier, views: Views, parts: Mapping[str, range], cuts: Sequence[int]
    ) -> tuple[dict[_Place, np.ndarray], bool]:
        """Return the array of every part, view and cut, and whether one had to be computed."""
        model = model.eval().to(self.settings.device)

        def specs() -> dict[_Place, ArraySpec]:
            shapes = self._shapes(model, sorted(cuts))
            prefixes = {cut: _prefix_digest(model, cut) for cut in cuts}
            return {
                (part, view, cut): ArraySpec(
                    self._key(part, views, view, cut, prefixes[cut]),
                    (len(self.split.part(part)), *shapes[cut]),
                    self.settings.dtype,
                    self._about(model, part, view, cut),
                )
                for part, numbers in parts.items()
                for view in numbers
                for cut in cuts
            }

        def fill(arrays: Mapping[_Place, np.ndarray], group: NodeGroup) -> None:
            network = fold_batchnorm(model)
            for part in parts:
                wanted = {(view, cut): array for (of, view, cut), array in arrays.items() if of == part}
                if wanted:
                    self._compute(network, part, views, wanted, group)

        return open_or_fill(self.cache, specs, fill, self.settings.max_bytes)

    def _bytes(self, model: Classifier, places: Sequence[tuple[str, int, int]]) -> int:
        shapes = self._shapes(model, sorted({cut for _, _, cut in places}))
        values = sum(len(self.split.part(part)) * int(np.prod(shapes[cut])) for part, _, cut in places)
        return values * self._type.itemsize

    @property
    def _type(self) -> np.dtype:
        return np.dtype(self.settings.dtype)

    def _compute(
        self, model: Classifier, part: str, views: Views, arrays: Mapping[tuple[int, int], np.ndarray], group: NodeGroup
    ) -> None:
        """Compute this process's rows of ``arrays`` (view, cut: array) in one pass over its images of ``part``."""
        samples = self.split.part(part)
        numbers = sorted({view for view, _ in arrays})
        cuts = sorted({cut for _, cut in arrays})
        batch_size = effective_batch_size(self.settings.device, self.settings.batch_size // len(numbers))
        # Whole batches, so that each image is computed beside the same others as by one process: to the same bits.
        share = group.share(len(samples), batch_size)
        for start, answer in forward_images(
            share,
            lambda index: self._views_of(samples[index], views, index, numbers),
            lambda batch: self._through(model, batch, cuts),
            device=self.settings.device,
            batch_size=batch_size,
            title=f"store, {part}",
        ):
            for cut, rows in answer.items():
                for place, view in enumerate(numbers):
                    if (view, cut) in arrays:
                        first = share.start + start
                        arrays[view, cut][first : first + len(rows)] = rows[:, place]

    def _views_of(self, sample: Sample, views: Views, index: int, numbers: Sequence[int]) -> np.ndarray:
        """Return all of ``numbers`` of an image's views, uint8 ``[V, size, size, 3]``."""
        image = read_image(self.split.image(sample))
        return np.stack([views.view(image, index, number) for number in numbers])

    def _through(self, model: Classifier, batch: Tensor, cuts: Sequence[int]) -> dict[int, np.ndarray]:
        """Return for each cut what the frozen layers make of views, uint8 ``[N, V, size, size, 3]``."""
        device, kind = self.settings.device, self.settings.autocast
        answer = {}
        with torch.autocast(device.type, kind, enabled=kind is not None):
            for cut, x in model.at_cuts(self._on_device(batch.flatten(0, 1)), cuts):
                stored = x.to(getattr(torch, self.settings.dtype))
                if not stored.isfinite().all():
                    raise Overflow
                rows = stored.permute(0, 2, 3, 1) if stored.ndim == 4 else stored
                answer[cut] = rows.reshape(*batch.shape[:2], *rows.shape[1:]).cpu().numpy()
        return answer

    def _shapes(self, model: Classifier, cuts: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """Return the shape of an image's row at each of ``cuts``: ``(h, w, C)`` or ``(F,)``."""
        size = model.preprocessing.size
        known = self._known_shapes.setdefault((size, *cuts), {})
        if not known:
            blank = torch.zeros(1, size, size, 3, dtype=torch.uint8)
            with torch.no_grad():
                for cut, x in model.eval().to(self.settings.device).at_cuts(self._on_device(blank), cuts):
                    known[cut] = tuple(x.permute(0, 2, 3, 1).shape[1:] if x.ndim == 4 else x.shape[1:])
        return known

    def _on_device(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).to(self.settings.device, non_blocking=True)

    def _key(self, part: str, views: Views, view: int, cut: int, prefix: str) -> str:
        return array_key(
            version=VERSION,
            prefix=prefix,
            cut=cut,
            images=self._images_digest(part),
            dtype=self.settings.dtype,
            autocast=str(self.settings.autocast),
            **views.identity(view),
        )

    def _images_digest(self, part: str) -> str:
        """Return a digest of the content of all images of ``part``, in order."""
        if part not in self._digests:
            images = [self.split.image(sample) for sample in self.split.part(part)]
            self._digests[part] = content_digest(images, self.cache)
        return self._digests[part]

    def _about(self, model: Classifier, part: str, view: int, cut: int) -> str:
        what = "features" if cut == STAGES else f"stage{cut}"
        return (
            f"{self.split.root.name} {part}, view {view}, {model.variant.name} {what} at {model.preprocessing.size} px"
        )


def _prefix_digest(model: Classifier, cut: int) -> str:
    """Return a digest of all that the prefix's numbers depend on, but for the image."""
    description = model.describe()
    shape = {key: description[key] for key in ("variant", "padding", "norm_eps")}
    digest = hashlib.sha256(json.dumps(shape).encode())
    for name, value in model.stages[:cut].state_dict().items():
        if not name.endswith("num_batches_tracked"):
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
