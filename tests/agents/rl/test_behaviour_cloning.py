"""Behaviour cloning: it learns what was shown, or what satisfied of that, and plays no step."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")

from agents.dataset import logged_choices  # noqa: E402
from agents.rl.cloning import BehaviourCloning  # noqa: E402


@pytest.fixture(scope="module")
def env(new_vec):
    return new_vec(2, observation="dict", action="slate", autoreset_mode="same_step")


def _likelihood(agent, env, imitated):
    """Mean log-likelihood of logged steps: of all slots, or of the one that satisfied."""
    rng, every = np.random.default_rng(9), imitated == "shown"
    features, slots = logged_choices(
        env.public_data(), env.config, agent.extractor.encode, rng, every=every
    )
    with torch.no_grad():
        scores = agent.policy.scores(torch.from_numpy(features))
    if every:
        return float(scores.log_softmax(1)[:, :5].mean())
    return float(scores[:, :5].log_softmax(1).numpy()[np.arange(len(slots)), slots].mean())


@pytest.mark.parametrize("imitated", ["shown", "satisfied"])
def test_it_learns_what_it_imitates(env, imitated):
    before, after = (BehaviourCloning(1, imitated=imitated, log_epochs=n) for n in (0, 8))
    before.fit(env, 0), after.fit(env, 0)
    assert _likelihood(after, env, imitated) > _likelihood(before, env, imitated) + 0.01


def test_it_plays_no_step(env):
    env.reset(seed=0)
    before = env.simulator.histories.tobytes()
    BehaviourCloning(1, log_epochs=1).fit(env, 1_000)
    assert env.simulator.histories.tobytes() == before


def test_all_logged_steps_are_more_than_those_that_satisfied(env):
    agent = BehaviourCloning(1, log_epochs=0)
    agent.fit(env, 0)
    sizes = []
    for every in (False, True):
        rng = np.random.default_rng(0)
        features, slots = logged_choices(
            env.public_data(), env.config, agent.extractor.encode, rng, every=every
        )
        sizes.append(len(features))
        assert (slots == 5).any() == every  # K: nothing was consumed
    assert sizes[0] < sizes[1] == env.public_data().logs.items.size


def test_what_cannot_be_imitated_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'shown'"):
        BehaviourCloning(imitated="show")
