"""What a search of hyper-parameters may try: a range for each setting of an agent, in one table.

A name with a dot, as `policy_kwargs.net_arch`, is an entry of a setting that is a dictionary.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agents.hyperparameters import DEFAULTS
from llmrec_env.config import unknown

Raw = bool | int | float | str
"""What a study keeps of a setting."""


class Range(Protocol):
    """Values that a setting may take."""

    def suggest(self, trial: Any, name: str) -> Any:
        """Returns the value that an optuna trial draws."""
        ...

    def raw(self, value: Any) -> Raw | None:
        """Returns what a study keeps of a value; None: it is not in the range."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Real numbers from `low` to `high`, rounded to three digits so that they can be told."""

    low: float
    high: float
    log: bool = False
    """Whether each factor, rather than each difference, is as likely as another."""

    def suggest(self, trial: Any, name: str) -> float:
        """Returns a number."""
        return float(f"{trial.suggest_float(name, self.low, self.high, log=self.log):.3g}")

    def raw(self, value: Any) -> float | None:
        """Returns the number, if it is in the range."""
        return float(value) if _number(value) and self.low <= value <= self.high else None


def log_uniform(low: float, high: float) -> Uniform:
    """Returns positive numbers of which each factor is as likely as another."""
    return Uniform(low, high, log=True)


@dataclass(frozen=True)
class Integer:
    """Whole numbers from `low` to `high`."""

    low: int
    high: int

    def suggest(self, trial: Any, name: str) -> int:
        """Returns a number."""
        return trial.suggest_int(name, self.low, self.high)

    def raw(self, value: Any) -> int | None:
        """Returns the number, if it is in the range."""
        return value if isinstance(value, int) and self.low <= value <= self.high else None


class Choice:
    """Some values of JSON: numbers, names, lists."""

    def __init__(self, *values: Any) -> None:
        """Takes the values in any order."""
        self.values = values

    def __repr__(self) -> str:
        return f"Choice{self.values}"

    def suggest(self, trial: Any, name: str) -> Any:
        """Returns one of the values."""
        return json.loads(trial.suggest_categorical(name, [*map(json.dumps, self.values)]))

    def raw(self, value: Any) -> str | None:
        """Returns the value as JSON, if it is one of them."""
        return json.dumps(value) if value in self.values else None


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


Space = dict[str, Range]

_DISCOUNT: Space = {"gamma": Choice(0.8, 0.9, 0.95, 0.98, 0.99, 0.995)}
_RATE: Space = {"learning_rate": log_uniform(1e-4, 1e-2)}
_NETWORK: Space = {
    "policy_kwargs.net_arch": Choice([], [32, 32], [64, 64], [128, 128], [256, 256]),
    "normalise_observations": Choice(False, True),
}
_GAUSSIAN: Space = {"policy_kwargs.log_std_init": Uniform(-2.5, 0.0)}
_ON_POLICY: Space = {
    **{**_DISCOUNT, **_RATE},
    "gae_lambda": Uniform(0.7, 1.0),
    "ent_coef": Choice(0.0, 0.0001, 0.001, 0.003, 0.01),
}
_PROXIMAL: Space = {
    **_ON_POLICY,
    "n_steps": Choice(32, 64, 128),
    "batch_size": Choice(256, 512, 1024, 2048),
    "n_epochs": Integer(2, 10),
    "clip_range": Choice(0.1, 0.2, 0.3),
    "target_kl": log_uniform(0.01, 0.1),
}
_OFF_POLICY: Space = {
    **{**_DISCOUNT, **_RATE, **_NETWORK},
    "batch_size": Choice(128, 256, 512, 1024),
    "gradient_steps": Choice(1, 2, 4, 8),
}
_CONTINUOUS: Space = {**_OFF_POLICY, "tau": log_uniform(0.002, 0.05)}
_SOFT: Space = {**_CONTINUOUS, "ent_coef": Choice("auto_0.1", "auto_0.01", 0.001, 0.01, 0.1)}
_DISCRETE: Space = {
    **_OFF_POLICY,
    "target_update_interval": Choice(500, 1_000, 2_000, 5_000),
    "exploration_steps": Choice(10_000, 30_000, 60_000),
    "exploration_final_eps": log_uniform(0.01, 0.2),
}
SPACES: dict[str, Space] = {
    "ppo": {**_PROXIMAL, **_NETWORK, **_GAUSSIAN},
    "a2c": {
        **{**_ON_POLICY, **_NETWORK, **_GAUSSIAN},
        "n_steps": Choice(5, 8, 16, 32),
        "vf_coef": Uniform(0.2, 1.0),
    },
    "sac": _SOFT,
    "td3": {**_CONTINUOUS, "action_noise": log_uniform(0.05, 0.5)},
    "tqc": {**_SOFT, "top_quantiles_to_drop_per_net": Integer(0, 5)},
    "dqn": _DISCRETE,
    "qrdqn": {**_DISCRETE, "policy_kwargs.n_quantiles": Choice(10, 25, 50, 100)},
    "recurrent-ppo": {
        **{**_PROXIMAL, **_NETWORK, **_GAUSSIAN},
        "policy_kwargs.lstm_hidden_size": Choice(16, 32, 64, 128),
    },
    "maskable-ppo": {**_PROXIMAL, **_NETWORK},
    "ppo-pointer": {
        **{**_PROXIMAL, "gae_lambda": Uniform(0.3, 1.0)},
        "policy_kwargs.scale": log_uniform(5.0, 50.0),
        "policy_kwargs.hidden": Choice(4, 8, 16, 32),
        "policy_kwargs.embedding": Choice(16, 32, 64),
    },
    "slateq": {
        **{**_DISCOUNT, "learning_rate": log_uniform(2e-3, 5e-2), "trace": Uniform(0.7, 1.0)},
        **{"mmr": Uniform(0.0, 0.5), "explore": Uniform(0.0, 0.2), "steps": Choice(32, 64)},
        **{"future_rate": log_uniform(5e-4, 1e-2), "half": log_uniform(5e4, 1e6)},
        "shrinkage": log_uniform(0.5, 32.0),
    },
    "reinforce-topk": {**_DISCOUNT, **_RATE},
}
"""Ranges of the settings of each agent that can be tuned."""


def space_of(agent: str) -> Space:
    """Returns the ranges of an agent's settings; one that has none raises ValueError."""
    if agent not in SPACES:
        raise ValueError(unknown("agent that can be tuned", agent, list(SPACES)))
    return SPACES[agent]


def defaults_of(agent: str) -> dict[str, Any]:
    """Returns the settings of an agent in the table of defaults."""
    return copy.deepcopy(DEFAULTS.get(agent, {}))


def nested(agent: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings for `make_agent` of names that may have dots.

    An entry of a dictionary replaces that of the agent's default dictionary and no other.
    """
    settings: dict[str, Any] = {}
    for name, value in chosen.items():
        first, _, entry = name.partition(".")
        if entry:
            inner = settings.setdefault(first, defaults_of(agent).get(first, {}))
            inner[entry] = value
        else:
            settings[first] = value
    return settings


def flat(settings: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of these names, which may have dots, as far as they are there."""
    found: dict[str, Any] = {}
    for name in names:
        first, _, entry = name.partition(".")
        inside = settings.get(first, {}) if entry else settings
        if isinstance(inside, Mapping) and (entry or first) in inside:
            found[name] = inside[entry or first]
    return found


def raw_defaults(agent: str) -> dict[str, Raw]:
    """Returns what a study keeps of an agent's defaults, as far as they are in its ranges."""
    space = space_of(agent)
    kept = {name: space[name].raw(x) for name, x in flat(defaults_of(agent), space).items()}
    return {name: raw for name, raw in kept.items() if raw is not None}
