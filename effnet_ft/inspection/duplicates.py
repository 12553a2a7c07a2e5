"""Finds images that are there more than once: the same file, or the same photograph resized, recompressed, mirrored.

Every image has a signature: the low frequencies of the cosine transform of its small grey picture, weighted by their
frequency, so that natural images of like light and shade are as unlike as others. The cosine of two signatures is 1
for two sizes or qualities of one photograph. It is a perceptual hash whose numbers were not rounded to bits. The
mirror image's signature has the signs of the odd horizontal frequencies turned, so mirrored copies cost nothing more.
Pairs are found by blocks of a matrix product.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from effnet_ft.inspection.file_scan import SIDE
from effnet_ft.utils.progress import progress_bar

FREQUENCIES = 16
"""Of a signature, in each direction."""

SAME = 0.9
"""Cosine of signatures from which two images are one photograph."""

CROPPED = 0.45
"""Likewise where the network's features are as near as :data:`SAME_FEATURES`: cropped, framed or recoloured copies."""

SAME_FEATURES = 0.94
"""Cosine of pooled features, as two photographs of one kind of flower seldom have it."""

DIFFERENT_FEATURES = 0.45
"""Cosine of pooled features under which two images are not the same, however alike their signatures."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_BLOCK = 1024
_FAINT = 1.0
"""Root of a signature's mean square, grey levels, under which an image has nothing to be told by."""


def find_duplicates(looks: np.ndarray, features: np.ndarray | None) -> np.ndarray:
    """Return a number for each image, the same for those that are copies of each other, ``[N]``.

    Args:
        looks: what is known of the files, :data:`effnet_ft.inspection.file_scan.FILE_RECORD` ``[N]``.
        features: what a network makes of the images, ``[N, F]``; None goes by the signatures alone.
    """
    if not len(looks):
        return np.zeros(0, np.int64)
    _, first, content = np.unique(looks["digest"], return_index=True, return_inverse=True)
    pairs = _alike(looks["picture"][first], None if features is None else features[first])
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(first), len(first)))
    numbers: np.ndarray = connected_components(graph, directed=False)[1][content]
    return numbers


def signatures(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the signatures of images and those of their mirror images.

    Args:
        pictures: small pictures, uint8 ``[N, SIDE, SIDE, 3]``.

    Returns:
        Twice float32 ``[N, D]``, of length 1, or 0 where an image has nothing to be told by.
    """
    basis = dct(np.eye(SIDE, dtype=np.float32), axis=0, norm="ortho")[:FREQUENCIES]
    spectrum = basis @ (pictures @ _LUMA) @ basis.T
    order = np.arange(FREQUENCIES)
    # Natural images have amplitudes that fall with the frequency.
    spectrum = spectrum * np.hypot(order[:, None], order).astype(np.float32)
    upright, mirrored = (part.reshape(len(pictures), -1) for part in (spectrum, spectrum * np.where(order % 2, -1, 1)))
    length = np.linalg.norm(upright, axis=1, keepdims=True)
    scale = np.where(length > _FAINT * SIDE, 1 / np.maximum(length, 1e-6), 0).astype(np.float32)
    return upright * scale, (mirrored * scale).astype(np.float32)


def _alike(pictures: np.ndarray, features: np.ndarray | None) -> np.ndarray:
    """Return pairs of images that are one photograph, int64 ``[M, 2]``."""
    upright, mirrored = signatures(pictures)
    if features is not None:
        features = features.astype(np.float32)
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)
    found = [np.zeros((0, 2), np.int64)]
    starts = range(0, len(upright), _BLOCK)
    for start in progress_bar("comparing", starts, total=len(starts)):
        block, before = slice(start, start + _BLOCK), slice(0, start + _BLOCK)
        likeness = upright[block] @ upright[before].T
        np.maximum(likeness, upright[block] @ mirrored[before].T, out=likeness)
        likeness = np.tril(likeness, start - 1)  # each pair once, and no image with itself
        same = likeness >= SAME
        if features is not None:
            rows, columns = (np.flatnonzero((likeness >= CROPPED).any(axis)) for axis in (1, 0))
            near = features[block][rows] @ features[before][columns].T
            part = np.ix_(rows, columns)
            same[part] &= near >= DIFFERENT_FEATURES
            same[part] |= (likeness[part] >= CROPPED) & (near >= SAME_FEATURES)
        found.append(np.argwhere(same) + np.array([start, 0]))
    return np.concatenate(found)
