"""The progress bar of a training on a terminal."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from effnet_ft.models.variants import train_of
from effnet_ft.training.callbacks.throughput import Throughput
from effnet_ft.training.module import FineTuner


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with phase, loss, accuracy, images per second and the share of time spent waiting for data."""

    def __init__(self, throughput: Throughput, phases: int) -> None:
        super().__init__(refresh_rate=5)
        self.throughput = throughput
        self.phases = phases

    def init_train_tqdm(self) -> Tqdm:
        """Return a bar that is removed at the end of its phase, with room for the values of :meth:`get_metrics`."""
        bar = super().init_train_tqdm()
        bar.leave, bar.bar_format = False, "{desc}{percentage:3.0f}%|{bar}| {remaining}{postfix}"
        return bar

    def on_train_start(self, trainer: Trainer, *args: Any) -> None:
        """Start the bar of an epoch that is resumed partway, for which Lightning has no epoch-start hook."""
        super().on_train_start(trainer, *args)
        if trainer.fit_loop.restarted_mid_epoch:
            self.on_train_epoch_start(trainer, *args)

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Show phase and epoch."""
        super().on_train_epoch_start(trainer, *args)
        module = trainer.lightning_module
        assert isinstance(module, FineTuner)
        self.train_progress_bar.set_description(
            f"phase {module.phase + 1}/{self.phases} {train_of(module.model.cut)}"
            f" epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        )

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the values at the end of the bar, as many as fit into its line."""
        assert isinstance(pl_module, FineTuner)
        speed, bar = self.throughput.speed(self.throughput.epoch), self.train_progress_bar
        values = {
            **{name: f"{float(value):.3f}" for name, value in pl_module.recent.items()},
            "images/s": f"{speed['images_per_second']:.0f}",
            "data wait": f"{speed['data_wait_fraction']:.0%}",
        }
        room = (bar.format_dict["ncols"] or 80) - len(f"{bar.desc}100%|bars| 1:00:00, ")
        while values and len(", ".join(map("=".join, values.items()))) > room:
            values.popitem()
        return values
