"""Sizes that make a small catalogue do."""

from __future__ import annotations

import dataclasses

import pytest

from llmrec_env.config import EnvConfig
from llmrec_env.content.catalogues import MIN_ITEMS
from llmrec_env.world_size import fitting_sizes, needed_items

CONFIGS = [
    EnvConfig(),
    EnvConfig(response="cascade"),
    EnvConfig(action="item", slate_size=1, warmup_slates=100),
    EnvConfig(candidates=0),
    EnvConfig(horizon=1000, slate_size=20),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_sizes_fit(config: EnvConfig):
    assert fitting_sizes(needed_items(config), config) == {}
    for count in range(MIN_ITEMS, needed_items(config), 7):
        fields = fitting_sizes(count, config)
        assert fields
        fitted = dataclasses.replace(config, **fields)
        assert needed_items(fitted) <= count
        assert 0 < fitted.slate_size <= config.slate_size and fitted.horizon <= config.horizon
        assert fitted.candidates >= fitted.slate_size or config.candidates == 0


def test_more_items_allow_more():
    horizons = [fitting_sizes(count).get("horizon", 100) for count in range(20, 300, 20)]
    assert horizons == sorted(horizons)
