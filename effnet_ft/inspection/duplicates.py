"""Finds duplicates: identical files, or the same photograph resized, recompressed or mirrored.

The signature of an image is a perceptual hash that is not rounded to bits: the low frequencies of the cosine transform
of its grey thumbnail, weighted by frequency so that two photographs with similar lighting still differ. For two sizes
or qualities of a photograph the cosine similarity is about 1. Mirroring only changes the sign of the odd horizontal
frequencies. All pairs are compared by a blocked matrix product.
"""

import numpy as np
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from effnet_ft.inspection.file_scan import SIDE
from effnet_ft.utils.progress import progress_bar

FREQUENCIES = 16  # of a signature in each direction
SAME = 0.9  # cosine similarity of signatures from which two images are duplicates
CROPPED = 0.45  # the same if the features reach SAME_FEATURES: cropped, framed or recoloured duplicates
SAME_FEATURES = 0.94  # cosine similarity of pooled features that different photographs of one class seldom reach
DIFFERENT_FEATURES = 0.45  # that of pooled features below which no signature makes two images duplicates

_BLOCK = 1024
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_MIN_CONTRAST = 1.0  # root mean square of a signature, grey levels, below which an image is too uniform to compare


def find_duplicates(records: np.ndarray, features: np.ndarray | None) -> np.ndarray:
    """Return a group number for each image, equal for duplicates, ``[N]``.

    ``records`` are :data:`effnet_ft.inspection.file_scan.FILE_RECORD` ``[N]``; without pooled ``features`` ``[N, F]``
    only the signatures are compared.
    """
    if not len(records):
        return np.zeros(0, np.int64)
    _, first, content = np.unique(records["digest"], return_index=True, return_inverse=True)
    pairs = _similar_pairs(records["picture"][first], None if features is None else features[first])
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(first), len(first)))
    numbers: np.ndarray = connected_components(graph, directed=False)[1][content]
    return numbers


def signatures(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the signatures of thumbnails, uint8 ``[N, SIDE, SIDE, 3]``, and of their mirror images.

    Each is float32 ``[N, D]``, of norm 1, or 0 if the image is too uniform.
    """
    basis = dct(np.eye(SIDE, dtype=np.float32), axis=0, norm="ortho")[:FREQUENCIES]
    spectrum = basis @ (pictures @ _LUMA) @ basis.T
    order = np.arange(FREQUENCIES)
    spectrum *= np.hypot(order[:, None], order)  # in natural images the amplitude falls with the frequency
    upright, mirrored = (part.reshape(len(pictures), -1) for part in (spectrum, spectrum * np.where(order % 2, -1, 1)))
    length = np.linalg.norm(upright, axis=1, keepdims=True)
    scale = (length > _MIN_CONTRAST * SIDE) / np.maximum(length, 1e-6)
    return (upright * scale).astype(np.float32), (mirrored * scale).astype(np.float32)


def _similar_pairs(pictures: np.ndarray, features: np.ndarray | None) -> np.ndarray:
    """Return pairs of duplicates, int64 ``[M, 2]``."""
    upright, mirrored = signatures(pictures)
    if features is not None:
        features = features.astype(np.float32)
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)
    found = [np.zeros((0, 2), np.int64)]
    starts = range(0, len(upright), _BLOCK)
    for start in progress_bar("comparing images", starts, total=len(starts)):
        block, before = slice(start, start + _BLOCK), slice(0, start + _BLOCK)
        similarity = upright[block] @ upright[before].T
        np.maximum(similarity, upright[block] @ mirrored[before].T, out=similarity)
        similarity = np.tril(similarity, start - 1)  # each pair once, and no image with itself
        same = similarity >= SAME
        if features is not None:
            rows, columns = (np.flatnonzero((similarity >= CROPPED).any(axis)) for axis in (1, 0))
            of_features = features[block][rows] @ features[before][columns].T
            part = np.ix_(rows, columns)
            same[part] &= of_features >= DIFFERENT_FEATURES
            same[part] |= (similarity[part] >= CROPPED) & (of_features >= SAME_FEATURES)
        found.append(np.argwhere(same) + np.array([start, 0]))
    return np.concatenate(found)
