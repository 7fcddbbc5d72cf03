"""Stable-Baselines3 and sb3-contrib algorithms that are agents: specifications and settings.

Part of the table in `agents/registry.py`. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.agent_spec import GAMMAS, RATES, AgentSpec, Choice, Integer, SearchSpace, Uniform

_ALL_MODES = ("weights", "query", "recipe", "item", "slate", "levels", "residual")
_BOXES = ("weights", "query", "levels", "residual")


@dataclass(frozen=True)
class Algorithm:
    """An SB3 algorithm, and the action modes it can act in."""

    class_name: str
    actions: tuple[str, ...]
    """The first is the one it acts in unless told otherwise. `levels` and `residual` are no modes
    of environments: they, and `query` if there is a `belief`, stand for slates."""
    module: str = "stable_baselines3"
    policy: str = "MlpPolicy"
    """Name of a policy of SB3, or `pointer`."""


ALGORITHMS = {
    "ppo": Algorithm("PPO", _ALL_MODES),
    "a2c": Algorithm("A2C", _ALL_MODES),
    "sac": Algorithm("SAC", _BOXES),
    "td3": Algorithm("TD3", _BOXES),
    "tqc": Algorithm("TQC", _BOXES, "sb3_contrib"),
    "dqn": Algorithm("DQN", ("recipe", "item")),
    "qrdqn": Algorithm("QRDQN", ("recipe", "item"), "sb3_contrib"),
    "recurrent-ppo": Algorithm("RecurrentPPO", _ALL_MODES, "sb3_contrib", "MlpLstmPolicy"),
    "maskable-ppo": Algorithm("MaskablePPO", ("recipe", "item", "slate"), "sb3_contrib"),
    "td3-bc": Algorithm("TD3BC", ("weights", "query"), "agents.rl.sb3.offline"),
    "cql": Algorithm("CQL", ("recipe", "item"), "agents.rl.sb3.offline"),
    "ppo-levels": Algorithm("PPO", ("levels", "query", "residual")),
    "ppo-pointer": Algorithm("PPO", ("slate",), policy="pointer"),
}
"""By the names of the agents."""

_ADAPTER = "agents.rl.sb3.adapter:StableBaselines"
_WEIGHTS = "Stable-Baselines3 on ranking weights"
_RECIPES = "the same on named slate recipes, or on items"

# --- settings that several share

_SMALL = {"net_arch": [64, 64]}
_GAUSSIAN = {"log_std_init": -1.0, "net_arch": [64, 64]}
_PROXIMAL = {"gamma": 0.98, "gae_lambda": 0.9, "ent_coef": 0.0, "target_kl": 0.04}
_LONG_ROLLOUTS = _PROXIMAL | {
    "gae_lambda": 0.95,
    "learning_rate": 5e-4,
    "n_steps": 128,
    "batch_size": 2048,
    "n_epochs": 5,
}
_OFF_POLICY = {
    "buffer_size": 50_000,
    "learning_starts": 3_000,
    "gamma": 0.98,
    "n_steps": 5,
    "train_freq": 1,
    "gradient_steps": 1,
    "batch_size": 1024,
    "learning_rate": 3e-4,
}
_CONTINUOUS = _OFF_POLICY | {"tau": 0.01, "policy_kwargs": _SMALL}
_DISCRETE = _OFF_POLICY | {
    "gradient_steps": 2,
    "batch_size": 256,
    "target_update_interval": 2_000,
    "exploration_steps": 30_000,
    "exploration_final_eps": 0.05,
}

# --- ranges that they share

_NETWORKS: SearchSpace = {
    "policy_kwargs.net_arch": Choice([], [32, 32], [64, 64], [128, 128], [256, 256]),
    "normalise_observations": Choice(False, True),
}
_SPREADS: SearchSpace = {"policy_kwargs.log_std_init": Uniform(-2.5, 0.0)}
_ON_POLICY_SPACE: SearchSpace = {
    **GAMMAS,
    **RATES,
    "gae_lambda": Uniform(0.7, 1.0),
    "ent_coef": Choice(0.0, 0.0001, 0.001, 0.003, 0.01),
}
_PROXIMAL_SPACE: SearchSpace = {
    **_ON_POLICY_SPACE,
    "n_steps": Choice(32, 64, 128),
    "batch_size": Choice(256, 512, 1024, 2048),
    "n_epochs": Integer(2, 10),
    "clip_range": Choice(0.1, 0.2, 0.3),
    "target_kl": Uniform(0.01, 0.1, log=True),
}
_OFF_POLICY_SPACE: SearchSpace = {
    **GAMMAS,
    **RATES,
    **_NETWORKS,
    "batch_size": Choice(128, 256, 512, 1024),
    "gradient_steps": Choice(1, 2, 4, 8),
}
_CONTINUOUS_SPACE: SearchSpace = {**_OFF_POLICY_SPACE, "tau": Uniform(0.002, 0.05, log=True)}
_ENTROPIES: SearchSpace = {"ent_coef": Choice("auto_0.1", "auto_0.01", 0.001, 0.01, 0.1)}
_DISCRETE_SPACE: SearchSpace = {
    **_OFF_POLICY_SPACE,
    "target_update_interval": Choice(500, 1_000, 2_000, 5_000),
    "exploration_steps": Choice(10_000, 30_000, 60_000),
    "exploration_final_eps": Uniform(0.01, 0.2, log=True),
}
_ALPHAS: SearchSpace = {"alpha": Choice(0.0, 0.1, 0.3, 1.0, 2.5, 10.0)}

SB3_SPECS = (
    AgentSpec(
        "ppo",
        _ADAPTER,
        _WEIGHTS,
        learns="online",
        arguments={"name": "ppo"},
        defaults={
            **_PROXIMAL,
            "n_steps": 64,
            "batch_size": 1024,
            "n_epochs": 5,
            "learning_rate": 3e-4,
            "policy_kwargs": _GAUSSIAN,
        },
        search_space={**_PROXIMAL_SPACE, **_NETWORKS, **_SPREADS},
        ladder=True,
        colour="#c98a00",
        training_rate=14_000.0,
    ),
    AgentSpec(
        "a2c",
        _ADAPTER,
        _WEIGHTS,
        learns="online",
        arguments={"name": "a2c"},
        defaults={
            "n_steps": 16,
            "learning_rate": 7e-4,
            "gamma": 0.98,
            "gae_lambda": 0.9,
            "normalize_advantage": True,
            "policy_kwargs": _GAUSSIAN,
        },
        search_space={
            **_ON_POLICY_SPACE,
            **_NETWORKS,
            **_SPREADS,
            "n_steps": Choice(5, 8, 16, 32),
            "vf_coef": Uniform(0.2, 1.0),
        },
        training_rate=20_000.0,
    ),
    AgentSpec(
        "sac",
        _ADAPTER,
        _WEIGHTS,
        learns="online",
        arguments={"name": "sac"},
        defaults=_CONTINUOUS | {"ent_coef": "auto_0.1"},
        search_space=_CONTINUOUS_SPACE | _ENTROPIES,
        training_rate=4_000.0,
    ),
    AgentSpec(
        "td3",
        _ADAPTER,
        _WEIGHTS,
        learns="online",
        arguments={"name": "td3"},
        defaults=_CONTINUOUS | {"action_noise": 0.3},
        search_space={**_CONTINUOUS_SPACE, "action_noise": Uniform(0.05, 0.5, log=True)},
        training_rate=6_000.0,
    ),
    AgentSpec(
        "tqc",
        _ADAPTER,
        _WEIGHTS,
        learns="online",
        arguments={"name": "tqc"},
        defaults=_CONTINUOUS | {"batch_size": 256, "ent_coef": "auto_0.1"},
        search_space={
            **_CONTINUOUS_SPACE,
            **_ENTROPIES,
            "top_quantiles_to_drop_per_net": Integer(0, 5),
        },
        training_rate=3_500.0,
    ),
    AgentSpec(
        "dqn",
        _ADAPTER,
        _RECIPES,
        learns="online",
        arguments={"name": "dqn"},
        defaults=_DISCRETE | {"learning_rate": 1e-3, "policy_kwargs": _SMALL},
        search_space=_DISCRETE_SPACE,
        training_rate=10_000.0,
    ),
    AgentSpec(
        "qrdqn",
        _ADAPTER,
        _RECIPES,
        learns="online",
        arguments={"name": "qrdqn"},
        defaults=_DISCRETE | {"policy_kwargs": _SMALL | {"n_quantiles": 25}},
        search_space={**_DISCRETE_SPACE, "policy_kwargs.n_quantiles": Choice(10, 25, 50, 100)},
        training_rate=5_000.0,
    ),
    AgentSpec(
        "recurrent-ppo",
        _ADAPTER,
        _WEIGHTS,
        learns="online",
        arguments={"name": "recurrent-ppo"},
        defaults=_LONG_ROLLOUTS | {"policy_kwargs": _GAUSSIAN | {"lstm_hidden_size": 32}},
        search_space={
            **_PROXIMAL_SPACE,
            **_NETWORKS,
            **_SPREADS,
            "policy_kwargs.lstm_hidden_size": Choice(16, 32, 64, 128),
        },
        training_rate=3_000.0,
    ),
    AgentSpec(
        "maskable-ppo",
        _ADAPTER,
        _RECIPES,
        learns="online",
        arguments={"name": "maskable-ppo"},
        defaults=_LONG_ROLLOUTS | {"policy_kwargs": _SMALL},
        search_space={**_PROXIMAL_SPACE, **_NETWORKS},
        training_rate=15_000.0,
    ),
    AgentSpec(
        "td3-bc",
        _ADAPTER,
        "offline: TD3+BC, from what noisy ranking weights earned; it never acts while it learns",
        learns="online",
        arguments={"name": "td3-bc"},
        defaults=_CONTINUOUS
        | {"batch_size": 512, "gradient_steps": 4, "action_noise": 0.5, "alpha": 2.5},
        search_space=_CONTINUOUS_SPACE | _ALPHAS,
        training_rate=6_000.0,
    ),
    AgentSpec(
        "cql",
        _ADAPTER,
        "offline: conservative Q-learning, from what random recipes earned; it never acts either",
        learns="online",
        arguments={"name": "cql"},
        defaults=_OFF_POLICY
        | {
            "gradient_steps": 2,
            "batch_size": 256,
            "target_update_interval": 2_000,
            "exploration_initial_eps": 1.0,
            "exploration_final_eps": 1.0,
            "learning_rate": 1e-3,
            "alpha": 1.0,
            "policy_kwargs": _SMALL,
        },
        search_space={
            **_OFF_POLICY_SPACE,
            **_ALPHAS,
            "target_update_interval": Choice(500, 1_000, 2_000, 5_000),
        },
        training_rate=10_000.0,
    ),
    AgentSpec(
        "ppo-levels",
        _ADAPTER,
        "PPO on a belief: it sets how far the slates of `joint` or a trained `slateq` look ahead",
        learns="online",
        arguments={"name": "ppo-levels"},
        defaults=_LONG_ROLLOUTS | {"belief": "joint", "policy_kwargs": _GAUSSIAN},
        search_space={**_PROXIMAL_SPACE, **_NETWORKS, **_SPREADS},
        training_rate=5_000.0,
        fitting_seconds=12.0,
    ),
    AgentSpec(
        "ppo-pointer",
        _ADAPTER,
        "PPO over whole slates: one network scores every candidate; it imitates `joint` first",
        learns="online",
        arguments={"name": "ppo-pointer"},
        defaults={
            **_PROXIMAL,
            "n_steps": 64,
            "batch_size": 2048,
            "n_epochs": 4,
            "learning_rate": 1e-3,
            "gae_lambda": 0.5,
            "expert": "joint",
            "joint_features": True,
        },
        search_space={
            **_PROXIMAL_SPACE,
            "gae_lambda": Uniform(0.3, 1.0),
            "policy_kwargs.scale": Uniform(5.0, 50.0, log=True),
            "policy_kwargs.hidden": Choice(4, 8, 16, 32),
            "policy_kwargs.embedding": Choice(16, 32, 64),
        },
        training_rate=11_000.0,
    ),
)
