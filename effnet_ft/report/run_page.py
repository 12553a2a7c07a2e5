"""The page of a run: its sections in their order. A new one is a function, a line here and a macro in run.html."""

from __future__ import annotations

from omegaconf import OmegaConf

from effnet_ft.report.confidence import confidence
from effnet_ft.report.confusion import confused_pairs, confusion_matrix
from effnet_ft.report.contents import RunContents
from effnet_ft.report.gallery import mistakes, uncertain
from effnet_ft.report.learning_curves import learning_curves, times
from effnet_ft.report.model_card import model_card
from effnet_ft.report.per_class import class_balance, per_class
from effnet_ft.report.rendering import Section, render_page
from effnet_ft.report.training_views import training_views
from effnet_ft.utils.text import counted


def render_run(run: RunContents) -> str:
    """Return the whole page of a run."""
    variant = OmegaConf.select(run.recipe, "model.variant") or "unknown variant"
    sizes = (counted(len(run.phases), "phase"), counted(len(run.epochs), "epoch"))
    subtitle = f"{variant} · {len(run.classes)} classes · {', '.join(sizes)}"
    return render_page("run.html", run.name, subtitle, sections_of(run))


def sections_of(run: RunContents) -> list[Section]:
    """Return the sections; those without arguments are left out of the page."""
    return [
        Section("Results", "headline", {"run": run}),
        Section("Model card", "model_card", model_card(run)),
        Section("Learning curves", "learning_curves", learning_curves(run)),
        Section("Confusion", "confusion_matrix", confusion_matrix(run)),
        Section("Most confused pairs", "confused_pairs", confused_pairs(run)),
        Section("Classes", "table", per_class(run)),
        Section("Most confident mistakes", "mistakes", mistakes(run)),
        Section("Least certain right answers", "uncertain", uncertain(run)),
        Section("Confidence", "confidence", confidence(run)),
        Section("Class balance", "table", class_balance(run)),
        Section("Training views", "training_views", training_views(run)),
        Section("Recipe", "recipe", {"run": run}),
        Section("Decisions", "decisions", {"facts": decisions(run)} if run.plan else None),
        Section("Times", "table", times(run)),
        Section("Seed, versions and machine", "provenance", {"run": run}),
    ]


def decisions(run: RunContents) -> list[tuple[str, str]]:
    """Return what the plan decided where the recipe says ``auto``, with its reason, and what changed on the way."""
    if run.plan is None:
        return []
    values = run.plan.flat()
    decided = [
        (key, f"{next(values[name] for name in _names(key) if name in values)} ({reason})")
        for key, reason in run.plan.reasons.items()
    ]
    return [*decided, *(("changed on the way", change) for change in run.plan.changes)]


def _names(key: str) -> list[str]:
    """Return what a plan may call a decision: by its key, as its optimiser's, or as a kind of source."""
    phase, _, name = key.rpartition(".")
    return [key, f"{phase}.optim.{name}", f"{key}.kind"]
