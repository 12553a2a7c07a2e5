"""Check the images before training: unreadable files, duplicates, unusual files, labels that look wrong."""

import argparse
import json

from effnet_ft.commands.arguments import add_overrides, check_outputs
from effnet_ft.errors import EXIT_USER_FAULT, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="ROOT", help="the folder of images, or the manifest")
    add_overrides(parser, ", data.source=manifest or model.variant=b2")
    parser.add_argument("--out", help="folder for the page check.html (default: checks/NAME)")
    quick = "skip the network: no check of labels, no search for cropped duplicates"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON instead of the table")


def run(options: argparse.Namespace) -> int:
    """Return the exit code: 2 if the findings are serious."""
    from pathlib import Path

    from effnet_ft.recipe import load_recipe

    needed = ["data.root"] if options.quick else ["data.root", "model.weights"]
    recipe = load_recipe("folder", [f"data.root={options.root}", *options.overrides], needed)

    from effnet_ft.inspection.check_report import PAGE, table, write_check
    from effnet_ft.inspection.inspect import inspect

    name = Path(options.root).resolve().name.removesuffix(".csv")
    folder = Path(options.out or Path("checks") / name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out is '{folder}', which cannot be created: {error}") from error
    check_outputs(str(folder / PAGE))
    inspection = inspect(recipe, options.quick)
    page = write_check(inspection, folder)
    print(json.dumps(inspection.to_dict(), indent=1) if options.json else table(inspection, page))
    return EXIT_USER_FAULT if inspection.serious else 0
