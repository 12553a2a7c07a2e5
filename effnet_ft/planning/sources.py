"""Where the batches of each phase come from: stored activations, decoded images or image files."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from effnet_ft.data.images.decoding import downscaled_size
from effnet_ft.data.images.transforms import SHORT_SIDE
from effnet_ft.models.variants import STAGES, VARIANTS
from effnet_ft.recipe.plan import BatchSource, PhasePlan, Plan

Decision = tuple[BatchSource, str]
"""A source and why it was taken."""


def choose_sources(plan: Plan, memory_bytes: int, start: int = 0) -> tuple[tuple[PhasePlan, ...], dict[str, str]]:
    """Decide the source of every phase from ``start`` on; return all phases and the reasons by dotted keys.

    Args:
        plan: its phases' sources are not read.
        memory_bytes: that decoded images may take in memory.
        start: index of the first phase to decide.
    """
    phases, reasons = list(plan.phases), {}
    for index in range(start, len(phases)):
        source, reason = _stored(plan, index)
        if source.kind != "stored":
            source, decoded = image_source(plan, phases[index], memory_bytes)
            reason = f"{reason}; {decoded}" if reason else decoded
        # A grid of heads is trained on stored features alone.
        search = "range test" if phases[index].search and source.kind != "stored" else phases[index].search
        phases[index] = replace(phases[index], source=source, search=search)
        reasons[f"phases.{index}.source"] = reason
    return tuple(phases), reasons


def _stored(plan: Plan, index: int) -> Decision:
    """Take stored activations, where the prefix is frozen, they are read more than once, and there is room."""
    phase, files = plan.phases[index], BatchSource("files")
    if phase.cut == 0:
        return files, "no stage is frozen"
    if not plan.store.keep:
        return files, "store is off"
    if phase.mixing.mixes:
        return files, "mixed images differ in every epoch (mixup, cutmix)"
    sharing = sharing_views(plan.phases, index)
    readers = [sharing_views(plan.phases, earlier) for earlier in range(index + 1) if _storable(plan.phases[earlier])]
    groups = [some for some in readers if phase in some]
    if not any(sum(other.epochs for other in some) >= 2 for some in groups):
        return files, "stored activations would be read once"
    augmented = phase.augmentation.name != "none"
    views = min(plan.store.views, max(other.epochs for some in groups for other in some)) if augmented else 1
    cuts = sorted({other.cut for other in sharing})
    while cuts and stored_bytes(plan, phase.image_size, views, cuts) > plan.store.max_bytes:
        cuts.pop(0)  # the earlier the cut, the larger the maps
    if phase.cut not in cuts:
        need, room = stored_bytes(plan, phase.image_size, views, [phase.cut]), plan.store.max_bytes
        too_much = f"{need / 1e9:.1f} GB, more than the {room / 1e9:.1f} GB allowed (store.max_gb)"
        return files, f"stored activations would take {too_much}"
    need = stored_bytes(plan, phase.image_size, views, cuts)
    reason = "the frozen stages are computed once"
    if augmented and views <= 2:
        reason += "; none of its views is augmented: the first two are the image and its mirror image"
    return BatchSource("stored", views=views, cuts=tuple(cuts), bytes=need), reason


def image_source(plan: Plan, phase: PhasePlan, memory_bytes: int) -> Decision:
    """Take decoded images, where they are read more than once and there is room; else the files."""
    files = BatchSource("files")
    if plan.data.decoded == "off":
        return files, "data.decoded is off: files are decoded in every epoch"
    if phase.epochs < 2:
        return files, "each file is read once"
    need, rooms = decoded_bytes(plan, phase), {"disk": plan.store.max_bytes, "memory": memory_bytes}
    for place in ("disk", "memory") if plan.data.decoded == "auto" else (plan.data.decoded,):
        if need <= rooms[place]:
            return BatchSource("decoded", place=place, bytes=need), "each file is decoded once"
    return files, f"decoded images would take {need / 1e9:.1f} GB, more than {rooms[place] / 1e9:.1f} GB of {place}"


def sharing_views(phases: Sequence[PhasePlan], index: int) -> list[PhasePlan]:
    """Return a phase and the later ones whose prefix is frozen until they begin, and which see the same views."""
    phase = phases[index]
    found, lowest = [phase], phase.cut
    for later in phases[index + 1 :]:
        if 0 < later.cut <= lowest and pixels_of(later) == pixels_of(phase):
            found.append(later)
        lowest = min(lowest, later.cut)
    return found


def stored_arrays(plan: Plan) -> dict[tuple[object, int], int]:
    """Return the bytes of every array that is stored, by what it holds and its cut; phases share them."""
    found: dict[tuple[object, int], int] = {}
    for phase in plan.phases:
        for cut in phase.source.cuts:
            need = stored_bytes(plan, phase.image_size, phase.source.views, [cut])
            place = (pixels_of(phase), cut)
            found[place] = max(need, found.get(place, 0))
    return found


def stored_bytes(plan: Plan, image_size: int, views: int, cuts: Sequence[int]) -> int:
    """Return the bytes of stored activations, of all views of the training images and of the validation images."""
    variant = VARIANTS[plan.model.variant]
    values = sum(int(np.prod(variant.activation_shape(cut, image_size))) for cut in cuts)
    rows = plan.images.train * views + plan.images.val
    return rows * values * np.dtype(plan.store.dtype).itemsize


def decoded_bytes(plan: Plan, phase: PhasePlan) -> int:
    """Return about how many bytes the decoded images of a phase take, by their median sides."""
    images, size = plan.images, phase.image_size
    evaluated = size * size * 3
    if phase.augmentation.name == "none" or not images.short_side:
        return (images.train + images.val) * evaluated
    height, width = downscaled_size(images.short_side, images.long_side, int(SHORT_SIDE * size))
    return images.train * 3 * height * width + images.val * evaluated


def cut_name(cut: int) -> str:
    """Return what is stored at a cut, in words."""
    return "the features" if cut == STAGES else f"stage{cut}"


def _storable(phase: PhasePlan) -> bool:
    return phase.cut > 0 and not phase.mixing.mixes


def pixels_of(phase: PhasePlan) -> tuple[object, ...]:
    """Return what decides the pixels that a phase sees, but for the order of the epochs."""
    return phase.augmentation, phase.mixing, phase.image_size
