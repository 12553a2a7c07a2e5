"""From facts to what will not work: a sentence each, with the cure. Pure; what the facts do not tell is not judged."""

from __future__ import annotations

from effnet_ft.doctor import hardware, software
from effnet_ft.doctor.facts import Facts
from effnet_ft.doctor.finding import Finding


def advise(facts: Facts) -> list[Finding]:
    """Return what will not work, what every training needs first."""
    judges = (*software.JUDGES, *hardware.JUDGES)
    findings = [finding for judge in judges for finding in judge(facts)]
    return sorted(findings, key=lambda finding: not finding.broken)
