"""Ladder of agents, the acceptance test of the environment: do policies separate on real text?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.result_tables import print_leaderboard
from experiments.report.text_tables import Table, improvement, number
from experiments.runs.runner import RunOptions
from experiments.runs.spec import task_config
from experiments.statistics.leaderboard import scores_of
from experiments.store import Episode
from experiments.studies import study

COLLABORATIVE = ("ease", "collaborative")
"""Who consumed what, and no text; the better of the two is one rung."""
RUNGS = (
    "random",
    "popular",
    *COLLABORATIVE,
    "content",
    "content-recency",
    "drift-aware",
    "oracle-myopic",
    "oracle-planning",
)
"""Every agent must beat the one before it by an interval above zero."""
PLANNING_IMPROVEMENT = 0.10
TEXT_FIRST = ("llmrec/Drift-v1", "llmrec/Goodwill-v1", "llmrec/Static-v1")
"""Tasks in which text must beat collaborative filtering, on `video`: elsewhere interests move too
fast, or texts are too thin, and lasting taste may be worth more."""
BALANCE = 0.30
"""How far the collaborative rung may lie from `content` on `video` and Drift, relatively."""
_SCALE = study.Scale(worlds=3)
_OPTIONS = RunOptions(output=Path("runs/ladder"))
_HEADS = ["task", "catalogue", "candidates", "collaborative rung", "content", "drift-aware"]

Played = Mapping[str, Sequence[Episode]]
"""Episodes by agent."""


class Ladder(NamedTuple):
    """What is played: one ladder of agents."""

    task: str
    catalog: str
    candidates: int
    off: tuple[str, ...] = ()
    """Mechanisms switched off."""


def run(
    catalogs: tuple[str, ...] = ("video", "movielens"),
    candidates: tuple[int, ...] = (100, 0),
    tasks: tuple[str, ...] = ("llmrec/Drift-v1",),
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = _SCALE,
    options: study.RunFlags = _OPTIONS,
) -> dict[Ladder, Played]:
    """Plays the ladder of agents on each task, catalogue and candidate number.

    Prints which steps fail, and which half, texts or collaborative filtering, wins where.

    Args:
        catalogs: names or paths of catalogues.
        candidates: items offered at a step; 0 is the whole catalogue.
        tasks: registered ids.
    """
    ladders: dict[Ladder, Played] = {}
    for task in tasks:
        for catalog in catalogs:
            for count in candidates:
                fields = given_fields(env) | {"catalog": catalog, "candidates": count}
                ladder = Ladder(task, catalog, count, task_config(task, fields).off)
                where = dataclasses.replace(options, output=options.output / _folder(ladder))
                specs = study.plan_runs((task,), RUNGS, scale, fields)
                rows, sessions = study.do_runs(specs, where, scale, fields, task=task)
                print(f"\n{task}, {catalog}, {count or 'all'} candidates")
                print_leaderboard(rows)
                ladders[ladder] = sessions[task]
                print(*verdicts(ladder, ladders[ladder]), sep="\n")
    study.publish("halves", options.output, [halves_table(ladders)])
    return ladders


def _folder(ladder: Ladder) -> str:
    task = ladder.task.removeprefix("llmrec/")
    return f"{task}-{Path(ladder.catalog).stem}-{ladder.candidates or 'all'}"


def collaborative_rung(played: Played) -> str:
    """Returns which agent of COLLABORATIVE earned more."""
    return max(COLLABORATIVE, key=lambda name: scores_of(played[name]).values.mean())


def verdicts(ladder: Ladder, played: Played) -> list[str]:
    """Returns a line for each step of the ladder: whether its interval lies above zero.

    Args:
        ladder: what was played; it decides what is not asked of whom.
        played: the episodes of all RUNGS.
    """
    rung = collaborative_rung(played)
    agents = [name for name in RUNGS if name == rung or name not in COLLABORATIVE]
    lines = []
    for below, agent in pairwise(agents):
        share = study.improvement_of(played[agent], played[below])
        if share is None:
            continue
        needed = PLANNING_IMPROVEMENT if agent == "oracle-planning" else 0.0
        reason = not_asked(ladder, agent)
        verdict = "holds" if share.low > 0.0 and share.value >= needed else "FAILS"
        verdict = "not asked" if verdict == "FAILS" and reason else verdict
        condition = f", needed {needed:.0%}" if needed else ""
        why = f" ({reason})" if verdict == "not asked" else ""
        lines.append(f"{verdict}: {agent} over {below} {improvement(share).text}{condition}{why}")
    share = study.improvement_of(played[rung], played["content"])
    if share and (ladder.task, ladder.catalog) == (TEXT_FIRST[0], "video"):
        verdict = "holds" if abs(share.value) <= BALANCE else "FAILS"
        text = improvement(share).text
        lines.append(f"{verdict}: {rung} within {BALANCE:.0%} of content: {text}")
    return lines


def not_asked(ladder: Ladder, agent: str) -> str:
    """Returns why an agent need not beat the one before it; empty where it must."""
    if agent == "content" and (ladder.task not in TEXT_FIRST or ladder.catalog != "video"):
        return "taste lasts; interests of this task, or texts so thin, say less"
    if agent in ("content-recency", "drift-aware") and "drift" in ladder.off:
        return "interests do not drift"
    if agent == "oracle-planning" and {"satiation", "goodwill"} <= {*ladder.off}:
        return "nothing to plan for"
    return ""


def halves_table(ladders: Mapping[Ladder, Played]) -> Table:
    """Returns a row a ladder: what clicks alone, texts alone and both earn, and which wins."""
    rows = []
    for ladder, played in ladders.items():
        rung = collaborative_rung(played)
        share = study.improvement_of(played["content"], played[rung])
        means = [scores_of(played[x]).values.mean() for x in (rung, "content", "drift-aware")]
        winner = "level" if share is None or not share.is_clear else "content"
        winner = rung if share is not None and share.high < 0.0 else winner
        first, *others = (number(float(mean)).text for mean in means)
        where = [ladder.task, ladder.catalog, str(ladder.candidates or "all")]
        cells = [*where, f"{rung} {first}", *others, improvement(share), winner]
        rows.append(cells)
    return Table(
        [*_HEADS, "content over it [95 %]", "wins"], rows, "Which half wins where", labels=3
    )
