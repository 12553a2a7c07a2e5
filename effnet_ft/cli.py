"""The command line: ``effnet-ft COMMAND``, and ``python train.py`` for its first one.

Whatever needs torch is imported inside the commands, so that help, tables and recipe errors come at once.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from effnet_ft import __version__
from effnet_ft.errors import DataError, RecipeError, UserError
from effnet_ft.process import tune_process
from effnet_ft.results.export import FORMATS

EXIT_USER_FAULT = 2
EXIT_INTERRUPTED = 130

DEMO_FOLDER = Path("data/drawn-flowers")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 2 the user's input is at fault, 130 interrupted."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse takes what may be repeated in one stretch only; people write "predict RUN a.jpg --top-k 3 b.jpg".
    repeated: list[str] | None = getattr(options, "overrides", getattr(options, "paths", None))
    if rest and (repeated is None or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if repeated is not None:
        repeated += rest
    tune_process()
    try:
        return options.command(options) or 0
    except UserError as error:
        print(f"effnet-ft: {error}", file=sys.stderr)
        return EXIT_USER_FAULT
    except KeyboardInterrupt:
        print("effnet-ft: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        sys.stderr.close()
        return 0


def train(options: argparse.Namespace) -> int:
    """Fine-tune by a recipe and leave a run folder."""
    from effnet_ft.recipe import load_recipe
    from effnet_ft.results.run import Run, is_run

    overrides = [text for text in options.overrides if not text.startswith("resume=")]
    resumed = next((text.removeprefix("resume=") for text in options.overrides if text.startswith("resume=")), None)
    needed = ["data.root", "phases"]
    if resumed is None:
        recipe = load_recipe(options.recipe, overrides, [*needed, "model.weights"])
    elif not is_run(resumed):
        raise RecipeError(f"resume is '{resumed}', which is no run folder: it holds no recipe.yaml")
    elif changed := [text for text in overrides if not text.startswith("data.root=")]:
        raise RecipeError(f"a resumed run keeps its recipe, but for data.root: leave out {' '.join(changed)}")
    else:
        recipe = load_recipe(Run(resumed).recipe, [*overrides, f"run_dir={resumed}"], needed)

    from effnet_ft.training import fit

    try:
        run = fit.train(recipe, resume=resumed is not None)
    except KeyboardInterrupt:
        if fit.is_main_process() and Run(recipe.run_dir).last.is_file():
            command = f"{_own_command()} train {options.recipe} resume={recipe.run_dir}"
            print(f"effnet-ft: interrupted; to go on: {command}", file=sys.stderr)
            return EXIT_INTERRUPTED
        raise
    if fit.is_main_process():
        from effnet_ft.opening import image_root

        command = _own_command()
        print(f"\nrun folder: {run.folder} (open its report.html)\nnext:")
        print(f"  {command} evaluate {run.folder}")
        print(f"  {command} predict {run.folder} {image_root(recipe.data)} --top-k 3 --out predictions.csv")
    return 0


def sweep(options: argparse.Namespace) -> int:
    """Train a recipe at many settings of its keys, on one device, and find the best on the validation images."""
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
    try:
        results = run_sweep(plan, options.final)
        print(f"\n{results_text(results, plan.metric)}\n\nsweep folder: {plan.folder} (open its {plan.page.name})")
        best = best_of(results)
        metrics = train_final(plan, best) if options.final else {}
    except KeyboardInterrupt:
        if not plan.plan.is_file():
            raise
        print(f"effnet-ft: interrupted; to go on: {_sweep_command(options)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    for name, value in metrics.items():
        if name.startswith("test/"):
            print(f"  {name:<14} {value:.4f}")
    if options.final:
        print(f"final run: {plan.final.folder} (open its report.html)")
    else:
        print(f"best: {plan.run(best.number).folder}; to train it on the validation images too, and to test it:")
        print(f"  {_sweep_command(options)} --final")
    return 0


def _sweep_command(options: argparse.Namespace) -> str:
    """Return the command line that goes on with a sweep."""
    words = [_own_command(), "sweep", options.recipe, *options.overrides]
    for name in ("grid", "random", "seed", "metric", "out"):
        given = getattr(options, name)
        for value in given if isinstance(given, list) else [given]:
            if value is not None and (name, value) not in (("seed", 0), ("metric", "val/acc1")):
                words += [f"--{name}", str(value)]
    return shlex.join([*words, *(["--final"] if options.final else [])])


def _check_outputs(*files: str | None) -> None:
    """Refuse files that could not be written, before the work that would be lost."""
    for file in files:
        if file is not None and (Path(file).is_dir() or not Path(file).resolve().parent.is_dir()):
            raise DataError(f"cannot write '{file}': name a file in a folder that is there")


def _own_command() -> str:
    """Return how the console script is called from here: by name, or by path where its folder is not searched."""
    script = Path(sys.executable).with_name("effnet-ft")
    return os.path.relpath(script) if shutil.which(script.name) is None and script.is_file() else script.name


def demo(options: argparse.Namespace) -> int:
    """Draw a set of flowers, no download, and fine-tune on it."""
    from effnet_ft.data.drawn import draw_flowers

    print(f"drawing flowers in {DEMO_FOLDER} ...", flush=True)
    draw_flowers(DEMO_FOLDER)
    options.recipe = "demo"
    return train(options)


def evaluate(options: argparse.Namespace) -> int:
    """Measure a run, or a recipe's pretrained model as it is."""
    from effnet_ft.recipe import find_recipe
    from effnet_ft.results.run import Run, is_run

    of_run = is_run(options.target)
    if not of_run and os.sep in options.target and not Path(options.target).is_file():
        raise RecipeError(f"'{options.target}' is no run folder (it holds no recipe.yaml) and no recipe file")
    if not of_run:
        find_recipe(options.target)  # a misspelt name is told before torch is imported
    _check_outputs(options.json, options.out)

    from effnet_ft.results.evaluate import evaluate_recipe, evaluate_run, write_json

    if of_run:
        evaluation = evaluate_run(Run(options.target), options.overrides, options.split, options.views)
    else:
        evaluation = evaluate_recipe(options.target, options.overrides, options.split, options.views)
    metrics = evaluation.metrics
    print(f"{len(evaluation.samples)} images, {evaluation.name} part")
    for name, value in metrics.items():
        published = evaluation.published.get(name)
        beside = f"   published, on all of ImageNet's validation images: {published:.4f}" if published else ""
        print(f"  {name:<14} {value:.4f}{beside}")
    if options.json:
        write_json(metrics, Path(options.json))
    if options.out:
        evaluation.write_predictions(Path(options.out))
    return 0


def predict(options: argparse.Namespace) -> int:
    """Name the likeliest classes of images: files, folders, patterns."""
    _check_outputs(options.out)

    from effnet_ft.results.predict_files import predict_files

    return EXIT_USER_FAULT if predict_files(options.run, options.paths, options.top_k, options.out) else 0


def report(options: argparse.Namespace) -> int:
    """Write a run's report.html again."""
    from effnet_ft.results.report import write_report

    print(write_report(Path(options.run)))
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a run's model as a file that other libraries load."""
    _check_outputs(options.out)

    from effnet_ft.results.export import export as write
    from effnet_ft.results.run import load_model

    model = load_model(options.run)
    usage = write(model, options.format, Path(options.out))
    view = model.preprocessing
    print(f"wrote {options.out}: {model.variant.name} of {len(model.classes)} classes; load it by\n{usage}")
    if options.format != "safetensors":
        print(
            f"and give it RGB images of {view.size} px, (value - mean) / std on 0..255 with "
            f"mean {view.mean} and std {view.std}"
        )
    return 0


def cache(options: argparse.Namespace) -> int:
    """List the computed arrays that are kept between runs, or remove them."""
    from effnet_ft.cache import ArrayCache, age

    store = ArrayCache()
    entries = store.entries()
    total = sum(entry.size for entry in entries)
    if options.action == "clear" and not options.yes:
        raise UserError(f"this removes {len(entries)} arrays, {total / 1e9:.2f} GB, from {store.folder}: say --yes")
    if options.action == "clear":
        store.clear()
        print(f"removed {len(entries)} arrays, {total / 1e9:.2f} GB")
        return 0
    for entry in entries:
        print(f"{entry.size / 1e6:>9.1f} MB  {age(entry.used):<14} {entry.about}")
    print(f"{total / 1e6:>9.1f} MB  in {store.folder}")
    return 0


def models(options: argparse.Namespace) -> int:
    """List the variants and their weights, or get weights ahead of time."""
    from effnet_ft.models.tables import models_page, variants_text, weights_text

    if options.download:
        from effnet_ft.models.download import weights_file
        from effnet_ft.models.provenance import record_named

        for record in [record_named(name) for name in options.download]:  # all names are checked before the first
            print(f"{record.name}: {weights_file(record)}")
    elif options.markdown:
        print(models_page(), end="")
    else:
        print(weights_text() if options.weights else variants_text())
    return 0


def recipes(options: argparse.Namespace) -> int:
    """List the recipes that come with the project."""
    from effnet_ft.recipe_page import recipes_page, recipes_text

    if options.markdown:
        print(recipes_page(), end="")
    else:
        print(recipes_text())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="effnet-ft", description="Fine-tune pretrained EfficientNets on your images.")
    parser.add_argument("--version", action="version", version=f"effnet_ft {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(command: Callable[[argparse.Namespace], int], **arguments: dict[str, Any]) -> None:
        sub = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        for name, settings in arguments.items():
            positional = name == "action" or ("metavar" in settings and name != "download")
            flag = name if positional else f"--{name.replace('_', '-')}"
            sub.add_argument(flag, **settings)
        sub.set_defaults(command=command)

    recipe: dict[str, Any] = {"metavar": "RECIPE", "help": "a YAML file, or a name that 'effnet-ft recipes' lists"}
    overrides: dict[str, Any] = {
        "nargs": "*",
        "metavar": "key=value",
        "help": "recipe keys to set, e.g. data.root=photos",
    }
    run: dict[str, Any] = {"metavar": "RUN", "help": "a run folder or a checkpoint"}
    target: dict[str, Any] = {
        "metavar": "RUN|RECIPE",
        "help": "a run folder, or a recipe whose pretrained model is measured as it is",
    }
    add(train, recipe=recipe, overrides={**overrides, "help": f"{overrides['help']}; resume=RUN goes on with a run"})
    add(
        sweep,
        recipe=recipe,
        overrides=overrides,
        grid={
            "action": "append",
            "required": True,
            "help": "values of a recipe key, e.g. phases.0.lr=1e-4,1e-3,1e-2; repeated, every combination is trained; "
            "with --random also ranges: key=0:0.5, or key=1e-4:1e-1:log",
        },
        random={"type": _positive, "help": "train so many settings, drawn at random, instead of all", "default": None},
        seed={"type": _natural, "default": 0, "help": "of the drawing (default 0); the runs' own is the recipe's"},
        metric={"default": "val/acc1", "help": "what the best has most of (default val/acc1); val/ece: least of"},
        out={"help": "the sweep's folder (default runs/DATA-VARIANT-sweep); one that was stopped goes on there"},
        final={"action": "store_true", "help": "then train the best on the validation images too, and test it"},
    )
    add(
        evaluate,
        target=target,
        overrides=overrides,
        split={
            "choices": ("train", "val", "test", "all"),
            "help": "the part to measure; default: test, else val, else all",
        },
        views={
            "choices": ("one", "mirror", "five"),
            "default": "one",
            "help": "average over the central crop and its mirror image, or over it and the four corners",
        },
        json={"help": "write the metrics to this file", "default": None},
        out={"help": "write the predictions to this CSV file", "default": None},
    )
    add(
        predict,
        run=run,
        paths={"nargs": "+", "metavar": "PATH", "help": "image files, folders, or patterns in quotes"},
        top_k={"type": _positive, "default": 5, "help": "classes to name for each image (default 5)"},
        out={"help": "write CSV to this file instead of the terminal", "default": None},
    )
    add(report, run={"metavar": "RUN", "help": "a run folder"})
    add(
        export,
        run={"metavar": "RUN", "help": "a run folder or a checkpoint"},
        format={"choices": tuple(FORMATS), "required": True, "help": "whose names the file's tensors bear"},
        out={"required": True, "help": "the file to write"},
    )
    add(
        cache,
        action={"nargs": "?", "choices": ("list", "clear"), "default": "list", "help": "list them, or remove them"},
        yes={"action": "store_true", "help": "with clear: really"},
    )
    add(
        models,
        weights={"action": "store_true", "help": "list the weights, one a line, with their preprocessing and accuracy"},
        markdown={"action": "store_true", "help": "print the page docs/models.md"},
        download={"nargs": "+", "metavar": "NAME", "help": "get these weights, e.g. b0/aa, or b0 for its default"},
    )
    add(recipes, markdown={"action": "store_true", "help": "print the page docs/recipes.md, with every key"})
    add(demo, overrides=overrides)
    return parser


def _positive(text: str) -> int:
    return _at_least(1, text)


def _natural(text: str) -> int:
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} is not at least {least}")
    return value
