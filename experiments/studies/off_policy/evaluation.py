"""Off-policy study: what policies would earn, estimated from logs of another, beside the truth.

A logging policy whose propensities are known plays sessions with held-out users. From these logs
alone each target policy's one-step value is estimated: the mean reward of the slate that it would
have shown in the contexts that were logged. The truth comes from forks of the same sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents import AGENTS, Agent
from agents.off_policy import SlotMixture
from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.text_tables import Cell, Column, Table, number
from experiments.runs.evaluation import EVALUATION_SEED
from experiments.runs.spec import RunSpec, check_names, environment, fitted_agent, users_of
from experiments.runs.threads import one_thread
from experiments.statistics import off_policy_estimators
from experiments.statistics.off_policy_estimators import LEVELS, OverlapError, Terms, interval_of
from experiments.statistics.resampling import Floats, Interval
from experiments.studies import study
from experiments.studies.off_policy.logs import (
    LoggedSlates,
    joined,
    log_slates,
    modelled_rewards,
    predicted_rewards,
)
from experiments.studies.off_policy.reward_models import REWARD_MODELS
from llmrec_env.config import unknown

TARGETS = ("random", "popular", "ease", "content", "content-recency", "drift-aware")
LOGGED_BY = ("drift-aware", "content", "popular")
SHARES = (0.25, 0.25, 0.25)
ESTIMATORS = ("model", "IPS", "SNIPS", "DR", "switch-DR")
MODEL = "model"
_WORLD = 10_000_000  # users of different worlds are different users


class Estimate(NamedTuple):
    """What one estimator says of one policy."""

    policy: str
    level: str
    """What is assumed of rewards, of LEVELS; of the model alone, nothing is weighted."""
    estimator: str
    online: Interval
    """The true value, from forks."""
    estimate: Interval | None
    """None: no overlap."""
    error: Interval | None
    """estimate - online, paired by user."""
    effective_steps: float
    steps: int


def run(
    task: str = "llmrec/Drift-v1",
    targets: tuple[str, ...] = TARGETS,
    logged_by: tuple[str, ...] = LOGGED_BY,
    shares: tuple[float, ...] = SHARES,
    threshold: float = 10.0,
    worlds: int = 1,
    users: int | None = 400,
    forks: int = 4,
    models: tuple[str, ...] = (),
    env: EnvFields = NO_FIELDS,
    output: Path = Path("runs/off-policy"),
    overwrite: bool = False,
) -> list[Estimate]:
    """Estimates policies from logs, and compares with the truth; writes `off-policy.md` and `.csv`.

    Args:
        task: a registered id.
        targets: names of agents that act by slates and need no environment steps to learn.
        logged_by: likewise; each slot shows what one of these has there, or a random candidate.
        shares: how often each of them fills a slot; the rest is random.
        threshold: weight above which switch-DR trusts the model instead.
        worlds: worlds 0 to worlds - 1.
        users: held-out test users of each world, who are logged; None: all.
        forks: copies of each session by which the truth is measured.
        models: of rewards, of `reward_models.REWARD_MODELS`, to judge slates by beside the ridge
            regression; they learn from the logs that come with the world.
        output: folder of the results.
        overwrite: delete the results that are there.

    Raises:
        ValueError: an unknown task, or an agent that acts otherwise or learns online.
    """
    _check(task, (*targets, *logged_by))
    for name in models:
        if name not in REWARD_MODELS:
            raise ValueError(unknown("reward model", name, list(REWARD_MODELS)))
    fields = given_fields(env)
    config = {"task": task, "targets": targets, "logged_by": logged_by, "shares": shares}
    config |= {"threshold": threshold, "worlds": worlds, "users": users, "forks": forks}
    config |= {"models": models}
    store.open_folder(output, config | {"env": fields}, resume=False, overwrite=overwrite)
    parts = []
    for world in range(worlds):
        spec = RunSpec(task, "random", world, users=users, env=fields)
        parts.append(logs_of_world(spec, targets, logged_by, shares, forks, models))
    logs = joined(parts)
    estimates = estimates_of(logs, threshold, models)
    store.write_manifest(output, config=config | {"env": fields}, jobs=1)
    tables = [summary_of(estimates), table_of(estimates, float(logs.rewards.sum(1).mean()))]
    study.publish("off-policy", output, tables, records=estimates)
    return estimates


def _check(task: str, names: Sequence[str]) -> None:
    check_names(names, (task,))
    for name in names:
        if AGENTS[name].learns == "online":
            raise ValueError(
                f"the agent {name!r} learns online, which this study does not wait for; name "
                "agents that learn from logs or not at all."
            )


# --- logging


@one_thread()
def logs_of_world(
    spec: RunSpec,
    targets: Sequence[str],
    logged_by: Sequence[str],
    shares: Sequence[float],
    forks: int,
    models: Sequence[str] = (),
) -> LoggedSlates:
    """Returns the logs of one world's test users under a mixture of agents.

    Args:
        spec: the task, the world and the users.
        targets: names of the policies to be estimated.
        logged_by: names of the agents that are mixed.
        shares: how often each of them fills a slot.
        forks: by which the truth is measured.
        models: names of the reward models.
    """
    fitted = {name: _fitted(spec, name) for name in targets}
    policy = SlotMixture([_fitted(spec, name) for name in logged_by], shares, seed=spec.world)
    users = users_of(spec)[: spec.users]
    env = environment(spec, policy.agents[0], len(users), spec.split)
    made = [REWARD_MODELS[name](env) for name in models]
    logs = log_slates(policy, fitted, env, users, EVALUATION_SEED, forks, made)
    return logs._replace(users=logs.users + spec.world * _WORLD)


def _fitted(spec: RunSpec, name: str) -> Agent:
    return fitted_agent(RunSpec(spec.task, name, spec.world, env=spec.env))


# --- estimating


def estimates_of(
    logs: LoggedSlates, threshold: float, models: Sequence[str] = ()
) -> list[Estimate]:
    """Returns every estimate of every target, beside the truth."""
    predicted, expected = predicted_rewards(logs)
    modelled = {name: modelled_rewards(logs, column) for column, name in enumerate(models)}
    estimates = []
    for policy, target in logs.targets.items():
        online = _mean(target.value)
        terms = off_policy_estimators.switched(
            logs.rewards, np.ones_like(logs.rewards), predicted, expected[policy], 0.0
        )
        direct = {MODEL: terms} | {name: _mean(x[policy]) for name, x in modelled.items()}
        for name, terms in direct.items():
            estimates.append(_estimate(policy, MODEL, name, logs, online, terms, len(logs.users)))
        for level in LEVELS:
            try:
                weights = off_policy_estimators.importance_weights(
                    target.probabilities, logs.propensities, level
                )
            except OverlapError:
                nothing = [_missing(policy, level, name, logs, online) for name in ESTIMATORS[1:]]
                estimates += nothing
                continue
            model = predicted, expected[policy]
            made = {
                "IPS": off_policy_estimators.inverse_propensity(logs.rewards, weights),
                "SNIPS": off_policy_estimators.self_normalised(logs.rewards, weights),
                "DR": off_policy_estimators.doubly_robust(logs.rewards, weights, *model),
                "switch-DR": off_policy_estimators.switched(
                    logs.rewards, weights, *model, threshold
                ),
            }
            size = off_policy_estimators.effective_size(weights)
            estimates += [
                _estimate(policy, level, name, logs, online, terms, size)
                for name, terms in made.items()
            ]
    return estimates


def _mean(values: Floats) -> Terms:
    return Terms(values[:, None], np.ones((len(values), 1)))


def _estimate(
    policy: str,
    level: str,
    estimator: str,
    logs: LoggedSlates,
    online: Terms,
    terms: Terms,
    size: float,
) -> Estimate:
    return Estimate(
        policy,
        level,
        estimator,
        interval_of(online, logs.users),
        interval_of(terms, logs.users),
        interval_of(terms, logs.users, less=online),
        size,
        len(logs.users),
    )


def _missing(
    policy: str, level: str, estimator: str, logs: LoggedSlates, online: Terms
) -> Estimate:
    truth = interval_of(online, logs.users)
    return Estimate(policy, level, estimator, truth, None, None, 0.0, len(logs.users))


# --- tables


def table_of(estimates: Sequence[Estimate], logged: float) -> Table:
    """Returns a row for each policy and level; an error that is clear is bold."""
    rows = []
    models = dict.fromkeys(x.estimator for x in estimates if x.level == MODEL)
    names = (*models, *ESTIMATORS[1:])
    for first in (x for x in estimates if x.estimator == "IPS"):
        own = [x for x in estimates if x.policy == first.policy]
        same = {x.estimator: x for x in own if x.level in (MODEL, first.level)}
        cells: list[Cell | str] = [first.policy, first.level, number(*first.online, decimals=3)]
        cells += [f"{first.effective_steps:,.0f}"]
        cells += [_cell(same[name]) for name in names]
        rows.append(cells)
    heads = ["policy", "assumed", "online", "effective steps", *names]
    steps = f"{estimates[0].steps:,} logged steps, which earned {logged:.3f} each"
    title = (
        f"reward of a step: online, and as estimated from {steps}; bold: off by more than chance"
    )
    return Table(heads, rows, title, labels=2)


def _cell(estimate: Estimate) -> Cell | str:
    if estimate.estimate is None or estimate.error is None:
        return "no overlap"
    cell = number(*estimate.estimate, decimals=3)
    return cell._replace(clear=True) if estimate.error.is_clear else cell


class Accuracy(NamedTuple):
    """How well an estimator does over all policies that it can judge."""

    level: str
    estimator: str
    relative_error: float
    """Mean of |estimate / online - 1|."""
    held: int
    """Policies whose error is not clear of 0."""
    judged: int
    policies: int


def accuracies(estimates: Sequence[Estimate]) -> list[Accuracy]:
    """Returns a line for each level and estimator, in order."""
    lines = []
    for level, estimator in dict.fromkeys((x.level, x.estimator) for x in estimates):
        same = [x for x in estimates if (x.level, x.estimator) == (level, estimator)]
        found: list[Any] = [x for x in same if x.estimate and x.error]
        errors = [abs(x.error.value / x.online.value) for x in found]
        held = sum(not x.error.is_clear for x in found)
        mean = float(np.mean(errors)) if errors else float("nan")
        lines.append(Accuracy(level, estimator, mean, held, len(found), len(same)))
    return lines


def summary_of(estimates: Sequence[Estimate]) -> Table:
    """Returns how far each estimator is from the truth, over all policies."""
    columns = [
        Column("assumed", lambda x: x.level),
        Column("estimator", lambda x: x.estimator),
        Column("mean error", lambda x: f"{100 * x.relative_error:.0f} %" if x.judged else ""),
        Column("within chance", lambda x: f"{x.held} of {x.judged}"),
        Column("judged", lambda x: f"{x.judged} of {x.policies}"),
    ]
    return Table.of(columns, accuracies(estimates), "distance from the online value", labels=2)
