"""Lightning's loggers, by name."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from effnet_ft.errors import MissingPackageError

LOGGERS: dict[str, Callable[[Path], Logger]] = {
    "tensorboard": lambda run: TensorBoardLogger(run, name="tensorboard", version="", default_hp_metric=False),
    "wandb": lambda run: WandbLogger(name=run.name, save_dir=run, project="effnet_ft"),
    # to MLFLOW_TRACKING_URI if set
    "mlflow": lambda run: MLFlowLogger(experiment_name="effnet_ft", run_name=run.name, save_dir=str(run / "mlruns")),
}
"""Loggers by the recipe's names, each built for a run folder. A new one is a line here."""


def build_loggers(names: Sequence[str], folder: Path) -> list[Logger]:
    """Return the loggers named, for the run ``folder``; a :class:`MissingPackageError` if one is not installed."""
    loggers = []
    for name in names:
        try:
            loggers.append(LOGGERS[name](folder))
        except ModuleNotFoundError as error:
            text = f"trainer.loggers names '{name}', which is not installed: pip install {name}"
            raise MissingPackageError(text) from error
    return loggers


def log_result(loggers: Sequence[Logger], metrics: Mapping[str, float], epochs: int) -> None:
    """Log the final metrics after the last epoch, without each label's F1, whose name a logger may not accept."""
    for logger in loggers:
        logger.log_metrics({name: value for name, value in metrics.items() if "/f1/" not in name}, step=epochs)
        logger.finalize("success")
