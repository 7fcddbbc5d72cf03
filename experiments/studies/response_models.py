"""Study of `response="llm"`: what its model says beside the built-in response, and who earns what.

Agreement is measured on the same clicks: sessions of test users who respond as built in, to slates
of what is nearest to their recent interest and to random ones in turn.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from agents.joint.satisfaction.classification import ClassificationReport, evaluate
from agents.rankers.oracles import Lookahead, worth
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.text_tables import Table, improvement, number
from experiments.runs.runner import RunOptions
from experiments.runs.spec import check_names, task_config
from experiments.statistics.intervals import Interval, bootstrap_interval
from experiments.statistics.leaderboard import scores_of
from experiments.statistics.resampling import DEFAULT, draw_counts, percentiles
from experiments.studies import study
from llmrec_env.config import EnvConfig
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.response_model import load_response_model
from llmrec_env.simulation.simulator import Simulator
from llmrec_env.simulation.user_record import USER

PLAYERS = ("random", "content", "drift-aware", "joint")
RESPONSES = ("logit", "llm")
BUILT_IN, MODEL = "built in", "model"
_OPTIONS = RunOptions(output=Path("runs/response-model"))
_COST_SESSIONS, _COST_STEPS = 64, 40
_Floats = npt.NDArray[np.float64]


class Clicks(NamedTuple):
    """Items consumed, whether they satisfied, and P(z = 1) of both."""

    user: npt.NDArray[np.int64]  # (m,)
    satisfied: npt.NDArray[np.int32]  # (m,), by the built-in response
    chance: dict[str, _Floats]  # by BUILT_IN and MODEL, (m,)


def run(
    agents: tuple[str, ...] = PLAYERS,
    task: str = "llmrec/Drift-v1",
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = study.SCALE,
    options: study.RunFlags = _OPTIONS,
) -> dict[str, Any]:
    """Measures agreement with the built-in response and cost, and plays agents under both.

    Args:
        agents: names; none plays nobody.
        task: a registered id.
        env: among them `response_model`, for another model than the default.

    Returns:
        Agreement, CPU milliseconds a step, and relative improvements over the first agent.

    Raises:
        ValueError: an unknown agent or task.
    """
    check_names(agents, (task,))
    fields = given_fields(env) | {"response": "llm"}
    configs = [
        task_config(task, fields | {"world_seed": world, "split": "test"})
        for world in range(scale.worlds)
    ]
    clicks = joined([clicks_of(config, scale.users) for config in configs])
    cost = cost_of(configs[0], scale.users)
    tables = [agreement_table(clicks), reliability_table(clicks), cost_table(cost)]
    found = {"agreement": _figures(clicks), "cost": cost}
    if agents:
        sessions = _play(agents, task, scale, options, fields)
        tables.append(ladder_table(agents, sessions))
    else:
        options.output.mkdir(parents=True, exist_ok=True)  # as runs do, where there are any
    study.publish("response-model", options.output, tables, content=found)
    return found


# --- agreement


def clicks_of(config: EnvConfig, users: int | None = None) -> Clicks:
    """Returns the clicks of test users who respond as built in, and what the model says of them.

    Args:
        config: with `response="llm"`.
        users: the first so many; None: all.
    """
    model = load_response_model(config)
    built_in = EnvConfig(**config.to_dict() | {"response": "logit", "response_model": None})
    simulator, candidates = started(built_in, users), built_in.candidates
    generator, alive = np.random.default_rng(0), np.ones(simulator.n, bool)
    parts: list[tuple[Any, ...]] = []
    for step in range(config.horizon):
        nearest = np.tile(np.arange(config.slate_size), (simulator.n, 1))
        drawn = generator.integers(0, candidates, nearest.shape)
        before = simulator.users.copy()
        simulator.step(drawn if step % 2 else nearest)
        rows = np.flatnonzero(alive & (simulator.responses["item"] >= 0))
        if len(rows):
            response = simulator.responses[rows]
            users_then, items = before[rows], response["item"]
            chances = chances_built_in(simulator, users_then, items)
            said = model.probabilities(users_then, items)
            parts.append((users_then["user_id"], response["satisfied"], chances, said))
        alive &= simulator.responses["terminated"] == 0
    user, satisfied, chances, said = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Clicks(user, satisfied, {BUILT_IN: chances, MODEL: said})


def started(config: EnvConfig, users: int | None = None) -> Simulator:
    """Returns a simulator in which a session of each of the first users has begun."""
    population = Simulator(config, 1).population[:users]
    simulator, sessions = Simulator(config, len(population)), np.arange(len(population))
    keys = np.random.default_rng(1).integers(0, 2**63, len(population), dtype=np.uint64)
    simulator.start(sessions, population, keys)
    simulator.show(sessions)
    return simulator


def chances_built_in(
    simulator: Simulator, users: npt.NDArray[np.void], items: npt.NDArray[np.int32]
) -> _Floats:
    """Returns P(z = 1) by the built-in response of the item that each user consumes, (n,)."""
    world, (odds, value) = simulator.world, np.empty((2, 1))
    weights, chances = np.empty(simulator.config.interest_slots, np.float32), np.empty(len(items))
    for user, item, chance in zip(
        compiled_view(users, USER), items.reshape(-1, 1, 1), chances.reshape(-1, 1), strict=True
    ):
        worth(
            user,
            world.params[0],
            world.interests.vectors,
            world.text_vectors,
            world.traits,
            Lookahead(),
            weights,
            item,
            0,
            odds,
            chance,
            value,
        )
    return chances


def joined(parts: list[Clicks]) -> Clicks:
    """Returns clicks of several worlds as those of as many different users."""
    shift = max(int(part.user.max()) for part in parts) + 1
    users = [part.user + world * shift for world, part in enumerate(parts)]
    return Clicks(
        np.concatenate(users),
        np.concatenate([part.satisfied for part in parts]),
        {name: np.concatenate([part.chance[name] for part in parts]) for name in (BUILT_IN, MODEL)},
    )


def interval_over_users(clicks: Clicks, measure: Callable[[_Floats | None], float]) -> Interval:
    """Returns a figure of the clicks with its bootstrap interval over users.

    Args:
        clicks: of whom.
        measure: of weights of the clicks, None for equal ones.
    """
    users, row = np.unique(clicks.user, return_inverse=True)
    drawn = draw_counts(np.zeros(len(users), np.int64), 1, DEFAULT)
    values = [measure(counts[row]) for block, _ in drawn for counts in block]
    return Interval(measure(None), *percentiles(np.array(values), DEFAULT))


def _auc(clicks: Clicks, name: str) -> Interval:
    def measure(weight: _Floats | None) -> float:
        return float(roc_auc_score(clicks.satisfied, clicks.chance[name], sample_weight=weight))

    return interval_over_users(clicks, measure)


def _reports(clicks: Clicks) -> dict[str, ClassificationReport]:
    return {name: evaluate(chance, clicks.satisfied) for name, chance in clicks.chance.items()}


def _figures(clicks: Clicks) -> dict[str, Any]:
    reports = _reports(clicks)
    correlation = np.corrcoef(clicks.chance[BUILT_IN], clicks.chance[MODEL])[0, 1]
    figures: dict[str, Any] = {
        name: {
            "auc": report.auc,
            "log_loss": report.log_loss,
            "calibration_error": report.calibration_error,
            "mean": float(clicks.chance[name].mean()),
        }
        for name, report in reports.items()
    }
    clicked = {"number": len(clicks.user), "satisfied": float(clicks.satisfied.mean())}
    return figures | {"clicks": clicked, "correlation": float(correlation)}


def agreement_table(clicks: Clicks) -> Table:
    """Returns a row for each source of P(z = 1): how well it foretells the built-in z."""
    rows = [
        [
            name,
            number(*_auc(clicks, name), decimals=3),
            number(report.log_loss, decimals=3),
            number(report.calibration_error, decimals=3),
            number(float(clicks.chance[name].mean()), decimals=3),
        ]
        for name, report in _reports(clicks).items()
    ]
    found = _figures(clicks)
    title = (
        f"P(z = 1) of {len(clicks.user):,} clicks, of which {clicks.satisfied.mean():.3f} satisfied"
        f"; correlation of both {found['correlation']:.2f}"
    )
    heads = ["P(z = 1)", "AUC [95 %]", "log loss", "calibration error", "mean"]
    return Table(heads, rows, title)


def reliability_table(clicks: Clicks) -> Table:
    """Returns bins of what the model says, and the share of each that satisfied as built in."""
    rows = [
        [number(x.predicted, decimals=3), number(x.observed, decimals=3), f"{x.number:,}"]
        for x in _reports(clicks)[MODEL].reliability
    ]
    return Table(["model says", "satisfied", "clicks"], rows, "Reliability of the model", labels=0)


# --- cost


def cost_of(config: EnvConfig, users: int | None = None) -> dict[str, float]:
    """Returns CPU milliseconds of a step of 64 sessions: built in, and pairs new or known.

    Args:
        config: with `response="llm"`.
        users: of whom there are sessions, if they are fewer.
    """
    sessions = min(_COST_SESSIONS, users or _COST_SESSIONS)
    built_in = EnvConfig(**config.to_dict() | {"response": "logit", "response_model": None})
    model, cost = load_response_model(config), {}
    actions = np.random.default_rng(2).integers(
        0, config.candidates, (_COST_STEPS, sessions, config.slate_size)
    )
    for name, own in (("logit", built_in), ("llm, new pairs", config)):
        simulator = started(own, sessions)
        begun = copy.deepcopy(simulator)
        simulator.step(actions[0][: simulator.n])  # compiles and loads
        simulator = copy.deepcopy(begun)
        model.forget()
        cost[name] = _milliseconds(simulator, actions)
    cost["llm, known pairs"] = _milliseconds(copy.deepcopy(begun), actions)
    return cost


def _milliseconds(simulator: Simulator, actions: npt.NDArray[np.int64]) -> float:
    started_at = time.process_time()
    for action in actions:
        simulator.step(action[: simulator.n])
    return 1000.0 * (time.process_time() - started_at) / len(actions)


def cost_table(cost: dict[str, float]) -> Table:
    """Returns a row for each response."""
    rows = [[name, number(value, decimals=2)] for name, value in cost.items()]
    return Table(
        ["response", "ms"], rows, f"CPU time of a step of at most {_COST_SESSIONS} sessions"
    )


# --- agents


def _play(
    agents: tuple[str, ...],
    task: str,
    scale: study.Scale,
    options: RunOptions,
    fields: dict[str, Any],
) -> study.Sessions:
    plain = {name: value for name, value in fields.items() if name != "response_model"}
    variants = {"logit": plain | {"response": "logit"}, "llm": fields}
    specs = [
        spec
        for label, own in variants.items()
        for spec in study.plan_runs((task,), agents, scale, own, label=label)
    ]
    _, sessions = study.do_runs(specs, options, scale, fields, task=task, agents=agents)
    return sessions


def ladder_table(agents: tuple[str, ...], sessions: study.Sessions) -> Table:
    """Returns a row for each agent: its return under both responses, and over the one above."""
    rows = []
    for index, agent in enumerate(agents):
        cells: list[Any] = [agent]
        for response in RESPONSES:
            played = sessions[response]
            cells.append(number(*bootstrap_interval(scores_of(played[agent]))))
            above = played[agents[index - 1]] if index else None
            gain = study.improvement_of(played[agent], above) if above else None
            cells.append(improvement(gain))
        rows.append(cells)
    heads = ["agent"]
    for response in RESPONSES:
        heads += [f"{response}: return [95 %]", "over the row above [95 %]"]
    return Table(heads, rows, "Agents under both responses")
