"""Worlds whose items carry more than a text: who is told of it, and what it decides."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from agents import make_agent
from agents.checkpoint import traits_of
from agents.features import NEIGHBOURS, FeatureExtractor, blocks_of
from agents.item_links import LinkedShare
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


@pytest.fixture(scope="module")
def triples(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A graph in which every fourth item is of one kind, and one kind is of another's family."""
    path = tmp_path_factory.mktemp("graph") / "triples.csv"
    rows = [f"{item},kind,k{item % 4}" for item in range(600)]
    path.write_text("\n".join(["head,relation,tail", *rows, "k0,family,f", "k1,family,f"]))
    return str(path)


def test_a_graph_is_read_as_vectors_of_what_is_linked_alike(
    tiny: dict[str, Any], triples: str, world: World
):
    made = load_world(EnvConfig(**tiny, item_graph=triples, channel_weight=0.5))
    links = made.public().links
    assert links is not None and len(links.items) == 600 + 300
    kind = np.arange(600) % 4
    for vectors, gap in ((made.items.vectors, 0.3), (world.items.vectors, 0.0)):
        cosine = vectors @ vectors.T
        same = cosine[kind[:, None] == kind].mean()
        other = cosine[(kind[:, None] == 0) & (kind == 2)].mean()
        family = cosine[(kind[:, None] == 0) & (kind == 1)].mean()
        assert same - other > gap if gap else abs(same - other) < 0.05
        assert not gap or same > family > other
    for name in ("traits", "users", "params"):
        np.testing.assert_array_equal(getattr(made, name), getattr(world, name))


def test_a_graph_may_decide_taste(tiny: dict[str, Any], triples: str):
    made = load_world(EnvConfig(**tiny, item_graph=triples, taste_channel=1.0))
    taste = made.traits["taste"]
    for kind in range(4):
        np.testing.assert_allclose(taste[kind::4], taste[kind : kind + 1].repeat(150, 0), atol=1e-5)


def test_neighbours_are_a_feature_of_candidates(tiny: dict[str, Any], triples: str):
    fields = tiny | {"item_graph": triples, "fusion": "text-alone"}
    env = gymnasium.make_vec("llmrec/Drift-v1", num_envs=2, **fields, observation="dict").unwrapped
    assert isinstance(env, RecVectorEnv)
    observation: Any = env.reset(seed=0)[0]
    extractor = FeatureExtractor(("candidate_features", NEIGHBOURS))
    extractor.fit(env.public_data(), env.config)
    assert NEIGHBOURS in blocks_of(env.public_data(), env.config)
    column = extractor.encode(observation).reshape(2, env.config.candidates, -1)[:, :, -1]
    expected = LinkedShare(env.public_data().links, 600)(observation)
    np.testing.assert_array_equal(column, expected)
    assert 0.0 < expected.max() <= 1.0
    ranker = make_agent("content", env.config, 0, neighbours=5.0)
    ranker.fit(env, 0)
    slate = ranker.act(observation, np.ones(2, np.bool_))
    shown = np.take_along_axis(expected, slate, axis=1).mean()
    assert shown > expected.mean()
    plain = gymnasium.make_vec("llmrec/Drift-v1", num_envs=2, **tiny, observation="dict").unwrapped
    assert isinstance(plain, RecVectorEnv)
    assert NEIGHBOURS not in blocks_of(plain.public_data(), plain.config)
    with pytest.raises(ValueError, match="which this world lacks; give the environment item_graph"):
        extractor.fit(plain.public_data(), plain.config)
