"""Compare runs: metrics, recipes, learning curves, and the images that they predict differently."""

import argparse
import sys
from pathlib import Path

from effnet_ft.commands.arguments import check_outputs
from effnet_ft.utils.tables import columns
from effnet_ft.utils.text import escape_control_characters


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders, two or more")
    parser.add_argument("--out", default="compare.html", help="write the page to this file; default: compare.html")


def run(options: argparse.Namespace) -> int:
    from effnet_ft.report.comparison import compare, write_comparison

    check_outputs(options.out)
    comparison = compare([Path(name) for name in options.runs])
    head = ["run", *comparison.metrics[0]]
    cells = zip(comparison.names, comparison.metrics, strict=True)
    rows = [head, *([name, *(cell.text for cell in metrics.values())] for name, metrics in cells)]
    parts = [columns(rows, right=range(1, len(head)))]
    if comparison.differences:
        changed = [[key, *values] for key, values in comparison.differences]
        parts.append(columns([["recipe", *comparison.names], *changed]))
    if not comparison.mismatch:
        lines = [f"predicted differently: {len(comparison.disagreements)} of {len(comparison.predictions)} images"]
        lines += [
            f"correct: only {pair.first} {pair.only_first}, only {pair.second} {pair.only_second}; "
            f"McNemar's test: p = {pair.p_value:.3g}"
            for pair in comparison.pairs
        ]
        parts.append("\n".join(lines))
    print(escape_control_characters("\n\n".join(parts)))
    if comparison.mismatch:
        print(f"effnet-ft: {escape_control_characters(comparison.mismatch)}", file=sys.stderr)
    print(f"\npage: {write_comparison(comparison, Path(options.out))}")
    return 0
