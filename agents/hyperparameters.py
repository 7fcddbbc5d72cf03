"""Settings of every agent that learns by acting, in one table.

They were chosen on validation users of worlds 100 and up: most by hand from short runs, `ppo`'s
confirmed by `python -m experiments tune`. Nothing in them has seen a test user, or a world that is
reported on.
"""

from __future__ import annotations

from typing import Any

_SMALL = {"net_arch": [64, 64]}
_GAUSSIAN = {"log_std_init": -1.0, "net_arch": [64, 64]}
_PROXIMAL = {"gamma": 0.98, "gae_lambda": 0.9, "ent_coef": 0.0, "target_kl": 0.04}
_LONG_ROLLOUTS = {
    **{**_PROXIMAL, "gae_lambda": 0.95, "learning_rate": 5e-4},
    **{"n_steps": 128, "batch_size": 2048, "n_epochs": 5},
}
_REPLAYED = {
    **{"buffer_size": 50_000, "learning_starts": 3_000, "gamma": 0.98, "n_steps": 5},
    **{"train_freq": 1, "gradient_steps": 1, "batch_size": 1024, "learning_rate": 3e-4},
}
_CONTINUOUS = {**_REPLAYED, "tau": 0.01, "policy_kwargs": _SMALL}
_DISCRETE = {
    **{**_REPLAYED, "gradient_steps": 2, "batch_size": 256},
    **{"target_update_interval": 2_000, "exploration_steps": 30_000, "exploration_final_eps": 0.05},
}

DEFAULTS: dict[str, dict[str, Any]] = {
    "ppo": {
        **{"n_steps": 64, "batch_size": 1024, "n_epochs": 5, "learning_rate": 3e-4},
        **{**_PROXIMAL, "policy_kwargs": _GAUSSIAN},
    },
    "a2c": {
        **{"n_steps": 16, "learning_rate": 7e-4, "gamma": 0.98, "gae_lambda": 0.9},
        **{"normalize_advantage": True, "policy_kwargs": _GAUSSIAN},
    },
    "sac": {**_CONTINUOUS, "ent_coef": "auto_0.1"},
    "td3": {**_CONTINUOUS, "action_noise": 0.3},
    "tqc": {**_CONTINUOUS, "batch_size": 256, "ent_coef": "auto_0.1"},
    "dqn": {**_DISCRETE, "learning_rate": 1e-3, "policy_kwargs": _SMALL},
    "qrdqn": {**_DISCRETE, "policy_kwargs": {**_SMALL, "n_quantiles": 25}},
    "recurrent-ppo": {**_LONG_ROLLOUTS, "policy_kwargs": {**_GAUSSIAN, "lstm_hidden_size": 32}},
    "maskable-ppo": {**_LONG_ROLLOUTS, "policy_kwargs": _SMALL},
    "ppo-pointer": {
        **{"n_steps": 64, "batch_size": 2048, "n_epochs": 4, "learning_rate": 1e-3},
        **{**_PROXIMAL, "gae_lambda": 0.5, "teacher": "joint"},
    },
    "reinforce-topk": {
        **{"gamma": 0.98, "trace": 0.7, "cap": 5.0, "entropy": 0.1, "steps": 32, "kept": 4},
        **{"learning_rate": 2e-3, "half": 300_000, "scale": 20.0, "average": 0.95},
        "log_epochs": 3,
    },
    "slateq": {
        **{"gamma": 0.98, "trace": 0.9, "slates": "greedy", "mmr": 0.1, "explore": 0.08},
        **{"steps": 64, "learning_rate": 0.01, "future_rate": 2e-3, "half": 300_000},
        **{"shrinkage": 8.0, "blind": 4, "ramp": 16, "log_epochs": 3},
    },
}
"""Keyword arguments by agent: of the SB3 algorithm, and `OWN` of `training.py`; of our own
learners, all fields of their `Settings`."""
