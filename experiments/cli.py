"""`python -m experiments NAME`: every experiment is one module with `run(...)`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import tyro

from experiments.commands import evaluate, report_command, train, watch
from experiments.studies import (
    ablation,
    benchmark,
    geometry,
    improvement,
    joint_ablation,
    ladder,
    learning_curves,
    lookahead,
    offline_logs,
    satisfaction_classifier,
    sensitivity,
    throughput,
    validity,
)
from experiments.tuning import tune
from llmrec_env.config import unknown

EXPERIMENTS: dict[str, Callable[..., Any]] = {
    "train": train.run,
    "evaluate": evaluate.run,
    "watch": watch.run,
    "benchmark": benchmark.run,
    "report": report_command.run,
    "gains": improvement.run,
    "ladder": ladder.run,
    "drift": sensitivity.run,
    "ablation": ablation.run,
    "curves": learning_curves.run,
    "tune": tune.run,
    "lookahead": lookahead.run,
    "validity": validity.run,
    "joint": joint_ablation.run,
    "logged": offline_logs.run,
    "satisfaction": satisfaction_classifier.run,
    "throughput": throughput.run,
    "geometry": geometry.run,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the experiment that the first argument names and returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(__doc__, "\nExperiments:", ", ".join(EXPERIMENTS), "\nNAME --help tells its options.")
        return 0 if words else 2
    if words[0] not in EXPERIMENTS:
        print(unknown("experiment", words[0], list(EXPERIMENTS)), file=sys.stderr)
        return 2
    function = EXPERIMENTS[words[0]]
    try:
        tyro.cli(function, args=words[1:], prog=f"python -m experiments {words[0]}")
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
