"""Epochs from the activation store beside timm's epochs over the same images, B0 at 224 px.

    python benchmarks/stored_epochs.py [FOLDER] [--gpu]     # FOLDER: class folders, e.g. Flowers-17's train/

timm as its users run it: its model, ``create_transform``, ``create_loader``, AdamW, a plain loop; with its backbone
frozen, and training everything. Ours: Lightning's Trainer over stored activations, the head alone, and stages 6 to 8
with it, and the pass over the images that fills the store. Images a second of whole epochs, without validation; same
batch and arithmetic; each side in a process of its own, in turn; medians of rounds. On the CPU, timm's epochs are taken
over 256 of the images.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import timm
import timm.data
import torch
import torch.nn.functional as F
from common import Table, bare_trainer, in_process, machine, peak_mib

from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.activations.store import ActivationStore, ComputeSettings
from effnet_ft.data.images.views import Views
from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.splits.split import Split
from effnet_ft.models.creation import create_model
from effnet_ft.models.variants import STAGES
from effnet_ft.optim.settings import Optimization
from effnet_ft.planning.facts import image_facts, machine_facts
from effnet_ft.planning.planner import make_plan
from effnet_ft.planning.weights import choose_weights
from effnet_ft.recipe import load_recipe
from effnet_ft.training.console import quiet_lightning
from effnet_ft.training.lr_finder.head_grid import search_head_grid
from effnet_ft.training.module import FineTuner
from effnet_ft.utils.array_cache import ArrayCache
from effnet_ft.utils.process_settings import tune_process

BATCH, VIEWS = 32, 4
EPOCHS = {STAGES: 10, 6: 1}
SEARCH = "search"


def of_timm(options: argparse.Namespace, frozen: bool) -> float:
    """Return images a second of an epoch, on the CPU of a share of one, after a few steps to warm up."""
    device, workers = options.device, options.workers
    dataset = timm.data.create_dataset("", root=options.folder)
    images = len(dataset) if device == "cuda" else 8 * BATCH
    model = timm.create_model("tf_efficientnet_b0", num_classes=len(dataset.reader.class_to_idx)).to(device).train()
    if frozen:
        model.requires_grad_(False)
        model.classifier.requires_grad_(True)
    optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
    scaled = device == "cuda"

    def epoch(count: int) -> float:
        part = torch.utils.data.Subset(dataset, np.random.default_rng(0).permutation(len(dataset))[:count].tolist())
        loader = timm.data.create_loader(
            part, 224, BATCH, is_training=False, use_prefetcher=scaled, num_workers=workers, device=torch.device(device)
        )
        # The loader sets an attribute of the subset, which nobody reads.
        dataset.transform = timm.data.create_transform(224, is_training=True, auto_augment=None, use_prefetcher=scaled)
        start = time.perf_counter()
        for x, labels in loader:
            with torch.autocast(device, torch.bfloat16, enabled=scaled):
                loss = F.cross_entropy(model(x.to(device)), labels.to(device), label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if scaled:
            torch.cuda.synchronize()
        return count / (time.perf_counter() - start)

    epoch(4 * BATCH)
    return epoch(images)


class Ours:
    """A split, and the store of its activations in ``cache``."""

    def __init__(self, root: Path, device: str, cache: Path) -> None:
        tune_process()
        source = scan_folder(root)
        samples = source.part("all")
        self.device = device
        self.split = Split(source.root, source.classes, samples, samples[:BATCH], [])
        self.model = create_model("b0", "none", classes=source.classes)  # as it is drawn, the seed being set
        self.views = Views(self.model.preprocessing, "basic", VIEWS, (0,))
        kind = torch.bfloat16 if device == "cuda" else None
        settings = ComputeSettings(device=torch.device(device), autocast=kind)
        self.store = ActivationStore(self.split, settings, ArrayCache(cache))

    def fill(self) -> float:
        """Return views a second of the pass over the images that fills the store."""
        start = time.perf_counter()
        self.store.arrays(self.model, self.views, [6, STAGES])
        return (VIEWS * len(self.split.train) + len(self.split.val)) / (time.perf_counter() - start)

    def train(self, cut: int) -> float:
        """Return images a second of an epoch, a short training taken from a long one."""
        train, val = self.store.arrays(self.model, self.views, [6, STAGES])[cut]
        labels = (self.split.labels(self.split.train), self.split.labels(self.split.val))

        def fit(epochs: int) -> float:
            self.model.freeze(cut, "frozen")
            data = ActivationDataModule(train, val, labels, self.views, batch_size=BATCH)
            trainer = bare_trainer(self.device, "bf16-mixed" if self.device == "cuda" else "32-true", epochs)
            start = time.perf_counter()
            trainer.fit(FineTuner(self.model, Optimization(lr=1e-3, label_smoothing=0.1), stored=True), datamodule=data)
            return time.perf_counter() - start

        count = EPOCHS[cut]
        with quiet_lightning():
            fit(1)
            return count * len(self.split.train) / (fit(1 + count) - fit(1))

    def choose(self) -> float:
        """Return the seconds in which ``lr: auto`` searches its grid for the head, on two views of every image."""
        train, _ = self.store.arrays(self.model, self.views, [6, STAGES])[STAGES]
        labels = self.split.labels(self.split.train)
        two = Views(self.model.preprocessing, "basic", 2, (0,))
        data = ActivationDataModule(train[:2], train[0], (labels, labels), two, batch_size=BATCH)
        recipe = load_recipe("folder", ["data.root=x", "phases=[{train: head, epochs: 20, lr: auto}]"])
        plan = make_plan(recipe, image_facts(self.split), choose_weights(recipe.model, recipe.data), machine_facts())
        features, classes, (phase,) = self.model.variant.features, len(self.split.classes), plan.phases
        start = time.perf_counter()
        search_head_grid(data, features, classes, phase, torch.device(self.device))
        return time.perf_counter() - start


SIDES = {
    "timm, frozen backbone": lambda options: of_timm(options, True),
    "timm, everything": lambda options: of_timm(options, False),
    "effnet_ft, the pass that fills the store (views)": lambda options: ours(options).fill(),
    "effnet_ft, head, from the store": lambda options: ours(options).train(STAGES),
    "effnet_ft, stages 6 to 8 and head, from the store": lambda options: ours(options).train(6),
    SEARCH: lambda options: ours(options).choose(),
}


def ours(options: argparse.Namespace) -> Ours:
    torch.manual_seed(0)  # the same network in every process
    return Ours(options.folder, options.device, Path(options.cache))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default="../shared/data/flowers17/train")
    parser.add_argument("--gpu", dest="device", action="store_const", const="cuda", default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="reading processes of timm's loader")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        logging.basicConfig(level=logging.WARNING)
        print(json.dumps({"value": SIDES[options.side](options), "memory": peak_mib()}))
        return
    title = f"Epochs from the activation store, B0 at 224 px, batch {BATCH}, {VIEWS} views"
    table = Table(title, machine(), ["", "images/s", "times timm, frozen", "times timm, everything", "peak MiB"])
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    passed = ["--gpu"] if options.device == "cuda" else []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as cache:
            for name, rounds in found.items():
                more = ["--workers", options.workers, "--side", name, "--cache", cache]
                rounds.append(in_process(options.folder, *passed, *more))
    value, memory = (
        {name: median(one[key] for one in rounds) for name, rounds in found.items()} for key in ("value", "memory")
    )
    frozen, everything = value["timm, frozen backbone"], value["timm, everything"]
    for name in SIDES:
        if name != SEARCH:
            ratios = (f"{value[name] / base:.1f}" for base in (frozen, everything))
            table.row(name, f"{value[name]:.0f}", *ratios, f"{memory[name]:.0f}")
    table.note(f"`lr: auto` for the head: 56 settings on 2 views of every image in {value[SEARCH]:.1f} s.")
    table.finish(f"stored_epochs_{options.device}")


if __name__ == "__main__":
    main()
