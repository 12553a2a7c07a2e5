"""Export a run's model: as ONNX or torch.export, or as weights for this or another library."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from effnet_ft.commands.arguments import add_overrides, add_run
from effnet_ft.commands.shell import check_outputs
from effnet_ft.errors import DataError, UsageError
from effnet_ft.export.formats import FORMATS, require_suffix
from effnet_ft.inference.backends import PROGRAMS

if TYPE_CHECKING:
    from effnet_ft.data.splits.split import Split
    from effnet_ft.models.classifier import Classifier


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        required=True,
        help="a program (onnx, torch-export), our own weights (safetensors), or weights for another library",
    )
    parser.add_argument(
        "--int8", action="store_true", help="ONNX in 8-bit integers, its loss measured; for Lite variants"
    )
    parser.add_argument("--out", required=True, help="the file to write")
    add_overrides(parser, ": where the run's images are now, to check the export on")


def run(options: argparse.Namespace) -> int:
    """Return the exit code."""
    check_outputs(options.out)
    require_suffix(options.format, Path(options.out))
    if options.int8 and options.format != "onnx":
        raise UsageError(f"--int8 writes ONNX files, not {options.format}: use --format onnx")

    from effnet_ft.runs.run_folder import load_model

    model = load_model(options.run)
    told = _quantised(model, options) if options.int8 else _written(model, options)
    print(f"wrote {options.out}: {model.variant.name} of {len(model.classes)} classes; load it by")
    print("\n".join(told))
    return 0


def _written(model: Classifier, options: argparse.Namespace) -> list[str]:
    """Export the model and return the lines to print."""
    from effnet_ft.export.exported_network import describe_input
    from effnet_ft.export.exporting import export
    from effnet_ft.export.verification import held_out_images

    try:
        pictures = held_out_images(_split(model, options))
    except DataError:
        if options.overrides:
            raise
        pictures = None
    done = export(model, options.format, Path(options.out), pictures)
    view, lines = model.preprocessing, [done.usage]
    if options.format in PROGRAMS:
        lines.append(f"or in another program: it takes {describe_input(view)}")
    elif options.format != "safetensors":
        lines.append(
            f"and give it RGB images of {view.size} px, (value - mean) / std on 0..255 with "
            f"mean {view.mean} and std {view.std}"
        )
        if model.temperature != 1:
            lines.append(f"its logits, divided by {model.temperature:.4g}, have the calibrated probabilities")
    checked = f"checked on {done.checked_on}: probabilities differ from the run's by at most {done.difference:.2g}"
    return [*lines, checked]


def _quantised(model: Classifier, options: argparse.Namespace) -> list[str]:
    """Export the model in 8-bit integers and return the lines to print."""
    from effnet_ft.export.int8 import export_int8

    done = export_int8(model, Path(options.out), _split(model, options))
    points = 100 * (done.before - done.after)
    change = f"{abs(points):.1f} points {'lost' if points >= 0 else 'gained'}"
    measure = "mean average precision" if model.multilabel else "accuracy"
    return [
        done.usage,
        f"measured on {done.images} images of the {done.part} split: {measure} {100 * done.after:.1f}%, the run's "
        f"{100 * done.before:.1f}%: {change}; {100 * done.agreement:.1f}% of the answers are the same",
    ]


def _split(model: Classifier, options: argparse.Namespace) -> Split:
    """Return the run's own images.

    Raises:
        DataError: where they are not there.
    """
    from effnet_ft.export.verification import run_split
    from effnet_ft.runs.run_folder import Run, is_run

    if not is_run(options.run):
        raise DataError(f"'{options.run}' is a model without its images: give the run folder")
    return run_split(Run(options.run), model.classes, options.overrides)
