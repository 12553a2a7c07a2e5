"""A hyperparameter sweep: trains a recipe at many settings and ranks them on the validation images."""

from effnet_ft.sweep.definition import Sweep, plan_sweep
from effnet_ft.sweep.results import Result, over_seeds, results_text
from effnet_ft.sweep.train import best_of, run_sweep, train_final
