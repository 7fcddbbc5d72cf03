"""Tiny causal models for all tests of language-model agents, and a world of short titles."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_causal import save_tiny_causal

from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.world import SubstanceWarning

TOPICS = ("tea", "trains", "tides", "pasta")
WORDS = (
    "llmrec prompt Choose this user s next slate of the candidates best first The takes one them "
    "or none is satisfied not and leaves when too little satisfies Earlier slates newest taken "
    "typed last passed over Candidates Answer with number candidate diary"
).split()
TOY: dict[str, Any] = {
    "encoder": "hashing",
    "num_users": 200,
    "dim": 16,
    "horizon": 20,
    "slate_size": 1,
    "candidates": 6,
    "recall": "two-stage",  # the likely ones come first in the list: what there is to learn
    "impression_cap": 1,
    "warmup_slates": 4,
    "interest_slots": 2,
    "active_min": 1,
    "active_max": 1,
    "off": ["drift", "satiation", "goodwill", "taste"],
}


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_causal(tmp_path_factory.mktemp("tiny-lm"))


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    sizes = {"num_hidden_layers": 1, "initializer_range": 0.05}
    return str(save_tiny_causal(tmp_path_factory.mktemp("lm"), [*WORDS, *TOPICS], **sizes))


@pytest.fixture(scope="session")
def new_toy(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RecVectorEnv]:
    """Makes environments of a catalogue of 240 short titles."""
    file = tmp_path_factory.mktemp("toy") / "toy.csv"
    with open(file, "w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["text", "topic", "title"])
        for number in range(240):
            topic, index = TOPICS[number % 4], number // 4
            text = f"{topic} {index} of the {topic} diary"
            table.writerow([text, topic, f"{topic} {index}"])

    def make(n: int, **changes: Any) -> RecVectorEnv:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SubstanceWarning)
            return RecVectorEnv(n, **(TOY | {"catalog": str(file)} | changes))

    return make
