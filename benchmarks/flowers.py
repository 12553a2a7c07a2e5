"""From the command to a classifier of Flowers-17: this project's default recipe beside timm, Lite0 at 224 px.

    python benchmarks/flowers.py ROOT       # with train/ and test/

timm as its users run it: its model with the same pretrained weights, ``create_transform``, ``create_loader``, AdamW
0.001, batch 32, a plain loop over everything, a cosine schedule over three epochs; the test set is measured after each,
and it ends where 95% are right. Ours: ``python train.py``, by the recipes named, on an empty cache to the finished
run folder, and then again with another learning rate. Wall time of whole processes, imports included; they run one
after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from common import Table, in_process, machine, peak_mib

TIMM_EPOCHS = 3


def timm_side(root: Path) -> dict[str, float]:
    import timm
    import timm.data

    from effnet_ft.models.creation import create_model
    from effnet_ft.models.weights.key_maps import from_our_keys

    pretrained = create_model("lite0", "lite")
    state = from_our_keys(pretrained.state_dict(), pretrained.variant, "timm")
    state = {key: value for key, value in state.items() if not key.startswith("classifier")}
    sets = {part: timm.data.create_dataset("", root=str(root / part)) for part in ("train", "test")}
    model = timm.create_model("tf_efficientnet_lite0", num_classes=len(sets["train"].reader.class_to_idx))
    model.load_state_dict(state, strict=False)
    look = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3, "interpolation": "bicubic", "num_workers": 2}
    loaders = {
        part: timm.data.create_loader(
            sets[part], 224, 32, is_training=part == "train", use_prefetcher=False, auto_augment=None, **look
        )
        for part in sets
    }
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, TIMM_EPOCHS * len(loaders["train"]))
    accuracy, epoch = 0.0, 0
    while accuracy < 0.95 and epoch < TIMM_EPOCHS:
        epoch += 1
        model.train()
        for x, labels in loaders["train"]:
            loss = F.cross_entropy(model(x), labels, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            right = sum((model(x).argmax(1) == labels).sum().item() for x, labels in loaders["test"])
        accuracy = right / len(sets["test"])
    return {"accuracy": accuracy, "epochs": epoch, "memory": peak_mib()}


def our_side(root: Path, cache: Path, run: Path, recipe: str, *overrides: str) -> dict[str, float]:
    command = [sys.executable, "train.py", recipe, f"data.root={root}", f"run_dir={run}", *overrides]
    begun = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "EFFNET_FT_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    seconds = time.perf_counter() - begun
    metrics = json.loads((run / "metrics.json").read_text())
    return {"accuracy": metrics["test/acc1"], "seconds": seconds, "memory": usage.ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, nargs="?", default=Path("../shared/data/flowers17"))
    parser.add_argument("--timm", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    root = options.root.resolve()
    if options.timm:
        print(json.dumps(timm_side(root)))
        return
    title = "Flowers-17 with Lite0, from the command to the result"
    table = Table(title, machine(), ["", "test accuracy", "s", "ratio", "peak MiB"])
    rows: dict[str, dict[str, float]] = {}
    begun = time.perf_counter()
    theirs = in_process(root, "--timm")
    theirs["seconds"] = time.perf_counter() - begun
    rows[f"timm, {theirs['epochs']:.0f} epochs of everything"] = theirs
    with tempfile.TemporaryDirectory() as folder:
        for recipe, rate in (("folder_quick", "phases.1.lr=2.5e-3"), ("folder", "phases.1.lr=7e-4")):
            for number, overrides in enumerate(([], [rate]), start=1):
                run, cache = Path(folder) / f"{recipe}-{number}", Path(folder) / recipe
                name = f"effnet_ft, {recipe}, " + ("first run", "second run, another learning rate")[number - 1]
                rows[name] = our_side(root, cache, run, recipe, *overrides)
    for name, row in rows.items():
        ratio = f"{row['seconds'] / theirs['seconds']:.3f}"
        table.row(name, f"{row['accuracy']:.3f}", f"{row['seconds']:.0f}", ratio, f"{row['memory']:.0f}")
    table.finish("flowers")


if __name__ == "__main__":
    main()
