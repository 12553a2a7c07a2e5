"""The classes of ImageNet-1k."""

from importlib import resources


def imagenet_classes() -> tuple[str, ...]:
    """Return the 1,000 WordNet ids of ImageNet-1k, in the order of every published classifier."""
    return tuple(resources.files("effnet_ft").joinpath("imagenet_wnids.txt").read_text().split())
