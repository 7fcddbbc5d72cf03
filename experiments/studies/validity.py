"""Validity study: what the simulator does, on one page, and what would be a bad sign.

Every number is measured here and now. What real users do is not known to it: ranges are printed
to be held against one's own logs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.rollout import rollout
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures import study_figures
from experiments.report.validity_page import Measured, validity_tables
from experiments.runs.evaluation import EVALUATION_SEED
from experiments.runs.runner import RunOptions
from experiments.runs.spec import RunSpec, environment, fitted_agent, task_config
from experiments.runs.threads import one_thread
from experiments.statistics import calibration
from experiments.statistics.leaderboard import scores_of
from experiments.store import Episode, Row
from experiments.studies import study
from experiments.studies.geometry import cosines
from llmrec_env.config import EnvConfig
from llmrec_env.metrics import tracking_error
from llmrec_env.simulation.counterfactual import without_recommendations
from llmrec_env.world import World, load_world

AGENTS = ("random", "content", "drift-aware", "oracle-myopic", "oracle-planning")
LAGS = (1, 10, 30, 100)
"""Steps at which the drift of a user who is shown nothing is reported."""
SESSIONS = 5
"""Sessions of each user that tell randomness from differences between users."""
_WATCHED_STEPS = 300  # of users who are shown nothing
_SCALE = study.Scale(worlds=1)
_OPTIONS = RunOptions(output=Path("runs/validity"))

_Floats = npt.NDArray[np.float64]


def run(
    task: str = "llmrec/Drift-v1",
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = _SCALE,
    options: study.RunFlags = _OPTIONS,
) -> Measured:
    """Measures a task and writes a page about it: `validity.md`, and `validity.json`.

    Args:
        task: a registered id.

    Raises:
        ValueError: an unknown task, or one whose users do not respond by the logit of the page.
    """
    fields = given_fields(env)
    if task_config(task, fields).response != "logit":
        raise ValueError(
            "the page compares what users choose with response='logit'; set that, or another task."
        )
    specs = study.plan_runs((task,), AGENTS, scale, fields)
    rows, by_task = study.do_runs(specs, options, scale, fields, task=task)
    sessions = by_task[task]
    world = load_world(task_config(task, fields | {"world_seed": 0}))
    tested = world.users_of("test")[: scale.users]
    by_chance, _ = _watched(specs[AGENTS.index("random")], tested, 1)
    tracked, rewards = _watched(specs[AGENTS.index("drift-aware")], tested, SESSIONS)
    measured = {
        "policies": policies(rows, sessions),
        "drift": drift(world, tested) | event_rates(tracked),
        "randomness": randomness(rewards, sessions),
        "responses": responses(by_chance, tracked, world.config),
        "texts": texts(world),
        "sessions": session_states(rows, tracked),
    }
    tables = validity_tables(measured)
    measured = json.loads(json.dumps(measured), parse_constant=lambda _: None)  # NaN is not JSON
    panels = {name: measured["responses"][name]["bins"] for name in ("choice", "satisfaction")}
    figure = study_figures.calibration(panels)
    study.publish(
        "validity",
        options.output,
        tables,
        figure,
        content={"task": task, "env": fields, "measured": measured},
    )
    return measured


# --- measuring


def policies(rows: Sequence[Row], sessions: Mapping[str, Sequence[Episode]]) -> dict[str, Any]:
    """Returns the return of each agent, and what knowing the user and looking ahead add."""
    numbers: dict[str, Any] = {x.agent: [x.mean, x.ci_low, x.ci_high] for x in rows}
    for agent, other in (
        ("drift-aware", "content"),
        ("oracle-myopic", "drift-aware"),
        ("oracle-planning", "oracle-myopic"),
    ):
        share = study.improvement_of(sessions[agent], sessions[other])
        numbers[f"{agent} over {other}"] = share
    return numbers


def drift(world: World, users: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Returns how far interests move by themselves: angles by lag, and the half-life in steps."""
    keys = np.random.default_rng(0).integers(0, 2**63, len(users), dtype=np.uint64)
    steps = max(_WATCHED_STEPS, world.config.horizon)
    interests = without_recommendations(world, users, keys, steps).astype(np.float64)
    units = interests / np.linalg.norm(interests, axis=2, keepdims=True)
    likeness = np.vecdot(units[:, :1], units).mean(axis=0)
    first = units[:, 0]
    floor = (float((first.sum(axis=0) ** 2).sum()) - len(first)) / (len(first) * (len(first) - 1))
    return {
        "angles": {
            str(lag): float(tracking_error(interests[:, 0], interests[:, lag]).mean())
            for lag in LAGS
        },
        "two users": math.degrees(math.acos(min(max(floor, -1.0), 1.0))),
        "half-life": calibration.half_life(likeness, floor),
        "watched": steps,
    }


def event_rates(watched: calibration.Responses) -> dict[str, Any]:
    """Returns how many interests die, are born, wake, sleep and are refined in 100 steps."""
    steps = len(watched.choice)
    return {"events": {name: 100.0 * n / steps for name, n in watched.events.items()}}


def randomness(rewards: _Floats, sessions: Mapping[str, Sequence[Episode]]) -> dict[str, Any]:
    """Returns where the variance of rewards and returns comes from, and what pairing saves.

    Args:
        rewards: of the same users in several sessions each, (users, sessions, steps).
        sessions: of several agents that met the same users and random numbers.
    """
    of_users = calibration.user_share(rewards.sum(axis=2))
    one, other = (
        scores_of(sessions[agent]).values.mean(axis=1) for agent in ("drift-aware", "content")
    )
    paired, unpaired = (one - other).std(), math.hypot(one.std(), other.std())
    effect = 0.05 * other.mean()
    return {
        "reward of a step": calibration.variance_shares(rewards),
        "return": {"users": of_users, "randomness": 1.0 - of_users},
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
    text, items = world.text, world.text_vectors
    measured: dict[str, float] = cosines(text.catalog, text.phrases, items, text.phrase_vectors)
    measured |= {"kept variance": text.space.kept_variance, "scale": text.space.scale}
    if text.catalog.substance is not None:
        measured["substance"] = float(np.corrcoef(text.probe, text.catalog.substance)[0, 1])
    return measured


def session_states(rows: Sequence[Row], watched: calibration.Responses) -> dict[str, Any]:
    """Returns how sessions of each agent go, and the 5, 50 and 95 % quantiles of users' states."""
    return {
        "agents": {x.agent: [x.survive, x.steps, x.ctr, x.satisfaction_rate] for x in rows},
        "states": {
            name: np.quantile(values, (0.05, 0.5, 0.95)).tolist()
            for name, values in watched.states.items()
        },
    }


@one_thread()
def _watched(
    spec: RunSpec, users: npt.NDArray[np.int64], times: int
) -> tuple[calibration.Responses, _Floats]:
    """What the first session of each user showed, and rewards of all, (users, sessions, T)."""
    agent = fitted_agent(spec)
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
