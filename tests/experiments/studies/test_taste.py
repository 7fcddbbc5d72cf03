"""What taste is worth and what logs tell of it: made-up taste that is known, and a tiny world."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from agents.joint.recommender import Joint
from experiments import store
from experiments.studies import taste
from experiments.studies.taste import Part, knowing_taste
from experiments.studies.taste_factors import (
    Residuals,
    explained_known,
    explained_unseen,
    factorised,
    predicted,
)

FACETS, EACH, USERS = 40, 10, 400


@pytest.fixture(scope="module")
def made_up():
    """Residuals of clicks that are aᵀb and noise; texts that tell facets, and b by `shared`."""

    def made_up(shared):
        rng = np.random.default_rng(0)
        facets = np.repeat(np.arange(FACETS), EACH)
        common, own = rng.normal(size=(FACETS, 4))[facets], rng.normal(size=(FACETS * EACH, 4))
        b = shared**0.5 * common + (1.0 - shared) ** 0.5 * own
        vectors = np.eye(FACETS)[facets] + 0.01 * rng.normal(size=(FACETS * EACH, FACETS))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        users = np.repeat(np.arange(USERS), 100)
        items = rng.integers(FACETS * EACH, size=len(users))
        a = rng.normal(size=(USERS, 4))
        values = 0.3 * (a[users] * b[items]).sum(1) + 0.5 * rng.normal(size=len(users))
        return Residuals(users, items, values), b, facets, vectors

    return made_up


@pytest.fixture(autouse=True)
def nearest(monkeypatch):
    monkeypatch.setattr("experiments.studies.taste_factors.NEAREST", EACH // 2)


def test_factors_tell_taste_up_to_a_rotation(made_up):
    residuals, b, facets, vectors = made_up(0.0)
    factors = factorised(residuals, USERS, len(b))
    design = np.c_[factors, np.ones(len(b))]
    left = b - design @ np.linalg.lstsq(design, b)[0]
    assert left.var() < 0.3 * b.var()
    assert 0.6 < explained_known(residuals, b, facets, vectors).mean() < 1.0
    np.testing.assert_array_equal(factors, factorised(residuals, USERS, len(b)))


def test_unseen_items_are_told_by_their_neighbours_where_taste_is_shared(made_up):
    shared, own = (explained_unseen(*made_up(share)).mean() for share in (0.8, 0.0))
    assert shared > 0.5
    assert -0.2 < own < 0.1
    assert len(explained_unseen(*made_up(0.8))) == FACETS * EACH // 5


def test_clicks_on_unseen_items_are_not_read(made_up):
    residuals, b, facets, vectors = made_up(0.8)
    seen = np.full(len(b), True)
    seen[np.random.default_rng(31).permutation(len(b))[: len(b) // 5]] = False
    spoilt = np.where(seen[residuals.items], residuals.values, 99.0)
    actual = explained_unseen(residuals._replace(values=spoilt), b, facets, vectors)
    np.testing.assert_array_equal(actual, explained_unseen(residuals, b, facets, vectors))


def test_a_facet_is_predicted_from_others_alone(made_up):
    _, b, facets, _ = made_up(1.0)
    known, names = np.full(len(b), True), np.eye(FACETS)[facets]
    assert np.abs(predicted(names, b, facets, known)).max() < 1.0  # knowing the facet tells nothing
    exact = predicted(b @ np.diag([1.0, 2.0, 3.0, 4.0]), b, facets, known)
    np.testing.assert_allclose(exact, b, atol=1e-9)


def test_true_taste_is_added_as_relevance_has_it(new_vec):
    env = new_vec(6, observation="dict")
    joint = Joint(sweeps=1, rank=0)
    joint.fit(env, 0)
    observation, _ = env.reset(seed=0)
    agent = knowing_taste(joint, 2.0)
    agent.attach(env)
    users, traits = env.simulator.users, env.simulator.world.traits
    added = agent.hints(observation)
    assert not np.allclose(agent.scores(observation), joint.scores(observation))
    for i in range(6):
        b = traits["taste"][observation["candidates"][i]]
        expected = 2.0 * env.config.relevance_taste * (b @ users["taste"][i])
        np.testing.assert_allclose(added[i], expected, atol=1e-5)
    assert np.abs(added).max() > 0.1


def test_switches_of_a_variant_come_on_top_of_those_of_the_environment():
    part = Part("llmrec/Drift-v1", taste.NO_TASTE, 3, 10, {"off": ["goodwill"], "dim": 16})
    spec = part.spec("content", "validation", skipped=0.1)
    assert spec.env == {"off": ("goodwill", "taste"), "dim": 16}
    assert (spec.world, spec.split, spec.users) == (3, "validation", 10)
    assert spec.settings == {"skipped": 0.1}


def test_quantities_are_paired_within_their_variant():
    rng, measured = np.random.default_rng(0), {}
    for world in range(2):
        base = rng.gamma(4.0, 1.0, 30)
        for variant, gain in (
            (taste.DEFAULT, 1.2),
            (taste.NO_TASTE, 1.0),
            (taste.NOTHING_SHARED, 1.1),
        ):
            own = {taste.BLEND: gain * base, taste.TEXTS: base, taste.JOINT: base}
            own |= {
                taste.BLIND: 0.5 * base,
                taste.KNOWING: 1.5 * base,
                taste.SEEN: gain - 1.0 + 0.0 * base,
            }
            own |= {taste.UNSEEN: gain - 1.0 + 0.0 * base}
            measured[variant, world] = own
    found = taste.compared(measured)
    assert found[f"{taste.KNOWING} over {taste.JOINT}"] == pytest.approx((0.5, 0.5, 0.5))
    gains = [value for name, value in found.items() if "by texts alone" in name]
    np.testing.assert_allclose([gain.value for gain in gains], [0.2, 0.0, 0.1], atol=1e-12)
    difference = found[f"{taste.UNSEEN}, {taste.DEFAULT} less {taste.NOTHING_SHARED}"]
    assert difference.value == pytest.approx(0.1)


def test_the_study_ends_in_a_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(taste, "fitted_agent", _one_epoch(taste.fitted_agent))
    found = taste.run(worlds=1, users=6, env=tiny, output=tmp_path)
    kept = json.loads((tmp_path / "taste.json").read_text(encoding="utf-8"))
    assert kept["found"] == {name: list(value) for name, value in found.items()}
    assert kept["weight"] == float(max(kept["tried"], key=kept["tried"].get))
    assert "R² of b" in (tmp_path / "taste.md").read_text(encoding="utf-8")
    with pytest.raises(store.ResultsError, match="already holds"):
        taste.run(worlds=1, users=6, env=tiny, output=tmp_path)


def _one_epoch(fitted):
    def fit(spec):
        quick = {"sweeps": 1} if spec.agent == "joint" else {}
        return fitted(replace(spec, settings=spec.settings | quick))

    return fit
