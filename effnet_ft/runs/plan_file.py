"""The plan of a run that is going on: its newest revision, saved before the next step."""

from __future__ import annotations

import logging
from pathlib import Path

from effnet_ft.recipe.plan import PhasePlan, Plan

log = logging.getLogger(__name__)


class PlanFile:
    """The newest revision of a run's plan, and its file.

    Every process of a run revises alike; the one that ``writes`` saves.

    Args:
        path: of ``plan.yaml``.
        plan: the plan.
        writes: save each revision.
    """

    def __init__(self, path: Path, plan: Plan, writes: bool = True) -> None:
        self.path = path
        self.plan = plan
        self.writes = writes

    def phase(self, index: int) -> PhasePlan:
        """Return a phase of the newest revision."""
        return self.plan.phases[index]

    def save(self) -> None:
        """Write the plan."""
        if self.writes:
            self.plan.save(self.path)

    def revise(self, plan: Plan, level: int = logging.INFO) -> None:
        """Take ``plan`` as the newest revision: log what changed, and save it."""
        log.log(level, "%s", plan.changes[-1])
        self.plan = plan
        self.save()
