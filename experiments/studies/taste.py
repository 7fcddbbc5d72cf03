"""Taste study: what text-free taste is worth, how much of it logs tell, and its switch-offs.

Taste is what relevance has beside the texts, κ aᵀb of a user and an item. Three questions: what
would `joint` without factors earn more if it knew it, and how much of that do its factors find; how
much of the items' b can be read off the logs, also of items that nobody has met; and does all of
that vanish where it should?
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agents import Agent
from agents.joint.recommender import Joint
from agents.rollout import rollout
from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report import text_tables
from experiments.report.text_tables import Cell, Table, number
from experiments.runs.engines import in_processes
from experiments.runs.evaluation import EVALUATION_SEED, VALIDATION_SEED
from experiments.runs.spec import RunSpec, environment, fitted_agent, task_config, users_of
from experiments.runs.threads import one_thread
from experiments.statistics.intervals import (
    Interval,
    Scores,
    bootstrap_interval,
    improvement_if_defined,
    paired_difference,
)
from experiments.studies import study
from experiments.studies.taste_factors import explained_known, explained_unseen, residuals_of
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.world import load_world

WEIGHTS = (0.75, 1.0, 1.25)
"""Of true taste beside what texts say, in units of `joint`'s relevance."""
TUNING_WORLD = 100
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "no taste (κ = 0)": ("taste",),
    "nothing shared (s = 0)": ("shared_taste",),
}
"""Mechanisms switched off in each variant of the task."""
DEFAULT, NO_TASTE, NOTHING_SHARED = VARIANTS
SEEN, UNSEEN = "R² of b, items of the logs", "R² of b, items left out of the logs"
JOINT, BLIND, KNOWING = "joint", "joint without factors", "joint with true taste"
BLEND, TEXTS = "drift-aware", "drift-aware without its collaborative half"

Floats = npt.NDArray[np.float64]
Measures = dict[str, Floats]
"""By name: returns of the users played, (users,), or explained shares of items, (items,)."""


class KnowsTaste(Joint):
    """A partial oracle: `joint` that adds the true taste of its users to relevance."""

    weight: float
    """Of κ aᵀb beside what it believes."""

    def attach(self, env: RecVectorEnv) -> None:
        """Receives the environment whose users it reads."""
        self._simulator = env.simulator

    def hints(self, observation: Any) -> Floats:
        """Returns the true taste of each candidate, (n, c)."""
        world, candidates = self._simulator.world, np.maximum(observation["candidates"], 0)
        items, users = world.traits["taste"][candidates], self._simulator.users["taste"]
        weight = self.weight * float(world.params["relevance_taste"][0])
        return weight * np.einsum("nr,ncr->nc", users, items).astype(np.float64)


def knowing_taste(joint: Joint, weight: float) -> KnowsTaste:
    """Returns a fitted `joint` that knows κ aᵀb, with its weight beside what it believes."""
    agent = KnowsTaste(joint.seed, **vars(joint.settings))
    agent.data, agent.slate_size, agent.texts = joint.data, joint.slate_size, joint.texts
    agent.parameters, agent.calibration = joint.parameters, joint.calibration
    agent.learnt, agent.config, agent.weight = joint.learnt, joint.config, weight
    return agent


class Part(NamedTuple):
    """What one process measures: a world of a variant of the task."""

    task: str
    variant: str
    world: int
    users: int | None
    env: dict[str, Any]
    weight: float = 0.0
    """Of true taste beside what texts say."""

    def spec(self, agent: str, split: str = "test", **settings: Any) -> RunSpec:
        """Returns the run of an agent in this world."""
        off = (*self.env.get("off", ()), *VARIANTS[self.variant])
        env = self.env | {"off": off}
        where = {"split": split, "users": self.users, "env": env, "settings": settings}
        return RunSpec(self.task, agent, self.world, **where)


def run(
    task: str = "llmrec/Drift-v1",
    worlds: int = 2,
    users: int | None = 400,
    env: EnvFields = NO_FIELDS,
    jobs: int = 1,
    output: Path = Path("runs/taste"),
    overwrite: bool = False,
) -> dict[str, Interval | None]:
    """Measures what taste is worth, and what of it can be known; writes `taste.md` and `.json`.

    Args:
        task: a registered id.
        worlds: worlds 0 to worlds - 1; the weight of true taste is tuned in world 100.
        users: held-out users of each world; None: all.
        jobs: processes.
        output: folder of the results.
        overwrite: delete the results that are there.

    Returns:
        Each quantity with its interval, by name, as in the file.

    Raises:
        ValueError: an unknown task, or the output folder holds results.
    """
    fields = given_fields(env)
    config = {"task": task, "worlds": worlds, "users": users, "env": fields}
    store.open_folder(output, config, resume=False, overwrite=overwrite)
    tuning = Part(task, DEFAULT, TUNING_WORLD, users, fields)
    tried = returns_by_weight(tuning)
    best = max(WEIGHTS, key=lambda weight: tried[weight])
    parts = [
        Part(task, variant, world, users, fields, best)
        for world in range(worlds)
        for variant in VARIANTS
    ]
    measured = dict(_calls(measures_of, [(part,) for part in parts], jobs))
    found = compared(measured)
    store.write_manifest(output, config=config, jobs=jobs)
    content = {"weight": best, "tried": tried, "found": found}
    study.publish("taste", output, tables_of(found, best), content=content)
    return found


def _calls(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], jobs: int
) -> Iterable[Any]:
    return starmap(function, calls) if jobs == 1 else in_processes(function, calls, jobs)


# --- measuring


@one_thread()
def returns_by_weight(part: Part) -> dict[float, float]:
    """Returns what `joint` earns with validation users, by the weight of true taste in it."""
    spec = part.spec(JOINT, "validation")
    joint = fitted_agent(dataclasses.replace(spec, settings={"rank": 0}))
    assert isinstance(joint, Joint)
    agents = {weight: knowing_taste(joint, weight) for weight in WEIGHTS}
    return {x: float(_returns(agent, spec, VALIDATION_SEED).mean()) for x, agent in agents.items()}


@one_thread()
def measures_of(part: Part) -> tuple[tuple[str, int], Measures]:
    """Returns what is measured in one world of a variant: returns of users, and shares of items."""
    both = {BLEND: part.spec(BLEND), TEXTS: part.spec(BLEND, collaborative=0.0)}
    measures = {name: _returns(fitted_agent(spec), spec) for name, spec in both.items()}
    place = part.variant, part.world
    if part.variant == NO_TASTE:
        return place, measures
    spec = part.spec(JOINT)
    joint, config = fitted_agent(spec), task_config(part.task, spec.env)
    assert isinstance(joint, Joint)
    if part.variant == DEFAULT:
        measures[JOINT] = _returns(joint, spec)
        blind = fitted_agent(part.spec(JOINT, rank=0))
        assert isinstance(blind, Joint)
        measures[BLIND] = _returns(blind, spec)
        measures[KNOWING] = _returns(knowing_taste(blind, part.weight), spec)
    world = load_world(dataclasses.replace(config, world_seed=part.world))
    taste, facets = world.traits["taste"].astype(np.float64), world.catalog.facets.astype(np.int64)
    vectors = joint.data.items.vectors.astype(np.float64)
    known = residuals_of(joint), taste, facets, vectors
    return place, measures | {SEEN: explained_known(*known), UNSEEN: explained_unseen(*known)}


def _returns(agent: Agent, spec: RunSpec, seed: int = EVALUATION_SEED) -> Floats:
    """The return of each held-out user, (users,)."""
    users = users_of(spec)[: spec.users]
    env = environment(spec, agent, len(users), spec.split)
    return rollout(agent, env, users, seed).reward.sum(axis=1)


# --- comparing


def compared(measured: Mapping[tuple[str, int], Measures]) -> dict[str, Interval | None]:
    """Returns each quantity with its interval, by name: see `tables_of`.

    Args:
        measured: by variant and world.
    """

    def scores(variant: str, name: str) -> Scores:
        columns = [x[name] for (other, _), x in measured.items() if other == variant]
        worlds = [world for other, world in measured if other == variant]
        ids = np.concatenate([np.arange(len(x)) for x in columns])
        return Scores.of(np.concatenate(columns), np.repeat(worlds, [*map(len, columns)]), ids)

    found: dict[str, Interval | None] = {}
    for name in (BLIND, JOINT, KNOWING):
        found[f"return of {name}"] = bootstrap_interval(scores(DEFAULT, name))
    for better, worse in ((JOINT, BLIND), (KNOWING, BLIND), (KNOWING, JOINT)):
        pair = scores(DEFAULT, better), scores(DEFAULT, worse)
        found[f"{better} over {worse}"] = improvement_if_defined(*pair)
    for variant in VARIANTS:
        pair = scores(variant, BLEND), scores(variant, TEXTS)
        found[f"{BLEND} over the same by texts alone, {variant}"] = improvement_if_defined(*pair)
    for name in (SEEN, UNSEEN):
        for variant in (DEFAULT, NOTHING_SHARED):
            found[f"{name}, {variant}"] = bootstrap_interval(scores(variant, name))
        pair = scores(DEFAULT, name), scores(NOTHING_SHARED, name)
        found[f"{name}, {DEFAULT} less {NOTHING_SHARED}"] = paired_difference(*pair)
    return found


def tables_of(found: Mapping[str, Interval | None], weight: float) -> list[Table]:
    """Returns a row a quantity; shares of improvement in percent, returns and R² as numbers."""
    rows = [[name, _cell(name, value)] for name, value in found.items()]
    title = f"What taste is worth, and what can be known of it; true taste has weight {weight:g}"
    return [Table(["quantity", "[95 %]"], rows, title)]


def _cell(name: str, value: Interval | None) -> Cell:
    if value is None or " over " in name:
        return text_tables.improvement(value)
    return number(*value)
