"""Write a run's model as a file to ship: a program, or weights that other libraries load."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from effnet_ft.commands.arguments import add_overrides, add_run
from effnet_ft.commands.shell import check_outputs
from effnet_ft.errors import DataError
from effnet_ft.results.export.formats import FORMATS, PROGRAMS, require_ending

if TYPE_CHECKING:
    from effnet_ft.models.classifier import Classifier
    from effnet_ft.results.export.checking import Pictures


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        required=True,
        help="a program (onnx, torch-export), our own weights, or weights under another library's names",
    )
    parser.add_argument("--out", required=True, help="the file to write")
    add_overrides(parser, ": where the run's images lie now, to check the export on")


def run(options: argparse.Namespace) -> int:
    """Return the exit code."""
    check_outputs(options.out)
    require_ending(options.format, Path(options.out))

    from effnet_ft.results.export.writing import export
    from effnet_ft.results.run import load_model

    model = load_model(options.run)
    done = export(model, options.format, Path(options.out), _pictures(options, model))
    view = model.preprocessing
    print(f"wrote {options.out}: {model.variant.name} of {len(model.classes)} classes; load it by\n{done.usage}")
    if options.format in PROGRAMS:
        from effnet_ft.results.export.serving import in_words

        print(f"or in another program: it takes {in_words(view)}")
    elif options.format != "safetensors":
        print(
            f"and give it RGB images of {view.size} px, (value - mean) / std on 0..255 with "
            f"mean {view.mean} and std {view.std}"
        )
    print(f"checked on {done.pictures}: probabilities differ from the run's by at most {done.difference:.2g}")
    return 0


def _pictures(options: argparse.Namespace, model: Classifier) -> Pictures | None:
    """Return the run's own images to check the export on; None where they are not there and none were named."""
    from effnet_ft.results.export.checking import pictures_of, run_split
    from effnet_ft.results.run import Run, is_run

    if not is_run(options.run):
        return None
    try:
        return pictures_of(run_split(Run(options.run), model.classes, options.overrides))
    except DataError:
        if options.overrides:
            raise
        return None
