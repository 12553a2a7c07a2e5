"""The activation store: a frozen prefix computed once for every view of every image.

An array holds one view of all images of a part at one cut: the map that enters stage ``cut``, or the pooled features.
Its key covers all that its numbers depend on, so that another run, or another learning rate, finds it. One pass over
the images computes the arrays of all cuts.
"""

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
from effnet_ft.data.images.decoding import pixels_key, read_image
from effnet_ft.data.images.views import Views
from effnet_ft.data.splits.split import Split
from effnet_ft.distributed.collectives import NodeGroup
from effnet_ft.distributed.shared_arrays import ArraySpec, open_or_fill
from effnet_ft.models.batchnorm_folding import fold_batchnorm
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.variants import STAGES
from effnet_ft.utils.array_cache import ArrayCache, array_key

log = logging.getLogger(__name__)

VERSION = 2  # of the arrays' meaning, part of every key

_Place = tuple[str, int, int]
"""A part, the number of a view, a cut."""


class Overflow(Exception):
    """A value is too large for the 16-bit type."""


@dataclass(frozen=True)
class ComputeSettings:
    """How activations are computed and stored."""

    max_bytes: int | None = None  # that all stored arrays may take; None sets no limit
    dtype: str = "float16"  # or float32
    batch_size: int = 256  # views computed at once on a GPU; fewer on the CPU
    device: torch.device = torch.device("cpu")  # where the prefix is computed
    autocast: torch.dtype | None = None  # type that matrix products are computed in; None for the weights' own


class ActivationStore:
    """Stored activations of the images of ``split``, in ``cache``."""

    def __init__(self, split: Split, settings: ComputeSettings, cache: ArrayCache | None = None) -> None:
        self.split = split
        self.settings = settings
        self.cache = cache or ArrayCache()

    def size(self, model: Classifier, images: int, cut: int) -> int:
        """Return what the activations of so many ``images`` at ``cut`` take, bytes."""
        return images * int(np.prod(self._shapes(model, [cut])[cut])) * np.dtype(self.settings.dtype).itemsize

    def arrays(
        self, model: Classifier, views: Views, cuts: Sequence[int]
    ) -> dict[int, tuple[list[np.ndarray], np.ndarray]]:
        """Return, for each cut, the arrays of the training images' views and that of the validation images.

        Missing arrays are computed by all processes of the run together, or waited for if another run computes them.

        Raises:
            DataError: if an image cannot be read.
            OSError: if the disk is full.
            Overflow: if a value is too large for the type.
        """
        start = time.perf_counter()
        found, computed = self._open_or_compute(model, views, {"train": range(len(views)), "val": range(1)}, cuts)
        if computed:
            log.info("store: computed in %.0f s", time.perf_counter() - start)
        else:
            log.info("store: found, computed before")
        return {cut: ([found["train", view, cut] for view in range(len(views))], found["val", 0, cut]) for cut in cuts}

    def evaluated(self, model: Classifier, part: str, cut: int) -> np.ndarray | None:
        """Return the activations of ``part`` without augmentation, as :meth:`arrays` does; None above ``max_bytes``."""
        limit = self.settings.max_bytes
        if limit is not None and self.size(model, len(self.split.part(part)), cut) > limit:
            return None
        views = Views(model.preprocessing, "none", 1, (0,))
        return self._open_or_compute(model, views, {part: range(1)}, [cut])[0][part, 0, cut]

    def _open_or_compute(
        self, model: Classifier, views: Views, parts: Mapping[str, range], cuts: Sequence[int]
    ) -> tuple[dict[_Place, np.ndarray], bool]:
        """Return the array of every part, view and cut, and whether one had to be computed."""
        model = model.eval().to(self.settings.device)

        def specs() -> dict[_Place, ArraySpec]:
            shapes = self._shapes(model, cuts)
            prefixes = {cut: _prefix_digest(model, cut) for cut in cuts}
            found = {}
            for part, numbers in parts.items():
                images = [self.split.image(sample) for sample in self.split.part(part)]
                facts = {
                    "version": VERSION,
                    "images": pixels_key(images, self.cache),
                    "dtype": self.settings.dtype,
                    "autocast": str(self.settings.autocast),
                }
                for view in numbers:
                    for cut in cuts:
                        key = array_key(**facts, prefix=prefixes[cut], cut=cut, **views.identity(view))
                        what = "features" if cut == STAGES else f"stage{cut}"
                        network = f"{model.variant.name} {what} at {model.preprocessing.size} px"
                        about = f"{self.split.root.name} {part}, view {view}, {network}"
                        shape = (len(images), *shapes[cut])
                        found[part, view, cut] = ArraySpec(key, shape, self.settings.dtype, about)
            return found

        def fill(arrays: Mapping[_Place, np.ndarray], group: NodeGroup) -> None:
            network = fold_batchnorm(model)
            for part in parts:
                wanted = {(view, cut): array for (of, view, cut), array in arrays.items() if of == part}
                if wanted:
                    self._compute(network, part, views, wanted, group)

        return open_or_fill(self.cache, specs, fill, self.settings.max_bytes)

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

        def prepare(index: int) -> np.ndarray:
            image = read_image(self.split.image(samples[index]))
            return np.stack([views.view(image, index, number) for number in numbers])

        for start, activations in forward_images(
            share,
            prepare,
            lambda batch: self._through(model, batch, cuts),
            device=self.settings.device,
            batch_size=batch_size,
            title=f"store, {part}",
        ):
            for (view, cut), array in arrays.items():
                rows = activations[cut][:, numbers.index(view)]
                array[share.start + start : share.start + start + len(rows)] = rows

    def _through(self, model: Classifier, batch: Tensor, cuts: Sequence[int]) -> dict[int, np.ndarray]:
        """Return the activations of views, uint8 ``[N, V, size, size, 3]``, at each cut."""
        device, kind = self.settings.device, self.settings.autocast
        found = {}
        with torch.autocast(device.type, kind, enabled=kind is not None):
            for cut, x in model.at_cuts(self._on_device(batch.flatten(0, 1)), cuts):
                stored = x.to(getattr(torch, self.settings.dtype))
                if not stored.isfinite().all():
                    raise Overflow
                rows = stored.permute(0, 2, 3, 1) if stored.ndim == 4 else stored
                found[cut] = rows.reshape(*batch.shape[:2], *rows.shape[1:]).cpu().numpy()
        return found

    def _shapes(self, model: Classifier, cuts: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """Return the shape of an image's row at each of ``cuts``: ``(h, w, C)`` or ``(F,)``."""
        image = torch.zeros(1, *[model.preprocessing.size] * 2, 3, dtype=torch.uint8)
        with torch.no_grad():
            found = model.eval().to(self.settings.device).at_cuts(self._on_device(image), cuts)
            return {cut: tuple(x.permute(0, 2, 3, 1).shape[1:] if x.ndim == 4 else x.shape[1:]) for cut, x in found}

    def _on_device(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).to(self.settings.device, non_blocking=True)


def _prefix_digest(model: Classifier, cut: int) -> str:
    """Return a digest of all that the activations at ``cut`` depend on but the image."""
    description = model.describe()
    shape = {key: description[key] for key in ("variant", "padding", "norm_eps")}
    digest = hashlib.sha256(json.dumps(shape).encode())
    for name, value in model.stages[:cut].state_dict().items():
        if not name.endswith("num_batches_tracked"):
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
