"""Show what a training would do, and why, without doing it: decisions, time, memory and disk."""

import argparse
import json

from effnet_ft.commands.arguments import add_recipe


def configure(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON, with the reason of each decision")


def run(options: argparse.Namespace) -> int:
    from effnet_ft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides, ["data.root", "phases", "model.weights"])

    from effnet_ft.planning.table import plan_json, plan_text
    from effnet_ft.training.setup import dry_plan

    plan = dry_plan(recipe)
    print(json.dumps(plan_json(plan), indent=2) if options.json else plan_text(plan))
    return 0
