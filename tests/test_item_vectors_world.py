"""Worlds whose items carry more than a text: who is told of it, and what it decides."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from agents.checkpoint import traits_of
from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.content.catalogues import CatalogError
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.text_space import ItemVectorsWarning
from llmrec_env.world import World, load_world


@pytest.fixture(scope="module")
def covers(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("covers") / "covers.npy"
    np.save(path, np.random.default_rng(3).normal(size=(600, 6)))
    return str(path)


@pytest.fixture(scope="module")
def worlds(tiny: dict[str, Any], covers: str) -> dict[str, World]:
    """By how agents read the items, of one hidden truth."""
    fields = tiny | {"item_vectors": covers, "taste_channel": 0.6}
    return {
        fusion: load_world(EnvConfig(**fields, fusion=fusion))
        for fusion in ("text-alone", "concatenation", "gated-sum")
    }


def test_what_agents_read_changes_nothing_hidden(worlds: dict[str, World]):
    alone, *others = worlds.values()
    for other in others:
        for name in ("traits", "users", "params", "text_vectors", "community_taste"):
            np.testing.assert_array_equal(getattr(other, name), getattr(alone, name))
        for mine, theirs in zip(other.logs, alone.logs, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        interests, taste = other.interests.vectors[:3], alone.users["taste"][:3]
        np.testing.assert_array_equal(
            other.relevance(interests, taste), alone.relevance(interests, taste)
        )
        assert not np.array_equal(other.items.vectors, alone.items.vectors)
        assert not np.array_equal(other.histories["interest"], alone.histories["interest"])


def test_a_share_of_taste_is_a_linear_function_of_the_vectors(
    worlds: dict[str, World], covers: str, world: World
):
    taste = worlds["text-alone"].traits["taste"].astype(np.float64)
    design = np.c_[np.load(covers), np.ones(600)]
    left = taste - design @ np.linalg.lstsq(design, taste)[0]
    assert 1.0 - left.var() / taste.var() == pytest.approx(0.6, abs=0.1)
    assert taste.var() == pytest.approx(world.traits["taste"].var(), rel=0.1)
    before = world.traits["taste"].astype(np.float64)
    left = before - design @ np.linalg.lstsq(design, before)[0]
    assert left.var() / before.var() > 0.95


def test_vectors_that_decide_nothing_leave_every_bit(
    tiny: dict[str, Any], covers: str, world: World
):
    other = load_world(EnvConfig(**tiny, item_vectors=covers, fusion="text-alone"))
    for name in ("traits", "users", "params", "histories"):
        np.testing.assert_array_equal(getattr(other, name), getattr(world, name))
    np.testing.assert_array_equal(other.items.vectors, world.items.vectors)


@pytest.mark.parametrize("fusion", ["concatenation", "gated-sum"])
def test_sessions_are_shown_fused_vectors(tiny: dict[str, Any], covers: str, fusion: str):
    env = gymnasium.make_vec(
        "llmrec/Drift-v1",
        num_envs=3,
        **tiny,
        item_vectors=covers,
        fusion=fusion,
        observation="dict",
    ).unwrapped
    assert isinstance(env, RecVectorEnv)
    observation: Any = env.reset(seed=0)[0]
    data = env.public_data()
    v = observation["interest"]
    for i, ids in enumerate(observation["candidates"]):
        cosine = data.items.vectors[ids] @ v[i]
        np.testing.assert_allclose(observation["candidate_features"][i, :, 0], cosine, atol=1e-5)
    typed = observation["query"].any(axis=1)
    if typed.any():
        nearest = (observation["query"][typed] @ data.phrase_vectors.T).max(axis=1)
        np.testing.assert_allclose(nearest, 1.0, atol=1e-5)


def test_an_agent_of_other_vectors_is_told_from_this_one(tiny: dict[str, Any], covers: str):
    sketches = []
    for weight in (0.2, 0.4):
        env = gymnasium.make_vec(
            "llmrec/Drift-v1", num_envs=1, **tiny, item_vectors=covers, channel_weight=weight
        ).unwrapped
        assert isinstance(env, RecVectorEnv)
        sketches.append(traits_of(env)["item_vectors"])
    assert sketches[0] != sketches[1]


def test_items_without_a_vector_are_told_of(tiny: dict[str, Any], tmp_path: Path):
    path = tmp_path / "some.npz"
    np.savez(path, ids=np.arange(590), vectors=np.random.default_rng(4).normal(size=(590, 3)))
    config = EnvConfig(**tiny, item_vectors=str(path), taste_channel=0.5)
    with pytest.warns(ItemVectorsWarning, match=r"no vector of 10 of 600 items"):
        made = load_world(config)
    plain = load_world(dataclasses.replace(config, item_vectors=None, taste_channel=0.0))
    same = (made.traits["taste"] == plain.traits["taste"]).all(axis=1)
    assert same[590:].all() and not same[:590].any()


def test_what_does_not_fit_is_refused(tiny: dict[str, Any], tmp_path: Path):
    np.save(tmp_path / "few.npy", np.eye(599))
    with pytest.raises(CatalogError, match="599 vectors for 600 items"):
        load_world(EnvConfig(**tiny, item_vectors=str(tmp_path / "few.npy")))
    with pytest.raises(CatalogError, match="there is no such file; check the path"):
        load_world(EnvConfig(**tiny, item_vectors="nowhere.npy"))
    with pytest.raises(ConfigError, match=r"taste_channel=0\.3, but items carry nothing beside"):
        load_world(EnvConfig(**tiny, taste_channel=0.3))
    with pytest.raises(ConfigError, match="Did you mean 'gated-sum'"):
        EnvConfig(**tiny, fusion="gated_sum")
    with pytest.raises(ConfigError, match="item_vectors=3 is not a non-empty string"):
        EnvConfig(**tiny, item_vectors=3)  # pyright: ignore[reportArgumentType]
