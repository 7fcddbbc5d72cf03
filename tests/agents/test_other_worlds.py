"""Saved agents in other worlds: refused by default, taken along without what they know of items."""

from __future__ import annotations

import numpy as np
import pytest
from test_saving import rewrite

from agents import AGENTS
from agents.base import WorldError
from agents.checkpoint import knows_items, load_agent, read_saved

NEXT_WORLD, CATALOGUE, ENCODER = (
    {"world_seed": 1},
    {"catalog": "ecommerce"},
    {"encoder": "word-vectors"},
)
KNOW_ITEMS = {
    "item-knn",
    "ease",
    "ease-text",
    "collaborative",
    "two-tower",
    "sasrec",
    "drift-aware",
    "joint",
    "joint-linear",
    "joint-lora",
    "joint-full",
    "world-model",
    "slateq",
    "ppo-levels",
    "ppo-pointer",
}


def test_who_knows_items():
    known = {x for x, spec in AGENTS.items() if not spec.language_model and knows_items(spec())}
    assert known == KNOW_ITEMS
    assert not knows_items(AGENTS["ppo-pointer"](joint_features=False))


@pytest.mark.parametrize("kind", ["joint", "slateq", "drift-aware", "ease"])
def test_who_knows_items_is_refused_in_another_world(kind, fitted):
    folder, new_env = fitted(kind).folder, fitted(kind).new_env
    said = f"'{kind}' was made for another environment: it knows the items of world 0, and this is "
    with pytest.raises(WorldError, match=f"{said}world 1.*transfer=True"):
        load_agent(folder, new_env(**NEXT_WORLD))
    for changes, text in (
        (CATALOGUE, "'video' read by 'hashing' there, 'ecommerce' read by 'hashing' here"),
        (ENCODER, "'video' read by 'hashing' there, 'video' read by 'word-vectors' here"),
        ({"num_items": 500}, "num_items is 600 there, 500 here"),
    ):
        with pytest.raises(WorldError, match=text):
            load_agent(folder, new_env(**changes))


@pytest.mark.parametrize("kind", ["joint", "slateq"])
def test_phrases_count_for_those_who_know_them_by_their_ids(kind, fitted, tmp_path):
    folder, new_env = fitted(kind).folder, fitted(kind).new_env
    _copy(folder, tmp_path)
    rewrite(tmp_path, made_for=read_saved(folder).made_for | {"phrase_texts": "others"})
    with pytest.raises(WorldError, match="the interest phrases are others"):
        load_agent(tmp_path, new_env())


@pytest.mark.parametrize("kind", ["joint", "slateq"])
@pytest.mark.parametrize("changes", [{"response": "cascade"}, {"switch_rate": 0.3}])
def test_other_dynamics_are_the_same_world(kind, changes, fitted, play_steps):
    agent, _, new_env, folder, _ = fitted(kind)
    env = new_env(**changes)
    loaded = load_agent(folder, env)
    for one, other in zip(_arrays(loaded), _arrays(agent), strict=True):
        np.testing.assert_array_equal(one, other)
    assert play_steps(loaded, env).shape == (12, 4, 5)


@pytest.mark.parametrize(
    "kind", ["joint", "slateq", "world-model", "drift-aware", "ppo", "cloning"]
)
@pytest.mark.parametrize("changes", [NEXT_WORLD, CATALOGUE, ENCODER])
def test_it_is_taken_along_on_purpose(kind, changes, fitted, play_steps):
    _, _, new_env, folder, _ = fitted(kind)
    env = new_env(**changes)
    assert len(play_steps(load_agent(folder, env, transfer=True), env)) == 12


def test_what_reads_texts_alone_acts_in_any_world_of_the_same_items(fitted):
    for kind in ("ppo", "cloning", "content"):
        load_agent(fitted(kind).folder, fitted(kind).new_env(**NEXT_WORLD))
        with pytest.raises(WorldError, match="'ecommerce' read by"):
            load_agent(fitted(kind).folder, fitted(kind).new_env(**CATALOGUE))


@pytest.mark.parametrize("changes", [NEXT_WORLD, CATALOGUE])
def test_joint_leaves_behind_what_it_knows_of_items(changes, fitted):
    agent, _, new_env, folder, _ = fitted("joint")
    env = new_env(**changes)
    moved = load_agent(folder, env, transfer=True)
    np.testing.assert_array_equal(moved.parameters, agent.parameters)
    taste = moved.learnt.taste
    assert len(taste.factors) == len(env.public_data().catalog)
    for one, other in zip(taste, agent.learnt.taste, strict=True):
        assert np.ptp(one, axis=0).max() == 0.0 and np.ptp(other, axis=0).max() > 0.0
        np.testing.assert_allclose(one[0], other.mean(axis=0))
    np.testing.assert_array_equal(moved.texts.read, env.public_data().items.vectors)


def test_joint_keeps_it_where_the_encoder_alone_is_another(fitted):
    agent, _, new_env, folder, _ = fitted("joint")
    env = new_env(**ENCODER)
    moved = load_agent(folder, env, transfer=True)
    np.testing.assert_array_equal(moved.learnt.taste.factors, agent.learnt.taste.factors)
    np.testing.assert_array_equal(moved.texts.read, env.public_data().items.vectors)


@pytest.mark.parametrize("changes", [NEXT_WORLD, CATALOGUE])
def test_slateq_leaves_behind_what_it_knows_of_items_and_phrases(changes, fitted):
    agent, _, new_env, folder, _ = fitted("slateq")
    env = new_env(**changes)
    moved, before = load_agent(folder, env, transfer=True).tracker.model, agent.tracker.model
    np.testing.assert_array_equal(moved.parameters, before.parameters)
    assert len(moved.biases) == len(moved.taste.factors) == len(env.public_data().catalog)
    for one in (moved.biases, moved.taste.factors, moved.prior):
        assert np.ptp(one, axis=0).max() == 0.0
    np.testing.assert_allclose(moved.prior.sum(), before.prior.sum(), rtol=0.05)
    np.testing.assert_array_equal(moved.vectors, env.public_data().items.vectors)


def test_slateq_keeps_it_where_the_encoder_alone_is_another(fitted):
    agent, _, new_env, folder, _ = fitted("slateq")
    moved = load_agent(folder, new_env(**ENCODER), transfer=True).tracker.model
    np.testing.assert_array_equal(moved.biases, agent.tracker.model.biases)
    np.testing.assert_array_equal(moved.prior, agent.tracker.model.prior)


@pytest.mark.parametrize("kind", ["collaborative", "ease"])
def test_what_is_of_items_alone_is_taken_to_the_same_items_only(kind, fitted):
    _, _, new_env, folder, _ = fitted(kind)
    for changes in (NEXT_WORLD, ENCODER):
        load_agent(folder, new_env(**changes), transfer=True)
    with pytest.raises(WorldError, match=f"'{kind}' cannot be transferred: all that it learnt is"):
        load_agent(folder, new_env(**CATALOGUE), transfer=True)


def test_what_acts_on_a_belief_stays_with_it(fitted):
    _, _, new_env, folder, _ = fitted("ppo-levels")
    with pytest.raises(WorldError, match=r"acts on what another agent learnt .* train both"):
        load_agent(folder, new_env(**NEXT_WORLD), transfer=True)


def test_another_interface_is_refused_all_the_same(fitted):
    _, _, new_env, folder, _ = fitted("joint")
    with pytest.raises(ValueError, match="slate_size is 5 there, 3 here") as refusal:
        load_agent(folder, new_env(slate_size=3), transfer=True)
    assert not isinstance(refusal.value, WorldError)


def test_older_records_without_digests_are_read(fitted, tmp_path):
    _, _, new_env, folder, _ = fitted("joint")
    made_for = read_saved(folder).made_for
    older = {name: x for name, x in made_for.items() if not name.endswith("_texts")}
    _copy(folder, tmp_path)
    rewrite(tmp_path, made_for=older)
    load_agent(tmp_path, new_env())
    with pytest.raises(WorldError, match="another catalogue or encoder"):
        load_agent(tmp_path, new_env(**ENCODER))


def _copy(folder, other):
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())


def _arrays(agent):
    """What an agent learnt, in one order."""
    if agent.name == "joint":
        return [agent.parameters, *agent.learnt.taste, agent.learnt.mean, agent.calibration]
    return [x.numpy() for part in agent._weights().values() for x in part.values()]
