"""Write a run's model as a file that other libraries load."""

from __future__ import annotations

import argparse
from pathlib import Path

from effnet_ft.commands.arguments import add_run
from effnet_ft.commands.shell import check_outputs
from effnet_ft.results.export import FORMATS


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run(parser)
    parser.add_argument("--format", choices=tuple(FORMATS), required=True, help="whose names the file's tensors bear")
    parser.add_argument("--out", required=True, help="the file to write")


def run(options: argparse.Namespace) -> int:
    """Return the exit code."""
    check_outputs(options.out)

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
