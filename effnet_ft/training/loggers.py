"""Lightning's loggers, by name. A new one is a function here and a line in ``LOGGERS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pytorch_lightning.loggers import Logger

from effnet_ft.errors import MissingPackageError


def tensorboard(folder: Path) -> Logger:
    """Write event files to the run folder's ``tensorboard/``."""
    from pytorch_lightning.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False)


def wandb(folder: Path) -> Logger:
    """Send to Weights & Biases, project ``effnet_ft``, under the run folder's name."""
    from pytorch_lightning.loggers import WandbLogger

    return WandbLogger(name=folder.name, save_dir=folder, project="effnet_ft")


def mlflow(folder: Path) -> Logger:
    """Send to MLflow, experiment ``effnet_ft``: to ``MLFLOW_TRACKING_URI``, else to the run's ``mlruns/``."""
    from pytorch_lightning.loggers import MLFlowLogger

    return MLFlowLogger(experiment_name="effnet_ft", run_name=folder.name, save_dir=str(folder / "mlruns"))


LOGGERS: dict[str, Callable[[Path], Logger]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
    "mlflow": mlflow,
}


def build_loggers(names: Sequence[str], folder: Path) -> list[Logger]:
    """Return the loggers named, writing to the run ``folder`` where they write files.

    Raises:
        MissingPackageError: where a logger's package is not installed.
    """
    loggers = []
    for name in names:
        try:
            loggers.append(LOGGERS[name](folder))
        except ModuleNotFoundError as error:
            text = f"trainer.loggers names '{name}', which is not installed: pip install {name}"
            raise MissingPackageError(text) from error
    return loggers


def log_result(loggers: Sequence[Logger], metrics: Mapping[str, float], epochs: int) -> None:
    """Log what ``metrics.json`` holds behind the last epoch; not each label's F1, whose name a logger may not take."""
    for logger in loggers:
        logger.log_metrics({name: value for name, value in metrics.items() if "/f1/" not in name}, step=epochs)
        logger.finalize("success")
