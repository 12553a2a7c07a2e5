"""Draw pictures of flowers and fine-tune on them; needs no download."""

import argparse
from pathlib import Path

from effnet_ft.commands import train
from effnet_ft.commands.arguments import add_overrides

DEMO_FOLDER = Path("data/drawn-flowers")


def configure(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser)


def run(options: argparse.Namespace) -> int:
    from effnet_ft.data.demo_flowers import draw_flowers

    print(f"drawing flowers in {DEMO_FOLDER} ...", flush=True)
    draw_flowers(DEMO_FOLDER)
    options.recipe = "demo"
    return train.run(options)
