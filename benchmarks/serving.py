"""Images a second of one Lite0 as PyTorch, torch.export, ONNX and ONNX in 8-bit integers serve it.

    python benchmarks/serving.py ROOT       # Flowers-17, with train/ and test/

The model is trained first, by ``folder_quick``. Every side has the same predictor, from JPEG files to probabilities;
beside it the network alone, on images that are prepared, eight at once on each core, as the predictor does it. Each
measurement is a process of its own; sides take turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from common import Table, in_process, machine

EXPORTS = {
    "torch.export": ("torch.pt2", ["--format", "torch-export"]),
    "ONNX": ("float.onnx", ["--format", "onnx"]),
    "ONNX, int8": ("int8.onnx", ["--format", "onnx", "--int8"]),
}
AT_ONCE = 8


def measure(file: Path, run: Path) -> dict[str, float]:
    """Return images/s of ``file`` on the test images of ``run``, and how many it gets right."""
    import numpy as np
    import torch

    import effnet_ft
    from effnet_ft.data.images.decoding import as_rgb
    from effnet_ft.export.verification import run_split
    from effnet_ft.runs.run_folder import Run

    predictor = effnet_ft.load(file, "cpu")
    split = run_split(Run(run), predictor.classes)
    images = [split.image(sample) for sample in split.test]
    predictor.probabilities(images[: 4 * AT_ONCE])  # the first calls choose how to compute
    start = time.perf_counter()
    answers = predictor.probabilities(images)
    from_files = len(images) / (time.perf_counter() - start)
    right = int((answers.argmax(1) == split.labels(split.test)).sum())

    prepared = np.stack([predictor.preprocessing(as_rgb(image)) for image in images])
    batches = torch.from_numpy(prepared).permute(0, 3, 1, 2).split(AT_ONCE)
    compute = torch.inference_mode()(predictor.forward)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        list(pool.map(compute, batches))
        alone = len(images) / (time.perf_counter() - start)
    return {"from files": from_files, "alone": alone, "right": right, "images": len(images)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, nargs="?", default=Path("../shared/data/flowers17"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", type=Path, help="a finished run on ROOT; default: one is made")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file:
        print(json.dumps(measure(options.file, options.run)))
        return
    from effnet_ft.cli import main as command

    with tempfile.TemporaryDirectory() as folder:
        run = options.run or Path(folder) / "run"
        failed = not options.run and command(["train", "folder_quick", f"data.root={options.root}", f"run_dir={run}"])
        files = {"PyTorch": run / "checkpoints" / "best.ckpt"}
        for name, (file, how) in EXPORTS.items():
            files[name] = Path(folder) / file
            failed = failed or command(["export", str(run), *how, "--out", str(files[name])])
        if failed:
            raise SystemExit("no model to measure")
        found: dict[str, list[dict[str, float]]] = {name: [] for name in files}
        for _ in range(options.rounds):
            for name, file in files.items():
                found[name].append(in_process(options.root, "--run", run, "--file", file))
        sizes = {name: file.stat().st_size / 1e6 for name, file in files.items()}
    columns = ["", "from files, images/s", "ratio", "network alone, images/s", "ratio", "right", "file, MB"]
    table = Table("Serving Lite0", machine(), columns)
    middle = {name: {key: median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()}
    for name, row in middle.items():
        speeds = ((row[key], row[key] / middle["PyTorch"][key]) for key in ("from files", "alone"))
        cells = [text for speed, ratio in speeds for text in (f"{speed:.0f}", f"{ratio:.2f}")]
        table.row(name, *cells, f"{row['right']:.0f} of {row['images']:.0f}", f"{sizes[name]:.1f}")
    table.note("PyTorch's file is the checkpoint, which training can go on from.")
    table.finish("serving")


if __name__ == "__main__":
    main()
