"""Show by Grad-CAM which regions of images support a class."""

import argparse
from pathlib import Path

from effnet_ft.commands.arguments import add_images, add_run, warn_if_unfinished
from effnet_ft.errors import EXIT_USER_FAULT


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_images(parser, "IMAGE")
    parser.add_argument("--class", dest="name", metavar="NAME", help="the class (default: each image's most likely)")
    parser.add_argument("--out", default="explained", metavar="FOLDER", help="for the overlays (default: explained)")


def run(options: argparse.Namespace) -> int:
    warn_if_unfinished(options.run)
    from effnet_ft.inference.files import explain_files

    unreadable = explain_files(options.run, options.paths, options.name, Path(options.out))
    return EXIT_USER_FAULT if unreadable else 0
