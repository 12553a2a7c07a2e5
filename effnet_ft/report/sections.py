"""The sections of a report, in their order. A new one is a function and a line in ``SECTIONS``."""

from __future__ import annotations

from collections.abc import Callable

from effnet_ft.report.card import model_card
from effnet_ft.report.classes import class_balance, classes
from effnet_ft.report.confidence import confidence
from effnet_ft.report.confusion import confused_pairs, confusion_matrix
from effnet_ft.report.contents import RunContents
from effnet_ft.report.curves import learning_curves, times
from effnet_ft.report.environment import recipe, surroundings
from effnet_ft.report.gallery import mistakes, uncertain
from effnet_ft.report.headline import results
from effnet_ft.report.training_views import training_views

SECTIONS: dict[str, Callable[[RunContents], str]] = {
    "Results": results,
    "Model card": model_card,
    "Learning curves": learning_curves,
    "Confusion": confusion_matrix,
    "Most confused pairs": confused_pairs,
    "Classes": classes,
    "Most confident mistakes": mistakes,
    "Least certain right answers": uncertain,
    "Confidence": confidence,
    "Class balance": class_balance,
    "Training views": training_views,
    "Recipe": recipe,
    "Times": times,
    "Seed, versions and machine": surroundings,
}


def sections_of(run: RunContents) -> dict[str, str]:
    """The HTML of a run's sections, by their titles, without those that have nothing to say of it."""
    return {title: html for title, section in SECTIONS.items() if (html := section(run))}
