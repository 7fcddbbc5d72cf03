"""A Gymnasium environment of recommender users whose text-defined interests drift."""

from __future__ import annotations

from typing import Any

import gymnasium

from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.encoders import load_encoder

__all__ = ["TASKS", "Catalog", "ConfigError", "EnvConfig", "load_encoder"]
__version__ = "0.1.0"

TASKS: dict[str, dict[str, Any]] = {
    "llmrec/Drift-v1": {},
    "llmrec/Static-v1": {"off": ["drift", "satiation", "goodwill"]},
    "llmrec/Switch-v1": {"switch_rate": 0.12},
    "llmrec/Burst-v1": {"burst_step": 50, "switch_rate": 0.0},
    "llmrec/Boredom-v1": {"satiation_choice": 2.4, "satiation_satisfaction": 3.6},
    "llmrec/Goodwill-v1": {"goodwill_satisfaction": 2.0, "lure": 1.2},
    "llmrec/Item-v1": {"action": "item", "slate_size": 1, "warmup_slates": 100},
    "llmrec/Weights-v1": {"action": "weights"},
    "llmrec/Cascade-v1": {"response": "cascade"},
    "llmrec/Instruct-v1": {"instruct_rate": 0.5},
    "llmrec/Ecommerce-v1": {
        "catalog": "ecommerce",
        "query_rate": 0.3,
        "satiation_decay": 0.9,
        "satiation_satisfaction": 2.7,
    },
    "llmrec/News-v1": {
        "catalog": "news",
        "choice_quality": 0.5,
        "switch_rate": 0.06,
        "query_rate": 0.05,
        "new_items": 0.7,
    },
    "llmrec/Social-v1": {
        "catalog": "social",
        "lure": 1.2,
        "reinforce": 0.4,
        "exposure": 0.04,
        "query_rate": 0.02,
        "creator_growth": 0.5,
    },
    "llmrec/Support-v1": {
        "catalog": "support",
        "query_rate": 0.6,
        "active_min": 1,
        "active_max": 2,
        "satisfaction_bias": -1.0,
        "patience_start": 6.0,
        "resolution": 0.4,
    },
    "llmrec/Finance-v1": {
        "catalog": "finance",
        "regime_rate": 0.04,
        "lure": 0.4,
        "position_bias": 0.25,
    },
    "llmrec/CaseStudy-v1": {"num_users": 10_000, "num_items": 20_000, "dim": 128},
    "llmrec/MovieLensCalibrated-v1": {
        "catalog": "movielens",
        "switch_rate": 0.0607,
        "ou_rate": 0.0184,
        "ou_sigma": 0.204,
        "base_sd": 0.744,
        "choice_relevance": 8.1,
        "choice_quality": 2.14,
        "choice_null": 7.28,
        "relevance_taste": 0.564,
        "satiation_choice": 0.25,
        "satisfaction_bias": -3.57,
        "active_min": 2,
        "active_max": 3,
    },
}
"""Every task as its differences from the defaults of EnvConfig."""

for _id, _differences in TASKS.items():
    gymnasium.register(
        id=_id,
        entry_point="llmrec_env.envs.single:RecEnv",
        vector_entry_point="llmrec_env.envs.vector:RecVectorEnv",
        kwargs=_differences,
    )
