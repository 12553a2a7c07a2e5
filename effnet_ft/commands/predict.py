"""Predict the classes of images: files, folders or patterns."""

import argparse

from effnet_ft.commands.arguments import add_images, add_run, at_least, check_outputs, warn_if_unfinished
from effnet_ft.errors import EXIT_USER_FAULT


def configure(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_images(parser, "PATH")
    parser.add_argument("--top-k", type=at_least(1), default=5, help="classes to give for each image (default 5)")
    text = "answer only above the confidence at which at least this share of answers is correct, e.g. 0.95"
    parser.add_argument("--precision", type=float, help=text)
    parser.add_argument("--out", help="write the CSV to this file instead of the terminal")


def run(options: argparse.Namespace) -> int:
    check_outputs(options.out)
    warn_if_unfinished(options.run)

    from effnet_ft.inference.files import predict_files

    unreadable = predict_files(options.run, options.paths, options.top_k, options.out, options.precision)
    return EXIT_USER_FAULT if unreadable else 0
