"""After the last step: evaluates and calibrates the best model and completes the run folder."""

import logging
from collections.abc import Mapping

from effnet_ft.distributed.collectives import broadcast, is_main_process
from effnet_ft.evaluation.evaluate import Evaluation, measure
from effnet_ft.inference.predictor import Predictor
from effnet_ft.report import write_report
from effnet_ft.runs.plan_file import PlanFile
from effnet_ft.runs.run_folder import Run, load_model, read_checkpoint, update_description
from effnet_ft.training.callbacks.throughput import Throughput
from effnet_ft.training.phase_data import PhaseData
from effnet_ft.utils.atomic_files import write_json
from effnet_ft.utils.text import counted

log = logging.getLogger(__name__)


def evaluate_and_report(plan: PlanFile, run: Run, data: PhaseData, throughput: Throughput) -> dict[str, float]:
    """Evaluate and calibrate the best model, each rank on its share of the images, and write the results.

    Rank 0 reads the model for all, as other nodes need not see the run folder.

    Returns:
        The contents of ``metrics.json`` on rank 0, nothing on the others.
    """
    main = is_main_process()
    model = broadcast(load_model(run.best) if main else None)
    phase = broadcast(read_checkpoint(run.best)["effnet_ft"]["phase"] if main else 0)
    assert model is not None
    predictor = Predictor(model, "cpu" if plan.plan.trainer.accelerator == "cpu" else None)
    split, settings = data.split, plan.plan.data
    parts = [name for name in ("val", "test") if split.part(name)]
    logits = {name: data.logits(predictor, phase, name, settings.batch_size) for name in parts}
    if not main:
        return {}
    metrics, evaluation = measure(split, predictor, settings.batch_size, logits, calibrate=settings.fit == "train")
    update_description(run.best, predictor.model)
    evaluation.write_predictions(run.predictions)
    seconds = throughput.total["elapsed"]
    results = {**metrics, "train_seconds": seconds, **throughput.speed(throughput.total)}
    write_json(results, run.metrics)
    _log_results(metrics, evaluation, len(split.val), seconds)
    write_report(run.folder, predictor)
    return results


def _log_results(metrics: Mapping[str, float], evaluation: Evaluation, val_images: int, seconds: float) -> None:
    part, multilabel = evaluation.name, evaluation.labels.ndim == 2
    title = {"val": "validation", "test": "test"}[part]
    if "temperature" in metrics:
        log.info(
            "temperature %.3g, of %s: calibration error %.3f before, %.3f after, on the %s images",
            *(metrics["temperature"], counted(val_images, "validation image")),
            *(metrics[f"{part}/ece_uncalibrated"], metrics[f"{part}/ece"], title),
        )
    else:
        what = "thresholds (0.5 for each label)" if multilabel else "abstention (predict --precision)"
        log.info("temperature and %s not fitted: the validation images were trained on", what)
    score, name = ("map", "mean average precision") if multilabel else ("acc1", "accuracy")
    interval = [100 * metrics[key] for end in ("low", "high") if (key := f"{part}/{score}_{end}") in metrics]
    log.info(
        "%s %s %.1f%%%s on %s (macro F1 %.3f, calibration error %.3f), trained in %.0f s",
        *(title, name, 100 * metrics[f"{part}/{score}"]),
        *(" ({:.1f} to {:.1f})".format(*interval) if interval else "", counted(len(evaluation.samples), "image")),
        *(metrics[f"{part}/macro_f1"], metrics[f"{part}/ece"], seconds),
    )
    if missed := evaluation.missed_classes:
        log.warning(
            "no correct prediction on the %s images of %s: %s%s",
            *(title, counted(len(missed), "label" if multilabel else "class"), ", ".join(missed[:5])),
            f" and {len(missed) - 5} more" * (len(missed) > 5),
        )
    if part == "val":
        fitted = "label thresholds" if multilabel else "temperature"
        log.info(
            "no test images: the validation images also selected the epoch and the %s; expect less on new images",
            fitted,
        )
