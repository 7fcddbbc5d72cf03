"""Search spaces of hyper-parameters: the registry's ranges as values of optuna."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agents import AGENTS
from agents.agent_spec import Choice, Integer, SearchSpace, Uniform
from agents.registry import defaults_of
from llmrec_env.config import unknown

Raw = bool | int | float | str
"""What a study keeps of a setting."""


def suggest(values: Uniform | Integer | Choice, trial: Any, name: str) -> Any:
    """Returns the value of a range that an optuna trial draws; real numbers have three digits."""
    if isinstance(values, Uniform):
        return float(f"{trial.suggest_float(name, values.low, values.high, log=values.log):.3g}")
    if isinstance(values, Integer):
        return trial.suggest_int(name, values.low, values.high)
    return json.loads(trial.suggest_categorical(name, [*map(json.dumps, values.values)]))


def raw_value(values: Uniform | Integer | Choice, value: Any) -> Raw | None:
    """Returns what a study keeps of a value; None: it is not in the range."""
    if isinstance(values, Choice):
        return json.dumps(value) if value in values.values else None
    kinds = (int, float) if isinstance(values, Uniform) else int
    if not isinstance(value, kinds) or isinstance(value, bool):
        return None
    if not values.low <= value <= values.high:
        return None
    return float(value) if isinstance(values, Uniform) else int(value)


def space_of(agent: str) -> SearchSpace:
    """Returns the ranges of an agent's settings; one that has none raises ValueError."""
    spaces = {name: spec.search_space for name, spec in AGENTS.items() if spec.search_space}
    if agent not in spaces:
        raise ValueError(unknown("agent that can be tuned", agent, list(spaces)))
    return spaces[agent]


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
    values: dict[str, Any] = {}
    for name in names:
        first, _, entry = name.partition(".")
        inside = settings.get(first, {}) if entry else settings
        if isinstance(inside, Mapping) and (entry or first) in inside:
            values[name] = inside[entry or first]
    return values


def raw_defaults(agent: str) -> dict[str, Raw]:
    """Returns what a study keeps of an agent's defaults, as far as they are in its ranges."""
    space = space_of(agent)
    raws = {name: raw_value(space[name], x) for name, x in flat(defaults_of(agent), space).items()}
    return {name: raw for name, raw in raws.items() if raw is not None}
