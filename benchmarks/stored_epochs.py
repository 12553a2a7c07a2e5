"""Epochs from the activation store beside timm's epochs over the same images, B0 at 224 px.

    python benchmarks/stored_epochs.py FOLDER [--gpu]       # FOLDER: class folders, e.g. Flowers-17's train/

timm as its users run it: its model, ``create_transform``, ``create_loader``, AdamW, a plain loop; with its backbone
frozen, and training everything. Ours: Lightning's Trainer over stored activations, the head alone, and stages 6 to 8
with it, and the pass over the images that fills the store. Images a second of whole epochs, without validation; same
batch and arithmetic. On the CPU, timm's epochs are taken over a share of the images, named in the table.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import timm
import timm.data
import torch
import torch.nn.functional as F
from common import Table, machine

from effnet_ft.cache import ArrayCache
from effnet_ft.data.sources import scan_folder
from effnet_ft.data.splits import Split
from effnet_ft.data.stored import StoredDataModule
from effnet_ft.data.views import Views
from effnet_ft.models.creation import create_model
from effnet_ft.models.variants import STAGES
from effnet_ft.process import tune_process
from effnet_ft.training.activations import ActivationStore, StoreSettings
from effnet_ft.training.console import quiet_lightning
from effnet_ft.training.module import FineTuner

BATCH = 32
EPOCHS = {STAGES: 10, 6: 2}


def of_timm(root: Path, device: str, frozen: bool, images: int, workers: int) -> float:
    """Return images a second of an epoch over ``images`` images, after one over a few to warm up."""
    dataset = timm.data.create_dataset("", root=str(root))
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


def of_ours(split: Split, store: ActivationStore, cut: int, device: str) -> float:
    """Return images a second of an epoch, a short training taken from a long one."""
    model = create_model("b0", "none", classes=split.classes)
    views = Views(model.preprocessing, "basic", 4, (0,))
    train, val = store.arrays(model, views, [6, STAGES])[cut]
    labels = (split.labels(split.train), split.labels(split.val))

    def fit(epochs: int) -> float:
        model.freeze(cut, "frozen")
        data = StoredDataModule(train, val, labels, views, batch_size=BATCH)
        trainer = pl.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if device == "cuda" else "32-true",
            max_epochs=epochs,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        start = time.perf_counter()
        trainer.fit(FineTuner(model, lr=1e-3, label_smoothing=0.1, stored=True), datamodule=data)
        return time.perf_counter() - start

    count = EPOCHS[cut]
    with quiet_lightning():
        fit(1)
        return count * len(split.train) / (fit(1 + count) - fit(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    tune_process()
    logging.basicConfig(level=logging.WARNING)
    device = "cuda" if options.gpu else "cpu"
    source = scan_folder(options.folder)
    samples = source.part("all")
    split = Split(source.root, source.classes, samples, samples[:BATCH], [])
    share = len(samples) if options.gpu else 256
    title = "Epochs from the activation store, B0 at 224 px, batch 32, 4 views"
    table = Table(title, machine(), ["", "images/s", "times timm, frozen", "times timm, everything"])
    with tempfile.TemporaryDirectory() as folder:
        settings = StoreSettings(device=torch.device(device), autocast=torch.bfloat16 if options.gpu else None)
        store = ActivationStore(split, settings, ArrayCache(Path(folder)))
        start = time.perf_counter()
        model = create_model("b0", "none", classes=split.classes)
        store.arrays(model, Views(model.preprocessing, "basic", 4, (0,)), [6, STAGES])
        passes = {"the pass that fills the store (views)": 4 * len(samples) / (time.perf_counter() - start)}
        frozen = of_timm(source.root, device, True, share, options.workers)
        everything = of_timm(source.root, device, False, share, options.workers)
        torch.manual_seed(0)
        stored = ActivationStore(split, settings, ArrayCache(Path(folder)))
        speeds = {
            f"timm, frozen backbone, {share} images": frozen,
            f"timm, everything, {share} images": everything,
            **passes,
            "ours, head, from the store": of_ours(split, stored, STAGES, device),
            "ours, stages 6 to 8 and head, from the store": of_ours(split, stored, 6, device),
        }
    for name, speed in speeds.items():
        table.row(name, f"{speed:.0f}", f"{speed / frozen:.1f}", f"{speed / everything:.1f}")
    table.finish(f"stored_epochs_{device}")


if __name__ == "__main__":
    main()
