"""Agents under one protocol, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from agents.base import Agent, Privileged
from agents.rankers.als import Collaborative, DriftAware
from agents.rankers.baselines import Content, ContentRecency, Popular, Random
from agents.rankers.oracles import PLANNING, Lookahead, Oracle
from agents.rl.sb3 import ALGORITHMS, StableBaselines
from llmrec_env.config import EnvConfig, unknown

__all__ = ["AGENTS", "Agent", "Privileged", "make_agent"]


def _later(module: str, name: str, **fixed: Any) -> Callable[..., Agent]:
    """A factory that imports its module when it is called: torch takes a second."""

    def make(**settings: Any) -> Agent:
        return getattr(import_module(module), name)(**{**fixed, **settings})

    return make


AGENTS: dict[str, Callable[..., Agent]] = {
    "random": Random,
    "popular": Popular,
    "item-knn": _later("agents.rankers.neighbours", "ItemNeighbours"),
    "ease": _later("agents.rankers.neighbours", "Ease"),
    "collaborative": Collaborative,
    "two-tower": _later("agents.neural.two_tower", "TwoTower"),
    "sasrec": _later("agents.neural.sasrec", "SelfAttentive"),
    "content": Content,
    "content-recency": ContentRecency,
    "lin-ucb": _later("agents.rankers.bandits", "LinUcb"),
    "thompson": _later("agents.rankers.bandits", "ThompsonSampling"),
    "drift-aware": DriftAware,
    "joint": _later("agents.joint.recommender", "Joint"),
    "joint-lora": _later("agents.joint.language", "JointWithLanguage", mode="lora"),
    "joint-full": _later(
        "agents.joint.language", "JointWithLanguage", mode="full", encoder_rate=0.02
    ),
    **{name: partial(StableBaselines, name) for name in ALGORITHMS},
    "reinforce-topk": _later("agents.rl.reinforce", "TopKReinforce"),
    "slateq": _later("agents.rl.slateq", "SlateQ"),
    "oracle-myopic": lambda **settings: Oracle("oracle-myopic", Lookahead(), **settings),
    "oracle-planning": lambda **settings: Oracle("oracle-planning", PLANNING, **settings),
}
"""Every agent, from the weakest expected to the strongest."""


def make_agent(name: str, config: EnvConfig, seed: int = 0, **settings: Any) -> Agent:
    """Returns a new agent.

    Args:
        name: a name of AGENTS.
        config: the environment it will act in.
        seed: of its training and of what it draws.
        **settings: the agent's own arguments.

    Raises:
        ValueError: no agent has this name, or it does not take a setting.
    """
    if name not in AGENTS:
        raise ValueError(unknown("agent", name, list(AGENTS)))
    try:
        return AGENTS[name](seed=seed, **settings)
    except TypeError as error:
        raise ValueError(f"agent {name!r} does not take these settings: {error}.") from error
