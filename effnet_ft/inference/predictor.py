"""From images to class probabilities: the one path that training, evaluation and prediction take to their numbers."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from effnet_ft.activations.batched_forward import Item, forward_images
from effnet_ft.data.images.image_like import ImageLike, as_image_list, as_rgb
from effnet_ft.errors import DataError
from effnet_ft.inference.gradcam import Explanation, gradcam, upsample
from effnet_ft.inference.predictions import best_classes, best_labels
from effnet_ft.inference.selective_prediction import threshold_for
from effnet_ft.models.batchnorm_folding import fold_batchnorm
from effnet_ft.models.classifier import Classifier
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.runs.run_folder import load_model
from effnet_ft.utils.text import did_you_mean

VIEWS: dict[str, Callable[[Preprocessing, np.ndarray], list[np.ndarray]]] = {
    "one": lambda view, image: [view(image)],
    "mirror": lambda view, image: [view(image), view(image)[:, ::-1]],
    "five": lambda view, image: [view(image, *place) for place in ((0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1))],
}
"""What a prediction is averaged over: the central crop, it and its mirror image, or it and the four corners."""


class Predictor:
    """A trained model that takes images as people have them.

    Args:
        model: the network.
        device: where it runs; None takes a GPU where there is one.
    """

    def __init__(self, model: Classifier, device: str | torch.device | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device).eval()
        self._network = fold_batchnorm(self.model)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.model.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """What an image goes through before the network."""
        return self.model.preprocessing

    def predict(
        self,
        images: Iterable[ImageLike] | ImageLike,
        top_k: int = 5,
        batch_size: int = 32,
        views: str = "one",
        precision: float | None = None,
    ) -> list[list[tuple[str, float]]]:
        """Name the likeliest classes of each image; of a model of labels, those that hold.

        Args:
            images: paths, arrays (uint8 ``[H, W, 3]`` RGB or ``[H, W]`` grey) or Pillow images; a single one is taken
                as a list of one.
            top_k: how many classes to name, at most all; of labels the most that are named.
            batch_size: images at once.
            views: a name in :data:`VIEWS`; the probabilities are the mean over them.
            precision: the share of answers that should be right; of images that are not sure enough none is given.

        Returns:
            For each image a list of (class name, probability), best first; of labels those whose probability reaches
            their threshold, maybe none. With ``precision`` it is empty where the model abstains.

        Raises:
            DataError: where an image cannot be read, or the model cannot vouch for ``precision``.
            ValueError: for ``top_k`` below 1, other ``views``, or an array that is no image.
        """
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}, expected at least 1")
        if views not in VIEWS:
            raise ValueError(f"views is {views!r}, expected one of {', '.join(VIEWS)}")
        surest = 0.0 if precision is None else threshold_for(self.model.record, precision)
        listed = as_image_list(images)
        rows = self.probabilities(listed, batch_size, views=views)
        return [self.best(row, top_k) if row.max() >= surest else [] for row in rows]

    def best(self, probabilities: np.ndarray, top_k: int) -> list[tuple[str, float]]:
        """Return the ``top_k`` classes of one image's probabilities ``[K]``, best first; of labels those that hold."""
        if self.model.multilabel:
            return best_labels(probabilities, self.classes, self.model.thresholds)[:top_k]
        return best_classes(probabilities, self.classes, top_k)

    def explain(
        self, images: Iterable[ImageLike] | ImageLike, classes: Iterable[str] | str | None = None, batch_size: int = 32
    ) -> list[Explanation]:
        """Show for each image where the evidence for a class lies, by Grad-CAM.

        Args:
            images: as for :meth:`predict`.
            classes: the class of each image, or one for all; None takes each image's likeliest.
            batch_size: images at once.

        Returns:
            For each image its explanation, with the central crop that the network saw.

        Raises:
            DataError: where an image cannot be read, or a class is not the model's.
            ValueError: where there are not as many classes as images.
        """
        listed = as_image_list(images)
        if isinstance(classes, str):
            classes = [classes] * len(listed)
        wanted = None if classes is None else [self.class_index(name) for name in classes]
        if wanted is not None and len(wanted) != len(listed):
            raise ValueError(f"{len(wanted)} classes for {len(listed)} images: give one for each, or one for all")

        def seen(batch: Tensor) -> tuple[np.ndarray, Tensor]:
            return batch.numpy(), self._network.maps(batch.permute(0, 3, 1, 2).to(self.device))

        answers = forward_images(
            listed,
            lambda image: self.preprocessing(as_rgb(image)),
            seen,
            device=self.device,
            batch_size=batch_size,
            title="explaining",
        )
        found: list[Explanation] = []
        for start, (views, maps) in answers:
            some = None if wanted is None else wanted[start : start + len(views)]
            heat, chosen, probabilities = gradcam(self.model, maps, some)
            heat = upsample(heat, views.shape[1:3])
            names = [self.classes[number] for number in chosen]
            found += map(Explanation, names, probabilities.tolist(), views, heat)
        return found

    def class_index(self, name: str) -> int:
        """Return the index of the class ``name``.

        Raises:
            DataError: where there is none.
        """
        if name not in self.classes:
            raise DataError(f"the model knows no class '{name}'{did_you_mean(name, self.classes)}")
        return self.classes.index(name)

    def probabilities(
        self, images: Sequence[ImageLike], batch_size: int = 32, title: str = "predicting", views: str = "one"
    ) -> np.ndarray:
        """Return class probabilities, float32 ``[N, K]``.

        Args:
            images: as for :meth:`predict`.
            batch_size: images at once.
            title: of the progress bar, which a terminal shows for more than two seconds' work.
            views: a name in :data:`VIEWS`; the probabilities are the mean over them.

        Raises:
            DataError: where an image cannot be read.
        """
        return self._rows(images, self._viewed(views), self._answer, batch_size, title)

    def logits(self, images: Sequence[ImageLike], batch_size: int = 32, title: str = "predicting") -> np.ndarray:
        """Return logits, float32 ``[N, K]``, of the central crops; arguments and errors are :meth:`probabilities`'."""

        def answered(batch: Tensor) -> np.ndarray:
            found: np.ndarray = self._network(self._on_device(batch)).cpu().numpy()
            return found

        return self._rows(images, self._viewed("one"), answered, batch_size, title)

    def logits_from(self, maps: np.ndarray, cut: int, batch_size: int = 32) -> np.ndarray:
        """Return logits, float32 ``[N, K]``, from what the stages before ``cut`` made of the images.

        Args:
            maps: float32 ``[N, h, w, C]``, or pooled features ``[N, F]`` for a cut of 9.
            cut: the first stage that is still to be computed.
            batch_size: images at once.
        """
        network = copy.copy(self._network)
        network.cut = cut

        def answered(batch: Tensor) -> np.ndarray:
            x = batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch
            found: np.ndarray = network.suffix(x.to(self.device)).cpu().numpy()
            return found

        return self._rows(range(len(maps)), lambda index: maps[index], answered, batch_size, "evaluating")

    def _rows(
        self,
        items: Sequence[Item],
        prepare: Callable[[Item], np.ndarray],
        answered: Callable[[Tensor], np.ndarray],
        batch_size: int,
        title: str,
    ) -> np.ndarray:
        """Return what ``answered`` makes of batches of prepared items, float32 ``[N, K]``, as one array."""
        answers = forward_images(items, prepare, answered, device=self.device, batch_size=batch_size, title=title)
        return np.concatenate([np.zeros((0, len(self.classes)), np.float32), *(row for _, row in answers)])

    def _viewed(self, views: str) -> Callable[[ImageLike], np.ndarray]:
        """Return what makes the views of an image, uint8 ``[V, size, size, 3]``."""
        return lambda image: np.stack(VIEWS[views](self.preprocessing, as_rgb(image)))

    def _on_device(self, batch: Tensor) -> Tensor:
        """Return views, uint8 ``[N, V, size, size, 3]``, as the network takes them, ``[N * V, 3, size, size]``."""
        return batch.flatten(0, 1).permute(0, 3, 1, 2).to(self.device, non_blocking=True)

    def _answer(self, batch: Tensor) -> np.ndarray:
        """Return the probabilities of images by their views, uint8 ``[N, V, size, size, 3]``."""
        probabilities = self._compute(self._on_device(batch))
        mean: np.ndarray = probabilities.reshape(*batch.shape[:2], -1).mean(1).cpu().numpy()
        return mean

    def _compute(self, images: Tensor) -> Tensor:
        """Map prepared images, uint8 ``[N, 3, size, size]``, to probabilities ``[N, K]``."""
        return self.model.probabilities(self._network(images))


def load(path: str | os.PathLike[str], device: str | torch.device | None = None) -> Predictor:
    """Load a trained model: a run folder, a checkpoint or an export of any format.

    Args:
        path: the folder or the file.
        device: where it runs; None takes a GPU where there is one. Exported programs run on the CPU.

    Raises:
        WeightsError: where it cannot be read.
    """
    from effnet_ft.inference.exported import load_exported  # its predictor is built on this one

    return load_exported(Path(path).expanduser(), device) or Predictor(load_model(path), device)
