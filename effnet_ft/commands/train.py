"""Fine-tune as a recipe says, and write a run folder."""

import argparse
import shlex

from effnet_ft.commands.arguments import add_recipe, own_command
from effnet_ft.errors import DataError, MachineError


def configure(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser, "; resume=RUN resumes a run, resume=auto the newest unfinished one")


def run(options: argparse.Namespace) -> int:
    from effnet_ft.runs.resume_target import choose_run, print_once
    from effnet_ft.runs.run_folder import is_run

    overrides = [text for text in options.overrides if not text.startswith("resume=")]
    resumed = next((text.removeprefix("resume=") for text in options.overrides if text.startswith("resume=")), None)
    recipe, run, resume = choose_run(options.recipe, overrides, resumed)
    if resume and run.finished:
        print_once(f"{run.folder} is already finished")
        return 0

    from effnet_ft.training import fit

    command = shlex.join([own_command(), "train", options.recipe, f"resume={run.folder}"])
    try:
        fit.train(recipe, str(run.folder), resume=resume)
    except (MachineError, DataError) as error:
        if is_run(run.folder):
            error.add_note(f"Then resume with: {command}")
        raise
    except KeyboardInterrupt as error:
        if fit.is_main_process() and is_run(run.folder):
            error.add_note(f"to resume: {command}")
        raise
    if fit.is_main_process():
        from effnet_ft.recipe.images import images_folder

        folder, images = str(run.folder), str(images_folder(recipe.data))
        print(f"\nrun folder: {folder} (open its report.html)\nnext:")
        for words in (["evaluate", folder], ["predict", folder, images, "--top-k", "3", "--out", "predictions.csv"]):
            print(f"  {shlex.join([own_command(), *words])}")
    return 0
