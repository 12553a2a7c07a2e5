"""Show this machine's hardware and software, and what will not work on it."""

import argparse
from dataclasses import asdict
from pathlib import Path

from effnet_ft.commands.arguments import check_outputs
from effnet_ft.errors import MachineError
from effnet_ft.utils.atomic_files import write_json


def configure(parser: argparse.ArgumentParser) -> None:
    text = "also write it as JSON, with torch.utils.collect_env's report, e.g. for an issue"
    parser.add_argument("--json", metavar="FILE", help=text)


def run(options: argparse.Namespace) -> int:
    check_outputs(options.json)

    from effnet_ft.doctor.advice import advise, report_text
    from effnet_ft.doctor.facts import gather

    facts = gather()
    findings = advise(facts)
    print(report_text(facts, findings))
    if options.json:
        report = {"facts": asdict(facts), "findings": [asdict(finding) for finding in findings]}
        write_json(report, Path(options.json))
    if broken := [finding.text for finding in findings if finding.broken]:
        raise MachineError("training does not work on this machine:\n" + "\n".join(f"  - {text}" for text in broken))
    return 0
