"""How to judge the simulator: one page of what it does, and what would be a bad sign.

Every number is measured here and now. What real users do is not known to it: ranges are printed
to be held against one's own logs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import tyro

from agents import make_agent
from agents.rollout import rollout
from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures import study_figures
from experiments.report.figures.style import save
from experiments.report.validity_page import Measured, markdown, print_report, report
from experiments.runs.environments import TRAIN_ENVS, environment, task_config
from experiments.runs.evaluation import EVALUATION_SEED
from experiments.runs.runner import RunOptions, run_specs
from experiments.runs.spec import RunSpec
from experiments.statistics import calibration, leaderboard
from experiments.store import Episode, Row, write_file
from experiments.studies.benchmark import Preset, plan_runs
from experiments.studies.geometry import cosines
from experiments.studies.sensitivity import gain_of
from llmrec_env.config import EnvConfig
from llmrec_env.metrics import tracking_error
from llmrec_env.simulation.counterfactual import without_recommendations
from llmrec_env.world import World, load_world

AGENTS = ("random", "content", "drift-aware", "oracle-myopic", "oracle-planning")
LAGS = (1, 10, 30, 100)
"""Steps at which the drift of a user who is shown nothing is reported."""
SESSIONS = 5
"""Sessions of each user that tell luck from differences between users."""
_WATCHED_STEPS = 300  # of users who are shown nothing
_HOW = RunOptions(output=Path("runs/validity"))

_Floats = npt.NDArray[np.float64]


def run(
    task: str = "llmrec/Drift-v0",
    worlds: int = 1,
    users: int | None = None,
    env: EnvFields = NO_FIELDS,
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = _HOW,
) -> Measured:
    """Measures a task and writes a page about it: `validity.md`, and `validity.json`.

    Args:
        task: a registered id.
        worlds: worlds 0 to worlds - 1 for the comparison of policies; the rest is of world 0.
        users: held-out test users of each world; all of them by default.
        env: fields of the environment that override the task's.
        options: where and how the runs are done.

    Raises:
        ValueError: an unknown task.
    """
    changes = given_fields(env)
    specs = plan_runs(Preset((task,), AGENTS, worlds, 1, 0), users, changes)
    config = {"task": task, "worlds": worlds, "users": users, "env": changes}
    rows = run_specs(specs, options, config)
    episodes = store.read_table(options.output, Episode)
    world = load_world(task_config(task, {**changes, "world_seed": 0}))
    tested = world.users_of("test")[:users]
    by_chance, _ = _played(specs[AGENTS.index("random")], tested, 1)
    tracked, rewards = _played(specs[AGENTS.index("drift-aware")], tested, SESSIONS)
    measured = {
        "policies": policies(rows, episodes),
        "drift": drift(world, tested) | event_rates(tracked),
        "luck": luck(rewards, episodes),
        "responses": responses(by_chance, tracked, world.config),
        "texts": texts(world),
        "sessions": sessions(rows, tracked),
    }
    lines = report(measured)
    print_report(lines)
    measured = json.loads(json.dumps(measured), parse_constant=lambda _: None)  # NaN is not JSON
    about = json.dumps({**config, "measured": measured}, indent=1)
    write_file(options.output / "validity.json", about.encode() + b"\n")
    write_file(options.output / "validity.md", markdown(task, lines).encode())
    panels = {name: measured["responses"][name]["bins"] for name in ("choice", "satisfaction")}
    save(study_figures.calibration(panels), options.output / "figures" / "calibration")
    print(f"results in {options.output}")
    return measured


# --- measuring


def policies(rows: Sequence[Row], episodes: Sequence[Episode]) -> dict[str, Any]:
    """Returns the return of each agent, and what knowing the user and looking ahead add."""
    found: dict[str, Any] = {x.agent: [x.mean, x.ci_low, x.ci_high] for x in rows}
    (played,) = leaderboard.group(episodes).values()
    for agent, other in (
        ("drift-aware", "content"),
        ("oracle-myopic", "drift-aware"),
        ("oracle-planning", "oracle-myopic"),
    ):
        found[f"{agent} over {other}"] = gain_of(played[agent], played[other])
    return found


def drift(world: World, users: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Returns how far interests move by themselves: angles by lag, and the half-life in steps."""
    keys = np.random.default_rng(0).integers(0, 2**63, len(users), dtype=np.uint64)
    steps = max(_WATCHED_STEPS, world.config.horizon)
    interests = without_recommendations(world, users, keys, steps).astype(np.float64)
    units = interests / np.linalg.norm(interests, axis=2, keepdims=True)
    likeness = np.vecdot(units[:, :1], units).mean(axis=0)
    first = units[:, 0]
    floor = (float((first.sum(axis=0) ** 2).sum()) - len(first)) / (len(first) * (len(first) - 1))
    tracking_errors = {
        lag: tracking_error(interests[:, 0], interests[:, lag]).mean() for lag in LAGS
    }
    return {
        "tracking_errors": {
            str(lag): float(tracking_error) for lag, tracking_error in tracking_errors.items()
        },
        "two users": math.degrees(math.acos(min(max(floor, -1.0), 1.0))),
        "half-life": calibration.half_life(likeness, floor),
        "watched": steps,
    }


def event_rates(watched: calibration.Responses) -> dict[str, Any]:
    """Returns how many interests die, are born, wake, sleep and are refined in 100 steps."""
    steps = len(watched.choice)
    return {"events": {name: 100.0 * n / steps for name, n in watched.events.items()}}


def luck(rewards: _Floats, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Returns where the variance of rewards and returns comes from, and what pairing saves.

    Args:
        rewards: of the same users in several sessions each, (users, sessions, steps).
        episodes: of several agents in the same sessions.
    """
    of_users = calibration.user_share(rewards.sum(axis=2))
    scores = {
        agent: leaderboard.scores_of(own).values.mean(axis=1)
        for agent, own in next(iter(leaderboard.group(episodes).values())).items()
    }
    one, other = scores["drift-aware"], scores["content"]
    paired, unpaired = (one - other).std(), math.hypot(one.std(), other.std())
    effect = 0.05 * other.mean()
    return {
        "reward of a step": calibration.variance_shares(rewards),
        "return": {"users": of_users, "luck": 1.0 - of_users},
        "correlation": float(np.corrcoef(one, other)[0, 1]),
        "users to see 5 %": _needed(paired, effect),
        "users to see 5 % unpaired": _needed(unpaired, effect),
    }


def responses(
    by_chance: calibration.Responses, tracked: calibration.Responses, config: EnvConfig
) -> dict[str, Any]:
    """Returns how well frequencies follow the users' own model, and how clicks fall with rank."""
    both = (by_chance, tracked)
    choice, chosen, satisfaction, satisfied = (
        np.concatenate([getattr(watched, name) for watched in both])
        for name in ("choice", "chosen", "satisfaction", "satisfied")
    )
    clicks, expected = by_chance.chosen[:, :-1].sum(axis=0), by_chance.choice[:, :-1].sum(axis=0)
    exponent, spread = calibration.position_exponent(clicks)
    return {
        "choice": calibration.calibrated(choice, chosen)._asdict(),
        "nothing chosen": calibration.calibrated(choice[:, -1], chosen[:, -1])._asdict(),
        "satisfaction": calibration.calibrated(satisfaction, satisfied)._asdict(),
        "clicks by slot": (clicks / max(1, clicks.sum())).tolist(),
        "position exponent": exponent,
        "position exponent error": spread,
        "position exponent predicted": calibration.position_exponent(expected)[0],
        "position bias": config.effective().position_bias,
    }


def texts(world: World) -> dict[str, Any]:
    """Returns how texts lie by facet and topic, and how visible substance is."""
    text, items = world.text, world.items.vectors
    found = cosines(text.catalog, text.phrases, items, text.phrase_vectors)
    found |= {"kept variance": text.space.kept_variance, "scale": text.space.scale}
    if text.catalog.substance is not None:
        found["substance"] = float(np.corrcoef(text.probe, text.catalog.substance)[0, 1])
    return found


def sessions(rows: Sequence[Row], watched: calibration.Responses) -> dict[str, Any]:
    """Returns how sessions of each agent go, and the 5, 50 and 95 % quantiles of users' states."""
    return {
        "agents": {x.agent: [x.survive, x.steps, x.ctr, x.satisfaction_rate] for x in rows},
        "states": {
            name: np.quantile(values, (0.05, 0.5, 0.95)).tolist()
            for name, values in watched.states.items()
        },
    }


def _played(
    spec: RunSpec, users: npt.NDArray[np.int64], times: int
) -> tuple[calibration.Responses, _Floats]:
    """What the first session of each user showed, and rewards of all, (users, sessions, T)."""
    agent = make_agent(spec.agent, task_config(spec.task, spec.env), spec.seed)
    agent.fit(environment(spec, agent, TRAIN_ENVS, "train"), 0)
    env = environment(spec, agent, len(users), spec.split)
    watched = calibration.Responses(env)
    rewards = [
        rollout(agent, env, users, EVALUATION_SEED + again, None if again else watched).reward
        for again in range(times)
    ]
    return watched, np.stack(rewards, axis=1)


def _needed(spread: float, effect: float) -> int | None:
    """Users at which a difference shows in 8 of 10 repetitions, at the 5 % level."""
    return math.ceil((2.8 * spread / effect) ** 2) if effect > 0.0 else None
