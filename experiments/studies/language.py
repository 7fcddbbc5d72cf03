"""Study of language training: where it pays that L trains the encoder of the texts too.

Users live in the space of the environment's encoder; the recommender reads the same texts with
another. What a weak start costs, and what training mends of it, is measured on the same users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report import text_tables
from experiments.report.text_tables import Column, Table, number
from experiments.runs.runner import RunOptions, run_sweep
from experiments.runs.spec import RunResult, RunSpec
from experiments.statistics.intervals import Interval, bootstrap_interval
from experiments.statistics.leaderboard import scores_of
from experiments.store import Episode
from experiments.studies import study
from llmrec_env.config import unknown

REFERENCE = "as the environment"
"""Label of the recommender that reads texts as the environment does."""
_AUGMENTED: dict[str, Any] = {"word_dropout": 0.1, "synonym": 0.1}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    REFERENCE: ("joint", {}),
    "word vectors": ("joint-linear", {"encoder": "word-vectors", "rounds": 0}),
    "word vectors + training": ("joint-linear", {"encoder": "word-vectors"}),
    "word vectors + training + augmentation": (
        "joint-linear",
        {"encoder": "word-vectors"} | _AUGMENTED,
    ),
    "hashing": ("joint-linear", {"encoder": "hashing", "rounds": 0}),
    "hashing + training": ("joint-linear", {"encoder": "hashing"}),
    "hashing + training + augmentation": ("joint-linear", {"encoder": "hashing"} | _AUGMENTED),
    "MiniLM": ("joint-linear", {"encoder": "minilm", "rounds": 0}),
    "MiniLM + matrix": ("joint-linear", {"encoder": "minilm"}),
    "MiniLM + LoRA": ("joint-lora", {"encoder": "minilm"}),
    "MiniLM + LoRA + augmentation": ("joint-lora", {"encoder": "minilm"} | _AUGMENTED),
    "MiniLM + all weights": ("joint-full", {"encoder": "minilm"}),
}
"""Agent and settings by label; up to the first + it says with which encoder it begins."""
_CHEAP = (REFERENCE, "word vectors", "word vectors + training", "hashing", "hashing + training")
_SCALE = study.Scale(worlds=1)
_OPTIONS = RunOptions(output=Path("runs/language"))


class Variant(NamedTuple):
    """What one recommender earned."""

    name: str
    returns: Interval
    start: Interval | None
    """Improvement over the same encoder, unlearnt."""
    reference: Interval | None
    """Improvement over the encoder of the environment."""
    seconds: float
    """Of training."""


def run(
    variants: tuple[str, ...] = _CHEAP,
    task: str = "llmrec/Drift-v1",
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = _SCALE,
    options: study.RunFlags = _OPTIONS,
) -> list[Variant]:
    """Plays `joint` with several encoders, unlearnt and learnt; writes `language.md` and `.csv`.

    Args:
        variants: of VARIANTS; language models take minutes each on a CPU.
        task: a registered id.

    Raises:
        ValueError: there is no such variant or task.
    """
    specs: list[RunSpec] = []
    for name in variants:
        if name not in VARIANTS:
            raise ValueError(unknown("variant", name, list(VARIANTS)))
        agent, settings = VARIANTS[name]
        specs += study.plan_runs(
            (task,), (agent,), scale, given_fields(env), label=name, settings=settings
        )
    specs.sort(key=lambda spec: spec.world)
    study.do_runs(specs, options, scale, given_fields(env), task=task, variants=variants)
    rows = _compared(run_sweep(specs, options.output))  # all there: nothing runs again
    study.publish("language", options.output, [_table(rows)], records=rows)
    return rows


def _compared(results: Sequence[RunResult]) -> list[Variant]:
    sessions, seconds = study.sessions_by(results, lambda spec: spec.label)
    return [
        Variant(
            name,
            bootstrap_interval(scores_of(own)),
            _improvement(sessions, name, name.split(" + ")[0]),
            _improvement(sessions, name, REFERENCE),
            seconds[name],
        )
        for name, own in sessions.items()
    ]


def _improvement(
    sessions: Mapping[str, Sequence[Episode]], name: str, other: str
) -> Interval | None:
    if other not in sessions or other == name:
        return None
    return study.improvement_of(sessions[name], sessions[other])


def _table(rows: Sequence[Variant]) -> Table:
    columns = [
        Column("texts are read by", lambda x: x.name),
        Column("return [95 %]", lambda x: number(*x.returns)),
        Column("over its start", lambda x: text_tables.improvement(x.start)),
        Column(f"over {REFERENCE}", lambda x: text_tables.improvement(x.reference)),
        Column("training, s", lambda x: number(x.seconds, decimals=0)),
    ]
    return Table.of(columns, rows, "joint with several encoders of the texts")
