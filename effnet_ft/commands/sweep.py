"""Train a recipe with many values of its keys, and rank them on the validation images."""

from __future__ import annotations

import argparse
import shlex
import sys

from effnet_ft.commands.arguments import add_overrides, add_recipe, at_least
from effnet_ft.commands.shell import own_command
from effnet_ft.errors import EXIT_INTERRUPTED, Interrupted


def configure(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    add_overrides(parser)
    parser.add_argument(
        "--grid",
        action="append",
        required=True,
        help="values of a recipe key, e.g. phases.0.lr=1e-4,1e-3,1e-2; repeated, every combination is trained; "
        "with --random also ranges: key=0:0.5, or key=1e-4:1e-1:log",
    )
    parser.add_argument("--random", type=at_least(1), help="train this many random settings instead of all")
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="of the random settings (default 0); runs use the recipe's own seed"
    )
    parser.add_argument(
        "--metric",
        default="val/acc1",
        help="to rank by (default val/acc1): highest first, or lowest first for val/ece",
    )
    parser.add_argument(
        "--out", help="the sweep's folder (default runs/DATA-VARIANT-sweep); an interrupted sweep continues there"
    )
    parser.add_argument(
        "--final",
        action="store_true",
        help="then train the best setting on the validation images too, and evaluate it on the test images",
    )


def run(options: argparse.Namespace) -> int:
    from effnet_ft.sweep import best_of, plan_sweep, results_text, run_sweep, train_final

    plan = plan_sweep(
        options.recipe,
        options.overrides,
        options.grid,
        random=options.random,
        seed=options.seed,
        metric=options.metric,
        folder=options.out,
        final=options.final,
    )
    command = shlex.join([own_command(), *options.words])
    try:
        results = run_sweep(plan, options.final)
        print(f"\n{results_text(results, plan.metric)}\n\nsweep folder: {plan.folder} (open its {plan.page.name})")
        best = best_of(results)
        metrics = train_final(plan, best) if options.final else {}
    except KeyboardInterrupt as error:
        if not plan.plan.is_file():
            raise
        print(f"effnet-ft: interrupted; to resume: {command}", file=sys.stderr)
        return error.exit_code if isinstance(error, Interrupted) else EXIT_INTERRUPTED
    for name, value in metrics.items():
        if name.startswith("test/"):
            print(f"  {name:<14} {value:.4f}")
    if options.final:
        print(f"final run: {plan.final.folder} (open its report.html)")
    else:
        print(f"best: {plan.run(best.number).folder}; to train it on the validation images too, and test it:")
        print(f"  {command} --final")
    return 0
