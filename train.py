"""Fine-tune an EfficientNet: ``python train.py RECIPE [key=value ...]``."""

import sys

from effnet_ft.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
