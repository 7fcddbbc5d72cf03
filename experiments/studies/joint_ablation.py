"""The joint recommender taken apart: its losses, users and items of whom little is known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures import study_figures
from experiments.report.figures.style import save
from experiments.runs.environments import task_config
from experiments.runs.runner import RunOptions, run_specs, run_sweep
from experiments.runs.spec import RunResult, RunSpec
from experiments.statistics import leaderboard
from experiments.statistics.intervals import Interval, bootstrap_interval
from experiments.store import Episode, write_file
from experiments.studies.cold_start import cold_items, cold_users
from experiments.studies.sensitivity import gain_of
from llmrec_env.config import EnvConfig

REFERENCES = ("content", "collaborative", "drift-aware")
DEFAULT = "joint"
"""Label of the joint recommender as it is."""
COMPARED = ("content", "drift-aware", DEFAULT)
"""What gains are over."""
WEIGHTS: tuple[dict[str, Any], ...] = (
    {"click": 1.0, "text": 0.3},
    {"click": 0.3, "text": 1.0},
    {"click": 0.0},
    {"text": 0.0, "ranking": "choice"},  # without that loss there are no odds to rank by
    {"ranking": "choice"},
    {"evolution": 1.0},
)
LOSSES: tuple[dict[str, Any], ...] = (
    {"click_loss": "bpr"},
    {"click_loss": "softmax"},
    {"shrinkage": 1.0},
)
_HOW = RunOptions(output=Path("runs/joint"))

Part = Literal["weights", "losses", "users", "items"]


def run(
    parts: tuple[Part, ...] = ("weights", "losses", "users", "items"),
    language: tuple[Literal["lora", "full"], ...] = (),
    worlds: int = 1,
    users: int | None = None,
    seeds: int = 1,
    epochs: int | None = None,
    task: str = "llmrec/Drift-v0",
    env: EnvFields = NO_FIELDS,
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = _HOW,
) -> dict[str, Any]:
    """Plays variants of the joint recommender, and it and others with cold users and cold items.

    Every variant meets the same users and luck. Writes the tables of a benchmark, `joint.json` and
    a figure.

    Args:
        parts: `weights` and `losses` change settings; `users` hides the past of the users played;
            `items` hides all clicks on a fifth of the items from training. The last two train
            one seed.
        language: also train the language model, in these modes; minutes each on a CPU.
        worlds: worlds 0 to worlds - 1.
        users: held-out test users of each world; all of them by default.
        seeds: training seeds of the variants.
        epochs: of the joint recommender, at most; by default its own.
        task: a registered id.
        env: fields of the environment that override the task's.
        options: where and how the runs are done.

    Returns:
        `variants`, `users` and `items`, as in the file.
    """
    fixed = {} if epochs is None else {"epochs": epochs}
    base = RunSpec(task, DEFAULT, 0, users=users, env=given_fields(env), settings=fixed)
    task_config(task, base.env)  # a wrong value is told before anything runs
    specs = _cells(base, parts, language, worlds, seeds)
    config = {"task": task, "worlds": worlds, "users": users, "env": given_fields(env)}
    config |= {"parts": parts, "language": language, "seeds": seeds, "epochs": epochs}
    run_specs(specs, options, config)
    variants = _variants(run_sweep(specs, options.output))  # all there: nothing runs again
    found: dict[str, Any] = {"variants": variants, "users": {}, "items": {}}
    if "users" in parts:
        found["users"] = cold_users(base, worlds)
    if "items" in parts:
        found["items"] = cold_items(base, worlds)
    _print(found)
    for mode in language:
        _print_size(mode, task_config(task, base.env))
    write_file(options.output / "joint.json", json.dumps(found, indent=1).encode() + b"\n")
    gains = {name: x[DEFAULT] for name, x in variants.items() if x[DEFAULT] is not None}
    figure = study_figures.variants_and_known(gains, DEFAULT, _returns_known(found["users"]))
    save(figure, options.output / "figures" / "joint")
    print(f"results in {options.output}")
    return found


# --- variants


def label_of(settings: dict[str, Any]) -> str:
    """Returns what a variant is called: what differs from the default."""
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in settings.items()
    )


def _cells(
    base: RunSpec, parts: Sequence[str], language: Sequence[str], worlds: int, seeds: int
) -> list[RunSpec]:
    """Cells, world by world, so that each world is built once."""
    chosen = [*(WEIGHTS if "weights" in parts else ()), *(LOSSES if "losses" in parts else ())]
    made = {name: (name, {}) for name in REFERENCES}
    made[DEFAULT] = (DEFAULT, base.settings)
    made |= {label_of(x): (DEFAULT, x | base.settings) for x in chosen}
    made |= {f"joint-{mode}": (f"joint-{mode}", base.settings) for mode in language}
    return [
        dataclasses.replace(
            *(base,), agent=agent, world=world, seed=seed, settings=settings, label=_task(label)
        )
        for world in range(worlds)
        for label, (agent, settings) in made.items()
        for seed in range(1 if label in REFERENCES else seeds)
    ]


def _task(label: str) -> str:
    return "references" if label in REFERENCES else label


def _variants(found: Sequence[RunResult]) -> dict[str, dict[str, Any]]:
    """Return, gains and seconds of training of each variant; pairs are users and luck."""
    sessions: dict[str, list[Episode]] = {}
    seconds: dict[str, list[float]] = {}
    for result in found:
        spec = result.spec
        name = spec.agent if spec.label == "references" else spec.label
        sessions.setdefault(name, []).extend(result.episodes)
        seconds.setdefault(name, []).append(result.seconds["training"])
    return {
        name: {
            "return": bootstrap_interval(leaderboard.scores_of(own)),
            **{x: None if x == name else gain_of(own, sessions[x]) for x in COMPARED},
            "seconds": float(np.mean(seconds[name])),
        }
        for name, own in sessions.items()
    }


def _returns_known(users: dict[str, Any]) -> dict[str, dict[int, Interval]]:
    return {
        agent: {slates: x["return"] for slates, x in points.items()}
        for agent, points in users.items()
    }


# --- tables to read


def _print_size(mode: Literal["lora", "full"], config: EnvConfig) -> None:
    from agents.joint.text_tower import TextTower

    trained = TextTower(config.encoder, mode).num_trained
    print(f"joint-{mode}: {trained:,} weights of the language model learn")


def _print(found: dict[str, Any]) -> None:
    heads = {"return": "return [95 %]", **{x: f"gain over {x}" for x in COMPARED}, "seconds": "s"}
    _table("joint recommender: variants", found["variants"], heads)
    returns = _returns_known(found["users"])
    slates = next(iter(returns.values()), {})
    _table("return, by logged slates known of a user", returns, {x: str(x) for x in slates})
    heads = {"return": "return [95 %]", "shown": "of what is shown", "consumed": "of consumption"}
    heads |= {"satisfied": "satisfied", "satisfied_others": "satisfied, other items"}
    _table("cold items: nobody's clicks on them are known", found["items"], heads)


def _table(title: str, rows: dict[str, dict[Any, Any]], heads: dict[Any, str]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("", no_wrap=True)
    for head in heads.values():
        table.add_column(escape(head), justify="right")
    for name, row in rows.items():
        table.add_row(name, *(escape(_cell(key, row[key])) for key in heads))
    Console().print(table)


def _cell(key: Any, value: Any) -> str:
    if value is None:
        return ""
    if key == "seconds":
        return f"{value:.1f}"
    if key in COMPARED:
        return "{:+.1%} [{:+.1%}, {:+.1%}]".format(*value)
    if isinstance(value, tuple):
        return "{:.2f} [{:.2f}, {:.2f}]".format(*value)
    return f"{value:.1%}"
