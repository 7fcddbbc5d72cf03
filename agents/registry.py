"""Registry of agents: one table of all that is said of an agent outside its own module.

A new agent is its module and one entry here. Benchmark presets, budgets, costs, tuning, colours of
figures, the README's table and the contract tests read this table.

Settings were chosen on validation users of worlds 100 and up: most by hand from short runs, `ppo`'s
confirmed by `python -m experiments tune`. Nothing in them has seen a test user, or a world that is
reported on.
"""

from __future__ import annotations

import copy
from typing import Any

from agents.agent_spec import GAMMAS, RATES, AgentSpec, Choice, Integer, SearchSpace, Uniform
from agents.base import Agent
from agents.rl.sb3_specs import SB3_SPECS
from llmrec_env.config import EnvConfig, unknown

_PUBLIC_TERMS: SearchSpace = {
    "substance": Uniform(0.0, 0.4),
    "skipped": Uniform(0.0, 0.4),
    "popular": Uniform(0.0, 0.6),
}
"""Weights, beside a cosine, that every ranker of texts may give to what anyone can read off."""
_PLANNING = {"substance": 0.2, "satiation": 0.17, "discovery": 0.77, "satisfaction": 0.45}
_LOOKAHEAD: SearchSpace = {
    "substance": Uniform(0.0, 1.0),
    "satiation": Uniform(0.0, 0.4),
    "discovery": Uniform(0.0, 1.0),
    "satisfaction": Uniform(0.0, 1.0),
}
"""What consumption is worth beyond the step to an oracle."""

_READING = (
    "language models that read the past: an encoder of one document, a causal model's likelihoods, "
    "or its answers in text: [how](docs/language_agents.md)"
)

_SPECS = (
    AgentSpec(
        "random",
        "agents.rankers.baselines:Random",
        "the floor",
        ladder=True,
        colour="#8a8a8a",
    ),
    AgentSpec(
        "popular",
        "agents.rankers.baselines:Popular",
        "the floor",
        learns="logs",
        ladder=True,
        colour="#8c6d4f",
    ),
    AgentSpec(
        "item-knn",
        "agents.rankers.item_models:ItemNeighbours",
        "who consumed what together",
        learns="logs",
    ),
    AgentSpec(
        "ease",
        "agents.rankers.item_models:Ease",
        "who consumed what together",
        learns="logs",
        ladder=True,
        colour="#d99ac5",
    ),
    AgentSpec(
        "ease-text",
        "agents.rankers.ease_text:EaseText",
        "who consumed what together, drawn to what the texts say",
        learns="logs",
        defaults={"text": 0.1, "substance": 0.05, "skipped": 0.1, "popular": 0.1},
        search_space={
            **_PUBLIC_TERMS,
            "regularisation": Uniform(20.0, 2000.0, log=True),
            "decay": Uniform(0.6, 1.0),
            "text": Uniform(0.003, 3.0, log=True),
        },
    ),
    AgentSpec(
        "collaborative",
        "agents.rankers.als:Collaborative",
        "alternating least squares: who consumed what together, in a few factors",
        learns="logs",
        ladder=True,
        colour="#b8619a",
    ),
    AgentSpec(
        "two-tower",
        "agents.neural.next_item:TwoTower",
        "what the texts of the past say, learnt from logs",
        learns="logs",
        fitting_seconds=13.0,
    ),
    AgentSpec(
        "sasrec",
        "agents.neural.sasrec:SelfAttentive",
        "what the texts of the past say, learnt from logs",
        learns="logs",
        fitting_seconds=36.0,
    ),
    AgentSpec(
        "content",
        "agents.rankers.baselines:Content",
        "what the texts of the past say",
        defaults={"substance": 0.139, "skipped": 0.331, "popular": 0.431},
        search_space=_PUBLIC_TERMS,
        ladder=True,
        colour="#45a0dc",
    ),
    AgentSpec(
        "content-recency",
        "agents.rankers.baselines:ContentRecency",
        "what the texts of the past say",
        defaults={"decay": 0.914, "substance": 0.197, "skipped": 0.296, "popular": 0.593},
        search_space=_PUBLIC_TERMS | {"decay": Uniform(0.6, 1.0)},
        ladder=True,
        colour="#0062a3",
    ),
    AgentSpec(
        "lin-ucb",
        "agents.rankers.bandits:LinUcb",
        "linear bandits over ranking features",
        learns="online",
        seeded=False,
    ),
    AgentSpec(
        "thompson",
        "agents.rankers.bandits:ThompsonSampling",
        "linear bandits over ranking features",
        learns="online",
        seeded=False,
    ),
    AgentSpec(
        "drift-aware",
        "agents.rankers.baselines:DriftAware",
        "recent texts and queries, against what was skipped, and a little of everybody's taste",
        learns="logs",
        defaults={
            "decay": 0.958,
            "substance": 0.342,
            "skipped": 0.231,
            "popular": 0.484,
            "recent": 0.566,
            "query": 0.683,
            "collaborative": 0.0491,
        },
        search_space={
            **_PUBLIC_TERMS,
            "decay": Uniform(0.6, 1.0),
            "recent": Uniform(0.0, 1.5),
            "query": Uniform(0.0, 1.0),
            "collaborative": Uniform(0.0, 0.2),
        },
        ladder=True,
        colour="#00886a",
    ),
    AgentSpec(
        "joint",
        "agents.joint.recommender:Joint",
        "collaborative filtering and content trained together, L = λ1 L_C + λ2 L_T: "
        "[`agents/joint/recommender.py`](agents/joint/recommender.py)",
        learns="logs",
        seeded=True,
        defaults={"substance": 0.08, "skipped": 0.6, "patience": 0.0, "curiosity": 0.1},
        search_space={
            "skipped": Uniform(0.2, 1.0),
            "substance": Uniform(0.0, 0.2),
            "patience": Uniform(0.0, 0.4),
            "curiosity": Uniform(0.0, 0.5),
            "deviation": Uniform(0.001, 0.02, log=True),
            "text_map": Uniform(0.003, 0.05, log=True),
            "rank": Choice(6, 8, 12),
        },
        ladder=True,
        fitting_seconds=12.0,
    ),
    AgentSpec(
        "joint-linear",
        "agents.joint.language:JointWithLanguage",
        "the same, and the encoder of the texts with it",
        learns="logs",
        seeded=True,
        arguments={"mode": "linear"},
        defaults={
            "encoder": "word-vectors",
            "language_epochs": 2,
            "language_batch": 64,
            "language_rate": 2e-3,
        },
        trains_encoder=True,
        fitting_seconds=60.0,
    ),
    AgentSpec(
        "joint-lora",
        "agents.joint.language:JointWithLanguage",
        "the same, and the encoder of the texts with it",
        learns="logs",
        seeded=True,
        arguments={"mode": "lora"},
        trains_encoder=True,
        fitting_seconds=230.0,
    ),
    AgentSpec(
        "joint-full",
        "agents.joint.language:JointWithLanguage",
        "the same, and the encoder of the texts with it",
        learns="logs",
        seeded=True,
        arguments={"mode": "full"},
        defaults={"language_rate": 2e-5},
        trains_encoder=True,
        fitting_seconds=500.0,
    ),
    AgentSpec(
        "lm-embed",
        "agents.lm.embed:LmEmbed",
        _READING,
        defaults={"substance": 0.139, "skipped": 0.331, "popular": 0.431},
        search_space=_PUBLIC_TERMS,
        language_model=True,
        acting_seconds=3.0,
    ),
    AgentSpec(
        "lm-rank",
        "agents.lm.rank:LmRank",
        _READING,
        language_model=True,
        acting_seconds=60.0,
    ),
    AgentSpec(
        "lm-generate",
        "agents.lm.generate:LmGenerate",
        _READING,
        language_model=True,
        acting_seconds=60.0,
    ),
    AgentSpec(
        "lm-reinforce",
        "agents.lm.reinforce:LmReinforce",
        "a language model fine-tuned on the rewards of its answers, by REINFORCE and LoRA: "
        "[`agents/lm/reinforce.py`](agents/lm/reinforce.py)",
        learns="online",
        language_model=True,
        training_rate=20.0,
    ),
    *SB3_SPECS,
    AgentSpec(
        "cloning",
        "agents.rl.cloning:BehaviourCloning",
        "behaviour cloning of logged slates, the offline baseline of the learners below",
        learns="logs",
        seeded=True,
        defaults={
            "imitated": "satisfied",
            "learning_rate": 2e-3,
            "scale": 20.0,
            "ema_decay": 0.95,
            "log_epochs": 3,
        },
        search_space=RATES | {"log_epochs": Integer(1, 10)},
    ),
    AgentSpec(
        "reinforce-topk",
        "agents.rl.reinforce:TopKReinforce",
        "REINFORCE with a top-K off-policy correction: "
        "[`agents/rl/reinforce.py`](agents/rl/reinforce.py)",
        learns="online",
        defaults={
            "gamma": 0.98,
            "td_lambda": 0.7,
            "clip": 5.0,
            "entropy": 0.1,
            "steps": 32,
            "num_rollouts": 4,
            "learning_rate": 2e-3,
            "lr_half_life": 300_000,
            "scale": 20.0,
            "ema_decay": 0.95,
            "log_epochs": 3,
        },
        search_space=GAMMAS | RATES,
    ),
    AgentSpec(
        "world-model",
        "agents.rl.world_model.learner:WorldModelAgent",
        "a recurrent network that learns from events what follows from slates: "
        "[`agents/rl/world_model`](agents/rl/world_model)",
        learns="online",
        defaults={
            "gamma": 0.98,
            "td_lambda": 0.9,
            "sums": 8,
            "hidden": 64,
            "heads": 4,
            "explore": 0.05,
            "ema_decay": 0.9,
            "steps": 32,
            "descents": 3,
            "num_rollouts": 8,
            "learning_rate": 3e-3,
            "future_rate": 2e-3,
            "lr_half_life": 300_000,
            "warm_up": 8,
            "ramp": 32,
            "log_epochs": 3,
            "instruction": True,
        },
        search_space={
            **GAMMAS,
            "learning_rate": Uniform(5e-4, 1e-2, log=True),
            "td_lambda": Uniform(0.7, 1.0),
            "explore": Uniform(0.0, 0.2),
            "descents": Integer(1, 6),
            "sums": Choice(4, 8, 16),
            "heads": Choice(1, 4, 8),
            "log_epochs": Integer(1, 6),
            "future_rate": Uniform(5e-4, 1e-2, log=True),
            "lr_half_life": Uniform(5e4, 1e6, log=True),
        },
        training_rate=1_100.0,
        fitting_seconds=75.0,
    ),
    AgentSpec(
        "slateq",
        "agents.rl.slateq.learner:SlateQ",
        "a recurrent model of the user learnt online, and decomposed values of slates: "
        "[`agents/rl/slateq`](agents/rl/slateq)",
        learns="online",
        defaults={
            "gamma": 0.98,
            "td_lambda": 0.9,
            "slates": "greedy",
            "mmr": 0.1,
            "explore": 0.08,
            "interest_optimism": 0.0,
            "taste_optimism": 0.0,
            "ema_decay": 0.9,
            "steps": 64,
            "learning_rate": 0.01,
            "future_rate": 2e-3,
            "lr_half_life": 300_000,
            "shrinkage": 8.0,
            "warm_up": 4,
            "ramp": 16,
            "log_epochs": 3,
            "instruction": True,
        },
        acting_settings=("slates", "mmr", "interest_optimism", "taste_optimism"),
        search_space={
            **GAMMAS,
            "learning_rate": Uniform(2e-3, 5e-2, log=True),
            "td_lambda": Uniform(0.7, 1.0),
            "mmr": Uniform(0.0, 0.5),
            "explore": Uniform(0.0, 0.2),
            "interest_optimism": Uniform(0.0, 1.0),
            "taste_optimism": Uniform(0.0, 1.0),
            "steps": Choice(32, 64),
            "future_rate": Uniform(5e-4, 1e-2, log=True),
            "lr_half_life": Uniform(5e4, 1e6, log=True),
            "shrinkage": Uniform(0.5, 32.0, log=True),
        },
        ladder=True,
        training_rate=4_800.0,
        fitting_seconds=35.0,
    ),
    AgentSpec(
        "belief-oracle",
        "agents.rankers.belief_oracle.agent:BeliefOracle",
        "what public history can tell: knows the simulation, and filters what users may be into: "
        "[`agents/rankers/belief_oracle`](agents/rankers/belief_oracle)",
        defaults={"particles": 40, "moves": 10} | _PLANNING,
        search_space=_LOOKAHEAD,
        oracle=True,
        colour="#7a3db8",
        acting_seconds=3.0,
    ),
    AgentSpec(
        "oracle-myopic",
        "agents.rankers.oracles:myopic_oracle",
        "upper bounds that see the interests",
        ladder=True,
        oracle=True,
        colour="#d55e00",
    ),
    AgentSpec(
        "oracle-planning",
        "agents.rankers.oracles:planning_oracle",
        "upper bounds that see the interests",
        defaults=_PLANNING,
        search_space=_LOOKAHEAD,
        ladder=True,
        oracle=True,
        colour="#111111",
    ),
)
AGENTS: dict[str, AgentSpec] = {spec.name: spec for spec in _SPECS}
"""Every agent by its name, from the weakest expected to the strongest."""


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
    try:
        return spec_of(name)(seed=seed, **settings)
    except TypeError as error:
        raise ValueError(f"agent {name!r} does not take these settings: {error}.") from error


def spec_of(name: str) -> AgentSpec:
    """Returns what is known of an agent; ValueError with the nearest name if there is none."""
    if name not in AGENTS:
        raise ValueError(unknown("agent", name, list(AGENTS)))
    return AGENTS[name]


def is_oracle(name: str) -> bool:
    """Says whether an agent is one of ours, and an upper bound that knows what is hidden."""
    return name in AGENTS and AGENTS[name].oracle


def defaults_of(name: str) -> dict[str, Any]:
    """Returns a copy of an agent's default settings, which may be changed."""
    return copy.deepcopy(dict(AGENTS[name].defaults))


def summary_table() -> str:
    """Returns the README's table of agents in Markdown; neighbours that do the same share a row."""
    rows: dict[str, list[str]] = {}
    for spec in AGENTS.values():
        rows.setdefault(spec.summary, []).append(f"`{spec.name}`")
    lines = [f"| {', '.join(names)} | {summary} |" for summary, names in rows.items()]
    return "\n".join(["| name | what it does |", "|---|---|", *lines])
