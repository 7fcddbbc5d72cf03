"""Expected cost of a run, before it is done."""

from __future__ import annotations

from agents import AGENTS
from experiments.runs.spec import RunSpec, task_config, users_of

_PLAYING = 12_000.0  # environment steps a second, measures included
_WORLD = 3.0  # seconds to build one whose texts are encoded


def seconds_of(spec: RunSpec) -> float:
    """Returns about how long a run takes on one core, with its texts encoded."""
    sessions = len(users_of(spec)[: spec.users])
    played = sessions * task_config(spec.task, spec.env).horizon
    agent = AGENTS[spec.agent]
    trained = spec.train_steps / agent.training_rate
    acting = sessions * agent.acting_seconds
    return agent.fitting_seconds + trained + played / _PLAYING + acting + _WORLD
