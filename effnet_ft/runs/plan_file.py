"""The newest revision of a run's plan, saved before it takes effect."""

import logging
from dataclasses import dataclass
from pathlib import Path

from effnet_ft.recipe.plan import PhasePlan, Plan

log = logging.getLogger(__name__)


@dataclass
class PlanFile:
    """The newest revision of a run's plan, and its file. All ranks revise it alike; one writes it."""

    path: Path
    plan: Plan
    writes: bool = True

    def phase(self, index: int) -> PhasePlan:
        """Return a phase of the newest revision."""
        return self.plan.phases[index]

    def save(self) -> None:
        """Write the plan, if this rank does."""
        if self.writes:
            self.plan.save(self.path)

    def revise(self, plan: Plan, level: int = logging.INFO) -> None:
        """Make ``plan`` the newest revision: log its last change, and save it."""
        log.log(level, "%s", plan.changes[-1])
        self.plan = plan
        self.save()
