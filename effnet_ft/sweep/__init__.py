"""A hyperparameter sweep: trains a recipe at many settings and ranks them on the validation images."""

from effnet_ft.sweep.definition import Sweep, plan_sweep
from effnet_ft.sweep.results import Result, results_text
from effnet_ft.sweep.train import best_of, run_sweep, train_final

__all__ = ["Result", "Sweep", "best_of", "plan_sweep", "results_text", "run_sweep", "train_final"]
