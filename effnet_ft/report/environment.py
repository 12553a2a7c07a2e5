"""What a run was made with: recipe, seed, versions, machine."""

from __future__ import annotations

from html import escape

from omegaconf import OmegaConf

from effnet_ft.report.contents import RunContents
from effnet_ft.report.html_formats import facts


def recipe(run: RunContents) -> str:
    """The resolved recipe."""
    return f'<pre class="recipe">{escape(run.recipe_text)}</pre>'


def surroundings(run: RunContents) -> str:
    """Seed, versions and machine of the run's last start."""
    seed = str(OmegaConf.select(run.recipe, "seed"))
    if not run.starts:
        return "<p>Versions and machine were not noted when this run was made.</p>" + facts([("Seed", seed)])
    last = run.starts[-1]
    machine = last["machine"]
    memory = f"{machine['memory'] / 2**30:.0f} GiB" if machine["memory"] else ""
    rows = [
        ("Seed", seed),
        ("Started", ", resumed ".join(start["time"] for start in run.starts)),
        ("Accelerator", ", ".join(machine["accelerators"]) or "none"),
        ("Processor", f"{machine['processor']}, {machine['cores']} cores"),
        ("Memory", memory),
        ("System", machine["system"]),
        ("Versions", ", ".join(f"{name} {number}" for name, number in last["versions"].items())),
    ]
    return facts([(name, text) for name, text in rows if text])
