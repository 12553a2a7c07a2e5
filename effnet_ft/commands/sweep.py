"""Train a recipe with many values of its keys, and rank them on the validation images."""

import argparse
import shlex

from effnet_ft.commands.arguments import add_recipe, at_least, own_command


def configure(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    text = (
        "values of a recipe key, e.g. phases.0.lr=1e-4,1e-3,1e-2; repeated, every combination is trained; "
        "with --random also ranges: key=0:0.5, or key=1e-4:1e-1:log"
    )
    parser.add_argument("--grid", action="append", required=True, help=text)
    parser.add_argument("--random", type=at_least(1), help="train this many random settings instead of all")
    text = "of the random settings (default 0); runs use the recipe's own seed"
    parser.add_argument("--seed", type=at_least(0), default=0, help=text)
    text = "to rank by (default val/acc1): highest first, or lowest first for val/ece"
    parser.add_argument("--metric", default="val/acc1", help=text)
    text = "the sweep's folder (default runs/DATA-VARIANT-sweep); an interrupted sweep continues there"
    parser.add_argument("--out", help=text)
    text = "then train the best setting on the validation images too, and evaluate it on the test images"
    parser.add_argument("--final", action="store_true", help=text)


def run(options: argparse.Namespace) -> int:
    from effnet_ft.sweep import best_of, over_seeds, plan_sweep, results_text, run_sweep, train_final

    draws = {"random": options.random, "seed": options.seed}
    how = {**draws, "metric": options.metric, "folder": options.out, "final": options.final}
    plan = plan_sweep(options.recipe, options.overrides, options.grid, **how)
    command = shlex.join([own_command(), *options.words])
    try:
        results = run_sweep(plan, options.final)
        print(f"\n{results_text(results, plan.metric)}\n\nsweep folder: {plan.folder} (open its {plan.page.name})")
        best = best_of(results)
        metrics = train_final(plan, best) if options.final else {}
    except KeyboardInterrupt as error:
        if plan.plan.is_file():
            error.add_note(f"to resume: {command}")
        raise
    for name, value in metrics.items():
        if name.startswith("test/"):
            print(f"  {name:<14} {value:.4f}")
    means = over_seeds(results)
    if means:
        print(f"seeds are not ranked: {'their means are; ' if len(means) > 1 else ''}a final run takes the first seed")
    if options.final:
        print(f"final run: {plan.final.folder} (open its report.html)")
    else:
        found = "" if len(means) == 1 else f"best: {plan.run(best.number).folder}; "
        print(f"{found}to train {'it ' if found else ''}on the validation images too, and test it:")
        print(f"  {command} --final")
    return 0
