"""The algorithms of Stable-Baselines3 and sb3-contrib that are agents, and how each can act."""

from __future__ import annotations

from dataclasses import dataclass

_MODES = ("weights", "query", "recipe", "item", "slate")


@dataclass(frozen=True)
class Algorithm:
    """An SB3 algorithm, and the action modes it can act in."""

    class_name: str
    actions: tuple[str, ...]
    """The first is the one it acts in unless told otherwise."""
    module: str = "stable_baselines3"
    policy: str = "MlpPolicy"
    """Name of a policy of SB3, or `pointer`."""


ALGORITHMS = {
    "ppo": Algorithm("PPO", _MODES),
    "a2c": Algorithm("A2C", _MODES),
    "sac": Algorithm("SAC", ("weights", "query")),
    "td3": Algorithm("TD3", ("weights", "query")),
    "tqc": Algorithm("TQC", ("weights", "query"), "sb3_contrib"),
    "dqn": Algorithm("DQN", ("recipe", "item")),
    "qrdqn": Algorithm("QRDQN", ("recipe", "item"), "sb3_contrib"),
    "recurrent-ppo": Algorithm("RecurrentPPO", _MODES, "sb3_contrib", "MlpLstmPolicy"),
    "maskable-ppo": Algorithm("MaskablePPO", ("recipe", "item", "slate"), "sb3_contrib"),
    "ppo-pointer": Algorithm("PPO", ("slate",), policy="pointer"),
}
"""Agents by name; their settings are in `hyperparameters.py`."""
