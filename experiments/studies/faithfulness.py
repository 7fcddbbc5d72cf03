"""Study of explanations: does a score fall fastest without the texts that are said to move it?

The steps of a user's past are deleted one after another, most moving ones first, and the score of
the item that the agent would show first is computed anew; and again in random orders. The area
between the two curves is what attributions know (Samek et al., Evaluating the visualization of what
a deep neural network has learned, IEEE TNNLS 2017).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agents import Agent
from agents.attribution import AttributingAgent
from agents.rollout import rollout
from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.text_tables import Column, Table, number
from experiments.runs.evaluation import EVALUATION_SEED
from experiments.runs.resolve import load, resolve
from experiments.runs.spec import RunSpec, users_of
from experiments.runs.threads import one_thread
from experiments.statistics.intervals import Interval, Scores, bootstrap_interval
from experiments.studies import study
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.history import HISTORY, empty_histories, replay
from llmrec_env.interface.observation import observations_of
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.response import RESPONSE, no_responses

AGENTS = ("content-recency", "drift-aware", "ease-text", "joint")
_SHARES = np.linspace(0.0, 1.0, 11)
_RANDOM = 4  # orders for each user

Doubles = npt.NDArray[np.float64]


class Faithfulness(NamedTuple):
    """How much faster the score falls than by chance."""

    agent: str
    users: int
    attributed: Interval
    """Mean of the score over all shares deleted, relative to that of the whole past."""
    random: Interval
    area: Interval
    """Between the curves: random less attributed."""


@one_thread()
def run(
    agents: tuple[str, ...] = AGENTS,
    task: str = "llmrec/Drift-v1",
    worlds: int = 1,
    users: int = 100,
    step: int = 20,
    output: Path = Path("runs/faithfulness"),
    overwrite: bool = False,
    env: EnvFields = NO_FIELDS,
) -> list[Faithfulness]:
    """Measures what agents' explanations know; writes `faithfulness.md` and `.csv`.

    Args:
        agents: that can attribute their scores to texts, and need no environment steps to learn.
        task: a registered id, with one item consumed a step.
        worlds: worlds 0 to worlds - 1.
        users: held-out test users of each world.
        step: of the session at which scores are explained; who has left by then is left out.
        output: folder of the results.
        overwrite: delete the results that are there.
        env: fields of the environment that override the task's.

    Raises:
        ValueError: an agent cannot attribute, or users consume several items a step.
    """
    fields = given_fields(env)
    config: dict[str, Any] = {
        "task": task,
        "agents": list(agents),
        "worlds": worlds,
        "users": users,
        "step": step,
        "env": fields,
    }
    store.open_folder(output, config, resume=False, overwrite=overwrite)
    rows = [_explained(name, task, worlds, users, step, fields) for name in agents]
    store.write_manifest(output, config=config, jobs=1)
    study.publish("faithfulness", output, [_table(rows)], records=rows)
    return rows


def _explained(
    name: str, task: str, worlds: int, users: int, step: int, fields: dict[str, Any]
) -> Faithfulness:
    areas: list[Doubles] = []
    of_worlds: list[npt.NDArray[np.int64]] = []
    for world in range(worlds):
        areas.append(_of_world(name, RunSpec(task, name, world, users=users, env=fields), step))
        of_worlds.append(np.full(len(areas[-1]), world))
    values, where = np.concatenate(areas), np.concatenate(of_worlds)
    moved = ~np.isnan(values[:, 0])
    attributed, random = values[moved].T
    columns = (attributed, random, random - attributed)
    intervals = [bootstrap_interval(Scores.of(column, where[moved])) for column in columns]
    return Faithfulness(name, int(moved.sum()), *intervals)


def _of_world(name: str, spec: RunSpec, step: int) -> Doubles:
    """Areas under the two curves of each user, (users, 2)."""
    test_users = users_of(spec)[: spec.users]
    agent, env = load(resolve(name), spec, len(test_users), spec.split)
    if not isinstance(agent, AttributingAgent):
        raise ValueError(f"agent={name!r} cannot attribute its scores; use one of {AGENTS}.")
    if env.config.response != "logit":
        raise ValueError(f"response={env.config.response!r} is not supported; use 'logit'.")
    seen: list[Any] = []

    def watch(t: int, running: npt.NDArray[np.bool_], observation: Any) -> None:
        if t == step:
            seen.extend(_each(observation, running))

    rollout(agent, env, test_users, EVALUATION_SEED, watch)
    rng = np.random.default_rng([spec.world, 61])
    return np.array([_areas(agent, env, observation, rng) for observation in seen]).reshape(-1, 2)


def _each(observation: Any, running: npt.NDArray[np.bool_]) -> list[Any]:
    """The observations of the sessions that go on, each a batch of one."""
    return [
        {name: np.array(block[i : i + 1]) for name, block in observation.items()}
        for i in np.flatnonzero(running)
    ]


def _areas(
    agent: Any, env: RecVectorEnv, observation: Any, rng: np.random.Generator
) -> tuple[float, float]:
    """Mean relative scores over the shares deleted, in the agent's order and in random ones."""
    past = Past(env, observation)
    whole = past.observe(np.arange(len(past.items)))
    slot = _first_shown(agent, whole)
    parts = agent.attribute(whole, slot)
    own = np.argsort(-past.by_step(parts.entries[0]), kind="stable")
    start = float(parts.total()[0])
    end = float(agent.attribute(past.observe(own[:0]), slot).total()[0])
    if start - end < 0.01:
        return np.nan, np.nan  # its past has not moved it

    def area(order: npt.NDArray[np.intp]) -> float:
        left = [np.sort(order[round(share * len(order)) :]) for share in _SHARES]
        scores = [float(agent.attribute(past.observe(kept), slot).total()[0]) for kept in left]
        return float(np.mean((np.array(scores) - end) / (start - end)))

    return area(own), float(np.mean([area(rng.permutation(own)) for _ in range(_RANDOM)]))


def _first_shown(agent: Agent, observation: Any) -> npt.NDArray[np.int64]:
    """The candidate of the highest score, (1,), as an index."""
    scores: Any = agent
    return np.array([int(scores.scores(observation)[0].argmax())])


class Past:
    """The newest steps of a user, of which some can be left out."""

    def __init__(self, env: RecVectorEnv, observation: Any) -> None:
        """Takes the steps that an observation holds, a batch of one."""
        known = np.flatnonzero(observation["recent_slates"][0, :, 0] >= 0)[::-1]  # oldest first
        self.env, self.data, self.observation = env, env.public_data(), observation
        self.slates = np.ascontiguousarray(observation["recent_slates"][0, known])
        self.items = observation["recent_items"][0, known]
        self.queries = observation["recent_queries"][0, known]
        satisfied = observation["recent_satisfied"][0, known]
        chosen = self.slates == self.items[:, None]
        self.feedback = np.where(chosen, satisfied[:, None], -1).astype(np.int8)

    def observe(self, kept: npt.NDArray[np.integer]) -> Any:
        """Returns what would be observed if only some of the steps had been."""
        config, data = self.env.config, self.data
        histories = empty_histories(1, config)
        replay(
            compiled_view(histories, HISTORY),
            self.slates[kept][None],
            self.feedback[kept][None],
            self.queries[kept][None],
            data.items.vectors,
            data.items.factors,
            data.phrase_vectors,
            compiled_view(no_responses(1, config.slate_size), RESPONSE),
        )
        candidates = self.observation["candidates"]
        return observations_of(
            histories, data.items, data.phrase_vectors, config.horizon, candidates
        )

    def by_step(self, entries: Doubles) -> Doubles:
        """Returns what each step's texts add, of what entries add, newest first, (h,)."""
        amounts, entry = np.zeros(len(self.items)), 0
        for index in range(len(self.items) - 1, -1, -1):
            for told in (self.queries[index] >= 0, self.items[index] >= 0):
                if told:
                    amounts[index] += entries[entry]
                    entry += 1
        return amounts


def _table(rows: list[Faithfulness]) -> Table:
    columns = [
        Column("agent", lambda x: x.agent),
        Column("users", lambda x: str(x.users)),
        Column("score left, most moving texts first", lambda x: number(*x.attributed)),
        Column("in random order", lambda x: number(*x.random)),
        Column("area between", lambda x: number(*x.area)),
    ]
    return Table.of(columns, rows, "share of what the past adds that is left, mean over deletions")
