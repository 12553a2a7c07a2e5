"""List or remove the stored activations and decoded images that runs share."""

import argparse
import time

from effnet_ft.errors import UsageError
from effnet_ft.utils.text import counted


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "clear"), default="list", help="list or remove them")
    parser.add_argument("--yes", action="store_true", help="confirm clear")


def run(options: argparse.Namespace) -> int:
    from effnet_ft.utils.array_cache import ArrayCache

    cache = ArrayCache()
    entries = cache.entries()
    total = sum(entry.size for entry in entries)
    if options.action == "clear" and not options.yes:
        raise UsageError(
            f"clear removes {counted(len(entries), 'array')}, {total / 1e9:.2f} GB, from {cache.folder}: "
            "confirm with --yes"
        )
    if options.action == "clear":
        cache.clear()
        print(f"removed {counted(len(entries), 'array')}, {total / 1e9:.2f} GB")
        return 0
    for entry in entries:
        hours = (time.time() - entry.used) / 3600
        age = counted(round(hours), "hour") if hours < 48 else counted(round(hours / 24), "day")
        print(f"{entry.size / 1e6:>9.1f} MB  {age + ' ago':<14} {entry.about}")
    print(f"{total / 1e6:>9.1f} MB  in {cache.folder}")
    return 0
