"""From images to class probabilities: the one path for evaluation, the report, prediction and exported models."""

import copy
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from effnet_ft.activations.batched_forward import Item, forward_images
from effnet_ft.data.images.decoding import ImageLike, as_image_list, as_rgb
from effnet_ft.data.sources.source import LABEL_SEPARATOR
from effnet_ft.errors import DataError, WeightsError
from effnet_ft.inference.backends import Backend
from effnet_ft.inference.gradcam import Explanation, gradcam
from effnet_ft.inference.selective_prediction import confidence_threshold
from effnet_ft.models.batchnorm_folding import fold_batchnorm
from effnet_ft.models.classifier import Classifier
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.utils.text import did_you_mean

VIEWS: dict[str, Callable[[Preprocessing, np.ndarray], list[np.ndarray]]] = {
    "one": lambda view, image: [view(image)],
    "mirror": lambda view, image: [view(image), view(image)[:, ::-1]],
    "five": lambda view, image: [view(image, *place) for place in ((0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1))],
}
"""What a prediction is averaged over: the central crop, it and its mirror image, or it and the four corner crops."""


class Predictor:
    """A trained model that takes image files, arrays and Pillow images.

    Args:
        model: the network; with a ``backend`` only its description, without weights.
        device: where it runs; None means a GPU if there is one. A backend runs on the CPU.
        backend: an exported program that computes the probabilities in the place of ``model``.
    """

    def __init__(
        self, model: Classifier, device: str | torch.device | None = None, backend: Backend | None = None
    ) -> None:
        self.backend = backend
        self.classes = model.classes  # in the order of the probabilities
        if backend is not None:
            self.device, self.model = torch.device("cpu"), model
        else:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            self.model = model.to(self.device).eval()
            self._folded = fold_batchnorm(self.model)

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of an image before the network."""
        return self.model.preprocessing

    @property
    def network(self) -> Classifier:
        """The network, with batch norms folded; raises a WeightsError for an exported program."""
        if self.backend is not None:
            raise WeightsError("an exported program has no accessible layers: use the run, or export safetensors")
        return self._folded

    def predict(
        self,
        images: Iterable[ImageLike] | ImageLike,
        top_k: int = 5,
        batch_size: int = 32,
        views: str = "one",
        precision: float | None = None,
    ) -> list[list[tuple[str, float]]]:
        """Predict the classes of each image.

        Args:
            images: paths, arrays (uint8 ``[H, W, 3]`` RGB or ``[H, W]`` grey) or Pillow images, or a single one.
            top_k: the largest number of classes to return for an image.
            batch_size: images at once.
            views: a name in :data:`VIEWS`; the probabilities are the mean over them.
            precision: the share of predictions that should be right; the model abstains from less certain images.

        Returns:
            For each image a list of (class name, probability), best first; in a multi-label model the labels whose
            probability reaches their threshold, possibly none. With ``precision`` empty if the model abstains.

        Raises:
            DataError: if an image cannot be read, or the model cannot reach ``precision``.
            ValueError: for ``top_k`` below 1, other ``views``, or an array that is not an image.
        """
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}, expected at least 1")
        if views not in VIEWS:
            raise ValueError(f"views is {views!r}, expected one of {', '.join(VIEWS)}")
        threshold = 0.0 if precision is None else confidence_threshold(self.model.record, precision)
        rows = self.probabilities(as_image_list(images), batch_size, views=views)
        return [self.best(row, top_k) if row.max() >= threshold else [] for row in rows]

    def best(self, probabilities: np.ndarray, top_k: int) -> list[tuple[str, float]]:
        """Return the best ``top_k`` predictions from an image's probabilities ``[K]``."""
        thresholds = self.model.thresholds if self.model.multilabel else None
        return best_classes(probabilities, self.classes, top_k, thresholds)

    def explain(
        self, images: Iterable[ImageLike] | ImageLike, classes: Iterable[str] | str | None = None, batch_size: int = 32
    ) -> list[Explanation]:
        """Return Grad-CAM explanations on the central crops of ``images``, as for :meth:`predict`.

        ``classes`` is the class of each image, or one for all; None means each image's most likely one.

        Raises:
            DataError: if an image cannot be read, or for an unknown class.
            ValueError: if there are not as many classes as images.
        """
        listed = as_image_list(images)
        if isinstance(classes, str):
            classes = [classes] * len(listed)
        indices = None if classes is None else [self.class_index(name) for name in classes]
        if indices is not None and len(indices) != len(listed):
            raise ValueError(f"{len(indices)} classes for {len(listed)} images: give one for each, or one for all")
        batches = forward_images(
            listed,
            lambda image: self.preprocessing(as_rgb(image)),
            lambda batch: (batch.numpy(), self.network.maps(batch.permute(0, 3, 1, 2).to(self.device))),
            device=self.device,
            batch_size=batch_size,
            title="explaining",
        )
        explanations: list[Explanation] = []
        for start, (crops, maps) in batches:
            given = None if indices is None else indices[start : start + len(crops)]
            heat, explained, probabilities = gradcam(self.model, maps, crops.shape[1:3], given)
            names = [self.classes[index] for index in explained]
            explanations += map(Explanation, names, probabilities.tolist(), crops, heat)
        return explanations

    def class_index(self, name: str) -> int:
        """Return the index of the class ``name``; raise a DataError if there is none."""
        if name not in self.classes:
            raise DataError(f"the model has no class '{name}'{did_you_mean(name, self.classes)}")
        return self.classes.index(name)

    def probabilities(
        self, images: Sequence[ImageLike], batch_size: int = 32, title: str = "predicting", views: str = "one"
    ) -> np.ndarray:
        """Return class probabilities, float32 ``[N, K]``; arguments as for :meth:`predict`, and the bar's ``title``.

        Raises:
            DataError: if an image cannot be read.
        """

        def mean_over_views(batch: Tensor) -> Tensor:
            return self.forward(self._to_device(batch)).reshape(*batch.shape[:2], -1).mean(1)

        return self._map_batches(images, self._prepare(views), mean_over_views, batch_size, title)

    def logits(self, images: Sequence[ImageLike], batch_size: int = 32, title: str = "predicting") -> np.ndarray:
        """Return logits of the central crops, float32 ``[N, K]``; arguments and errors as for :meth:`probabilities`.

        An exported program only has probabilities; the logits of its classes are then determined up to a constant.
        """
        if self.backend is not None:
            p = np.clip(self.probabilities(images, batch_size, title).astype(np.float64), 1e-30, None)
            log_odds = np.log(p) - (np.log1p(-np.minimum(p, 1 - 1e-7)) if self.model.multilabel else 0)
            return (self.model.temperature * log_odds).astype(np.float32)
        prepare = self._prepare("one")
        return self._map_batches(images, prepare, lambda x: self.network(self._to_device(x)), batch_size, title)

    def logits_from(self, activations: np.ndarray, cut: int, batch_size: int = 32) -> np.ndarray:
        """Return logits, float32 ``[N, K]``, from what enters stage ``cut``: ``[N, h, w, C]``, or for 9 ``[N, F]``."""
        network = copy.copy(self.network)
        network.cut = cut

        def compute(batch: Tensor) -> Tensor:
            return network.suffix((batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch).to(self.device))

        return self._map_batches(range(len(activations)), activations.__getitem__, compute, batch_size, "evaluating")

    def forward(self, images: Tensor) -> Tensor:
        """Map prepared images, uint8 ``[N, 3, size, size]``, to probabilities ``[N, K]``."""
        if self.backend is not None:
            return self.backend(images)
        return self.model.probabilities(self.network(images))

    def _map_batches(
        self,
        items: Sequence[Item],
        prepare: Callable[[Item], np.ndarray],
        compute: Callable[[Tensor], Tensor],
        batch_size: int,
        title: str,
    ) -> np.ndarray:
        """Return ``compute`` of batches of prepared items, float32 ``[N, K]``."""

        def rows_of(batch: Tensor) -> np.ndarray:
            rows: np.ndarray = compute(batch).cpu().numpy()
            return rows

        batches = forward_images(items, prepare, rows_of, device=self.device, batch_size=batch_size, title=title)
        return np.concatenate([np.zeros((0, len(self.classes)), np.float32), *(rows for _, rows in batches)])

    def _prepare(self, views: str) -> Callable[[ImageLike], np.ndarray]:
        """Return a function that makes the views of an image, uint8 ``[V, size, size, 3]``."""
        return lambda image: np.stack(VIEWS[views](self.preprocessing, as_rgb(image)))

    def _to_device(self, batch: Tensor) -> Tensor:
        """Reshape views, uint8 ``[N, V, size, size, 3]``, to ``[N * V, 3, size, size]`` on the device."""
        return batch.flatten(0, 1).permute(0, 3, 1, 2).to(self.device, non_blocking=True)


def best_classes(
    probabilities: np.ndarray, classes: Sequence[str], top_k: int | None, thresholds: Sequence[float] | None = None
) -> list[tuple[str, float]]:
    """Return classes of an image's probabilities ``[K]``, best first; with ``thresholds``, those that reach them."""
    order = np.argsort(-probabilities, kind="stable")
    if thresholds is not None:
        order = order[probabilities[order] >= np.asarray(thresholds, np.float64)[order]]
    return [(classes[index], float(probabilities[index])) for index in order[:top_k]]


def join_labels(labels: Sequence[tuple[str, float]]) -> tuple[str, str]:
    """Return the names of an image's labels, and their probabilities, each joined for a CSV cell."""
    texts = [(name, f"{probability:.6f}") for name, probability in labels]
    return LABEL_SEPARATOR.join(name for name, _ in texts), LABEL_SEPARATOR.join(text for _, text in texts)
