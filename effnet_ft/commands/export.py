"""Export a run's model: as ONNX or torch.export, or as weights for this or another library."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from effnet_ft.commands.arguments import add_overrides, add_run, check_outputs, warn_if_unfinished
from effnet_ft.errors import DataError, UsageError
from effnet_ft.export.formats import FORMATS, PROGRAMS, require_suffix
from effnet_ft.utils.text import counted

if TYPE_CHECKING:
    from effnet_ft.data.splits.split import Split
    from effnet_ft.models.classifier import Classifier


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    text = "a program (onnx, torch-export), our own weights (safetensors), or weights for another library"
    parser.add_argument("--format", choices=FORMATS, required=True, help=text)
    text = "ONNX in 8-bit integers, with the loss of accuracy measured; for Lite variants"
    parser.add_argument("--int8", action="store_true", help=text)
    parser.add_argument("--out", required=True, help="the file to write")
    add_overrides(parser, ": where the run's images are now, to check the export on")


def run(options: argparse.Namespace) -> int:
    check_outputs(options.out)
    warn_if_unfinished(options.run)
    require_suffix(options.format, Path(options.out))
    if options.int8 and options.format != "onnx":
        raise UsageError(f"--int8 writes ONNX files, not {options.format}: use --format onnx")

    from effnet_ft.runs.run_folder import load_model

    model = load_model(options.run)
    lines = _quantise(model, options) if options.int8 else _export(model, options)
    print(f"wrote {options.out}: {model.variant.name}, {counted(len(model.classes), 'class')}; load it with")
    print("\n".join(lines))
    return 0


def _export(model: Classifier, options: argparse.Namespace) -> list[str]:
    from effnet_ft.export.exporting import export
    from effnet_ft.export.programs import describe_input
    from effnet_ft.export.verification import held_out_images

    try:
        images = held_out_images(_run_images(model, options))
    except DataError:
        if options.overrides:
            raise
        images = None
    result = export(model, options.format, Path(options.out), images)
    preprocessing, lines = model.preprocessing, [result.usage]
    if options.format in PROGRAMS:
        lines.append(f"or use it in another program: it takes {describe_input(preprocessing)}")
    elif options.format != "safetensors":
        lines.append(
            f"its input: RGB images of {preprocessing.size} px, (value - mean) / std on 0..255 with "
            f"mean {preprocessing.mean} and std {preprocessing.std}"
        )
        if model.temperature != 1:
            lines.append(f"divide its logits by {model.temperature:.4g} for calibrated probabilities")
    checked = f"checked on {result.checked_on}: probabilities differ from the run's by at most {result.difference:.2g}"
    return [*lines, checked]


def _quantise(model: Classifier, options: argparse.Namespace) -> list[str]:
    from effnet_ft.export.int8 import export_int8

    result = export_int8(model, Path(options.out), _run_images(model, options))
    points = 100 * (result.before - result.after)
    change = f"{abs(points):.1f} points {'lost' if points >= 0 else 'gained'}"
    measure = "mean average precision" if model.multilabel else "accuracy"
    return [
        result.usage,
        f"measured on {counted(result.images, 'image')} of the {result.part} split: {measure} "
        f"{100 * result.after:.1f}%, the run's {100 * result.before:.1f}%: {change}; "
        f"{100 * result.agreement:.1f}% of the predictions are the same",
    ]


def _run_images(model: Classifier, options: argparse.Namespace) -> Split:
    """Return the run's own images; DataError if they are missing."""
    from effnet_ft.export.verification import run_split
    from effnet_ft.runs.run_folder import Run, is_run

    if not is_run(options.run):
        raise DataError(f"'{options.run}' is a model file without images: give the run folder")
    return run_split(Run(options.run), model.classes, options.overrides)
