"""Evaluate a run, an exported model, or a recipe's pretrained model without training."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from effnet_ft.commands.arguments import add_overrides, check_outputs, warn_if_unfinished
from effnet_ft.errors import UsageError
from effnet_ft.utils.text import counted

if TYPE_CHECKING:
    from effnet_ft.evaluation.evaluate import Evaluation

MODEL_SUFFIXES = (".ckpt", ".pth", ".pt", ".safetensors", ".onnx", ".pt2")
"""Suffixes of model files; other files are recipes."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="RUN|FILE|RECIPE",
        help="a run folder; an exported model or a checkpoint, evaluated on data.root=...; or a recipe, whose "
        "pretrained model is evaluated without training",
    )
    add_overrides(parser)
    parser.add_argument(
        "--split",
        choices=("train", "val", "test", "all"),
        help="the split to evaluate (default: test, else val, else all)",
    )
    parser.add_argument(
        "--views",
        choices=("one", "mirror", "five"),
        default="one",
        help="average over the centre crop and its mirror image, or over it and the four corner crops",
    )
    parser.add_argument("--json", help="write the metrics to this file")
    parser.add_argument("--out", help="write the predictions to this CSV file")


def run(options: argparse.Namespace) -> int:
    from effnet_ft.recipe import find_recipe
    from effnet_ft.runs.run_folder import Run, is_run

    path = Path(options.target).expanduser()
    run_given, model_given = is_run(path), path.suffix in MODEL_SUFFIXES
    if not run_given and (os.sep in options.target or model_given) and not path.is_file():
        raise UsageError(f"'{options.target}' is not a run folder (with a recipe.yaml), a model file or a recipe file")
    if not (run_given or model_given):
        find_recipe(options.target)  # a misspelt name is reported before torch is imported
    check_outputs(options.json, options.out)
    warn_if_unfinished(options.target)

    from effnet_ft.evaluation.targets import evaluate_file, evaluate_recipe, evaluate_run
    from effnet_ft.utils.atomic_files import write_json

    if run_given:
        evaluation = evaluate_run(Run(options.target), options.overrides, options.split, options.views)
    elif model_given:
        evaluation = evaluate_file(path, options.overrides, options.split, options.views)
    else:
        evaluation = evaluate_recipe(options.target, options.overrides, options.split, options.views)
    _print_metrics(evaluation)
    if options.json:
        write_json(evaluation.metrics, Path(options.json))
    if options.out:
        evaluation.write_predictions(Path(options.out))
    return 0


def _print_metrics(evaluation: Evaluation) -> None:
    metrics = evaluation.metrics
    split = "all" if evaluation.name == "all" else f"{evaluation.name} split"
    print(f"{counted(len(evaluation.samples), 'image')}, {split}")
    width = max(14, *map(len, metrics))
    for name, value in metrics.items():
        if name.removesuffix("_low").removesuffix("_high") in metrics.keys() - {name}:
            continue  # printed beside its metric
        low, high = (metrics.get(f"{name}_{end}") for end in ("low", "high"))
        interval = "" if low is None or high is None else f"   95% interval {low:.4f} to {high:.4f}"
        published = evaluation.published.get(name)
        reference = f"   published, on all of ImageNet's validation images: {published:.4f}" if published else ""
        print(f"  {name:<{width}} {value:.4f}{interval}{reference}")
