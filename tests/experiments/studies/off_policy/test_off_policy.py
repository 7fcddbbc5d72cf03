"""The off-policy study: estimates beside the truth, and what it must not let pass."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from agents import make_agent
from agents.off_policy import SlotMixture
from experiments.statistics.off_policy_estimators import LEVELS
from experiments.studies.off_policy import evaluation
from experiments.studies.off_policy.logs import (
    LoggedSlates,
    Target,
    log_slates,
    modelled_rewards,
    predicted_rewards,
)

N = 6


@pytest.fixture(scope="module")
def ready(new_vec):
    """Makes a mixture of `content`, and logs of it, of users of a tiny world."""

    def make(share=0.5, forks=1, target="popular", **changes):
        env = new_vec(N, observation="dict", split="test", **changes)
        agents = {name: make_agent(name, env.config) for name in ("content", target)}
        for agent in agents.values():
            agent.fit(env, 0)
        policy = SlotMixture([agents["content"]], (share,), seed=5)
        users = env.simulator.world.users_of("test")[:N]
        return log_slates(policy, {target: agents[target]}, env, users, 1, forks)

    return make


def test_forks_leave_the_sessions_that_are_logged_as_they_were(ready):
    few, many = ready(forks=1), ready(forks=3)
    for one, other in zip(few[:4], many[:4], strict=True):
        np.testing.assert_array_equal(one, other)
    assert (few.targets["popular"].value != many.targets["popular"].value).any()


def test_a_log_tells_each_slot_and_no_step_after_the_end(ready):
    logs = ready(patience_start=2.0)
    target = logs.targets["popular"]
    steps = np.bincount(np.unique(logs.users, return_inverse=True)[1])
    assert len(logs.users) == steps.sum() and len(set(steps)) > 1 and steps.max() <= 30
    assert ((logs.rewards > 0).sum(1) <= 1).all() and logs.rewards.any()
    assert set(np.unique(logs.propensities.round(6))) == {0.025, 0.525}
    assert set(np.unique(target.probabilities)) == {0.0, 1.0}
    assert logs.features.shape == target.features.shape == (len(logs.users), 5, 1 + 8 + 36 + 10)


def test_several_items_a_step_are_refused(ready):
    with pytest.raises(ValueError, match="response='logit'"):
        ready(response="cascade")


def test_the_truth_is_what_showing_the_slates_earns(ready):
    logs = ready(share=1.0, forks=40, target="content")
    shown, value = logs.rewards.sum(1), logs.targets["content"].value
    assert abs(shown.mean() - value.mean()) < 4.0 * shown.std() / len(shown) ** 0.5
    assert value.std() < 0.9 * shown.std()  # means of 40 draws, not draws


def test_rewards_are_predicted_by_a_model_of_other_users():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 2, 3)).astype(np.float32)
    weights = np.array([[1.0, 2.0, 0.0], [0.0, -1.0, 0.5]])
    rewards = np.einsum("mkf,kf->mk", features, weights)
    users = np.arange(4000) * 10 + 9
    modelled = rewards.sum(1, keepdims=True) / 4.0
    other = Target(rewards, 2.0 * features, rewards[:, 0], 3.0 * modelled)
    columns = users, rewards, np.ones_like(rewards), features, modelled
    logs = LoggedSlates(*columns, {"b": other})
    own, others = predicted_rewards(logs)
    np.testing.assert_allclose(own, rewards, atol=0.05)
    np.testing.assert_allclose(others["b"], 2.0 * own, atol=1e-5)
    scaled = modelled_rewards(logs, 0)["b"]  # the scale of the logs, found again
    np.testing.assert_allclose(scaled, 3.0 * rewards.sum(1), atol=1e-9)
    held = users // 10 % 2 == 0
    spoilt = logs._replace(rewards=np.where(held[:, None], 99.0, rewards))
    np.testing.assert_array_equal(predicted_rewards(spoilt)[0][held], own[held])


def test_the_logging_policy_itself_is_judged_by_what_it_earned(tiny, tmp_path):
    plan = {"targets": ("content", "popular"), "logged_by": ("content",), "shares": (1.0,)}
    where = {"env": tiny, "output": tmp_path / "study"}
    estimates = evaluation.run(**plan, users=N, forks=2, models=("joint",), **where)
    own = [x for x in estimates if x.policy == "content" and x.level in LEVELS]
    assert len(own) == 4 * 4
    values = [x.estimate.value for x in own if x.estimator in ("IPS", "SNIPS")]
    np.testing.assert_allclose(values, values[0])
    assert all(not x.error.is_clear for x in own if x.estimator == "IPS")
    none = [x for x in estimates if x.policy == "popular" and x.level == "slate"]
    assert all(x.estimate is None and x.effective_steps == 0 for x in none)
    direct = [x.estimator for x in estimates if x.level == evaluation.MODEL]
    assert direct == ["model", "joint"] * 2
    lines = evaluation.accuracies(estimates)
    slate = next(x for x in lines if (x.level, x.estimator) == ("slate", "DR"))
    assert (slate.judged, slate.policies) == (1, 2)
    assert "no overlap" in (tmp_path / "study/off-policy.md").read_text("utf-8")
    with (tmp_path / "study/off-policy.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(estimates)


def test_what_cannot_be_judged_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'ppo' learns online"):
        evaluation.run(targets=("ppo",), output=tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'content'"):
        evaluation.run(targets=("contents",), output=tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'joint'"):
        evaluation.run(models=("joints",), output=tmp_path)
