"""Time and memory of loading a B7 checkpoint, beside ``torch.load`` of the same file.

    python benchmarks/loading.py

Each measurement is a process of its own, in turn; the file is in the page cache. Time: the call alone, after the
imports. Memory: the highest resident set during the call, less that before it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from common import Table, machine

PROGRAM = """
import json, resource, sys, time
import torch
import effnet_ft
from effnet_ft.models import creation
torch.set_num_threads(2)

def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

def now():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024

def torch_load(file):
    return torch.load(file, weights_only=True)

def timm_create(file):
    import timm
    return timm.create_model("tf_efficientnet_b7", checkpoint_path=file)

def ours(file):
    return effnet_ft.create_model("b7", file, family="aa")

def ours_hashed(file):
    return effnet_ft.create_model("b7", file)

if sys.argv[1] == "timm_create":
    import timm
open("/proc/self/clear_refs", "w").write("5")  # the highest resident set is counted from here
before, start = now(), time.perf_counter()
model = globals()[sys.argv[1]](sys.argv[2])
print(json.dumps({"seconds": time.perf_counter() - start, "bytes": peak() - before}))
"""


def measure(call: str, file: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, call, str(file)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    import torch

    from effnet_ft.models.creation import create_model
    from effnet_ft.models.weights.key_maps import from_our_keys

    with tempfile.TemporaryDirectory() as folder:
        model = create_model("b7", "none")
        files = {}
        for layout in ("openmmlab", "timm"):
            files[layout] = Path(folder) / f"b7-{layout}.pth"
            state = {key: value.contiguous() for key, value in model.state_dict().items()}
            torch.save({"state_dict": from_our_keys(state, model.variant, layout)}, files[layout])
        calls = {
            "torch.load": ("torch_load", files["openmmlab"]),
            "effnet_ft.create_model": ("ours", files["openmmlab"]),
            "timm.create_model": ("timm_create", files["timm"]),
        }
        results: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
        for _ in range(options.rounds):
            for name, call in calls.items():
                results[name].append(measure(*call))
    table = Table("Loading a B7 checkpoint of 1,000 classes", machine(), ["", "s", "ratio", "peak MiB", "ratio"])
    base = {key: median(result[key] for result in results["torch.load"]) for key in ("seconds", "bytes")}
    for name, rows in results.items():
        seconds, size = (median(row[key] for row in rows) for key in ("seconds", "bytes"))
        table.row(
            name,
            f"{seconds:.2f}",
            f"{seconds / base['seconds']:.2f}",
            f"{size / 2**20:.0f}",
            f"{size / base['bytes']:.2f}",
        )
    table.finish("loading")


if __name__ == "__main__":
    main()
