"""What comes after the last step: the best model measured, and the run folder completed."""

from __future__ import annotations

import logging

from effnet_ft.data.splits import Split
from effnet_ft.processes import from_main, is_main_process
from effnet_ft.recipe import Recipe
from effnet_ft.results.evaluate import measure, write_json
from effnet_ft.results.predict import Predictor
from effnet_ft.results.report import write_report
from effnet_ft.results.run import Run, keep_thresholds, load_model, read_checkpoint
from effnet_ft.training.callbacks import Stopwatch
from effnet_ft.training.feeding import Feeder

log = logging.getLogger(__name__)


def write_end(recipe: Recipe, run: Run, split: Split, feeder: Feeder, stopwatch: Stopwatch) -> None:
    """Measure the best model, each process on its part of the images; the first writes metrics, predictions and report.

    The model comes from the first process: another node need not see the run folder.
    """
    main = is_main_process()
    model = from_main(load_model(run.best) if main else None)
    phase = from_main(read_checkpoint(run.best)["effnet_ft"]["phase"] if main else 0)
    assert model is not None
    predictor = Predictor(model, "cpu" if recipe.trainer.accelerator == "cpu" else None)
    plan, batch = feeder.plans[phase], recipe.data.batch_size
    parts = [name for name in ("val", "test") if split.part(name)]
    known = {name: feeder.answers(predictor, plan, name, batch) for name in parts}
    if not main:
        return
    metrics, evaluation = measure(split, predictor, batch, known)
    evaluation.write_predictions(run.predictions)
    speed = {"train_seconds": stopwatch.total["elapsed"], **stopwatch.speed(stopwatch.total)}
    write_json({**metrics, **speed}, run.metrics)
    part = split.held_out
    if predictor.model.multilabel:
        keep_thresholds(run.best, evaluation.thresholds)
        log.info(
            "%s mean average precision %.1f%% on %d images (macro F1 %.3f), trained in %.0f s",
            *("test" if part == "test" else "validation", 100 * metrics[f"{part}/map"], len(evaluation.samples)),
            *(metrics[f"{part}/macro_f1"], speed["train_seconds"]),
        )
    else:
        log.info(
            "%s accuracy %.1f%% on %d images (macro F1 %.3f, calibration error %.3f), trained in %.0f s",
            *("test" if part == "test" else "validation", 100 * metrics[f"{part}/acc1"], len(evaluation.samples)),
            *(metrics[f"{part}/macro_f1"], metrics[f"{part}/ece"], speed["train_seconds"]),
        )
    write_report(run.folder, predictor)
