"""The pointer policy: probabilities of slates, gradients, and what a permutation changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO

from agents.features import FeatureExtractor
from agents.rl.sb3.pointer import (
    PointerPolicy,
    SlateDistribution,
    SlateRolloutBuffer,
    slate_log_prob,
)
from agents.rl.sb3.scorer import candidate_scores, scores_in_torch
from agents.rl.sb3.wrappers import FeatureWrapper
from llmrec_env.sb3 import Sb3VecEnv

USER, C, F, K = 6, 5, 3, 2
N = 4


@pytest.fixture
def new_policy():
    """Makes policies whose every part takes part: none of the weights is zero."""

    def make(candidates=C, slots=K, action_space=None, **settings):
        torch.manual_seed(0)
        defaults = {"candidates": candidates, "features": F, "start": [1.0, 0, 0], "scale": 1.0}
        policy = PointerPolicy(
            spaces.Box(-np.inf, np.inf, (USER + candidates * F,), np.float32),
            action_space or spaces.MultiDiscrete([candidates] * slots),
            lambda _: 1e-3,
            **defaults | settings,
        )
        with torch.no_grad():
            for parameter in (policy.worth, policy.tilt.weight):
                parameter.normal_()
        return policy

    return make


@pytest.fixture
def observations():
    return lambda n=N, candidates=C: torch.randn(
        n, USER + candidates * F, generator=torch.Generator().manual_seed(3)
    )


def _all_slates(candidates=C, slots=K):
    return torch.tensor(list(itertools.permutations(range(candidates), slots)))


def _one_by_one(scores, slate):
    """Draws slot after slot in proportion to exp(score) from what is left."""
    probability, left = 1.0, list(range(len(scores)))
    for item in slate:
        probability *= np.exp(scores[item]) / sum(np.exp(scores[i]) for i in left)
        left.remove(item)
    return probability


@pytest.mark.parametrize("slots", [1, 2, 3, 5])
def test_log_probabilities_are_those_of_drawing_one_by_one(slots):
    scores = np.random.default_rng(0).normal(size=C)
    slates = _all_slates(C, slots)
    found = slate_log_prob(torch.tensor(scores).expand(len(slates), C), slates).exp()
    np.testing.assert_allclose(found, [_one_by_one(scores, slate.tolist()) for slate in slates])
    assert float(found.sum()) == pytest.approx(1.0)


def test_scores_far_apart_lose_no_precision():
    scores = torch.tensor([[1000.0, 0.0, -1.0, -500.0]], requires_grad=True)
    likelihood = slate_log_prob(scores, torch.tensor([[0, 1, 2]]))
    assert likelihood.item() == pytest.approx(-np.log1p(np.exp(-1.0)), abs=1e-5)
    likelihood.sum().backward()
    assert scores.grad is not None and scores.grad.isfinite().all()
    assert scores.grad[0, 1].item() == pytest.approx(1 - 1 / (1 + np.exp(-1.0)), abs=1e-5)


def test_gradients_of_probabilities_agree_with_differences():
    scores = torch.randn(3, C, dtype=torch.float64, requires_grad=True)
    slates = torch.tensor([[0, 3], [4, 1], [2, 0]])
    assert torch.autograd.gradcheck(lambda x: slate_log_prob(x, slates), (scores,))


def test_slates_are_drawn_as_often_as_they_should_be():
    torch.manual_seed(1)
    scores, draws = torch.randn(1, 4), 20_000
    drawn = SlateDistribution(2).proba_distribution(scores.expand(draws, 4)).sample()
    slates = _all_slates(4, 2)
    expected = slate_log_prob(scores.expand(len(slates), 4), slates).exp()
    for slate, probability in zip(slates, expected.tolist(), strict=True):
        share = (drawn == slate).all(1).float().mean().item()
        assert abs(share - probability) < 5 * np.sqrt(probability / draws) + 1e-4


def test_no_slate_holds_an_item_twice():
    torch.manual_seed(2)
    for scores in (torch.zeros(500, 6), 100 * torch.randn(500, 6), torch.full((500, 6), -1e9)):
        slates = SlateDistribution(5).proba_distribution(scores)
        for drawn in (slates.sample(), slates.mode()):
            assert all(len(set(slate)) == 5 for slate in drawn.tolist())


def test_the_most_likely_slate_breaks_ties_by_index():
    scores = torch.tensor([1.0, 2.0]).repeat(300, 50)
    slates = SlateDistribution(3).proba_distribution(scores).mode()
    assert slates.tolist() == [[1, 3, 5]] * 300


def test_the_entropy_is_that_of_the_first_slot():
    scores = torch.tensor([[0.0, 0.0, 0.0, 0.0], [9.0, -99.0, -99.0, -99.0]])
    entropy = SlateDistribution(3).proba_distribution(scores).entropy()
    np.testing.assert_allclose(entropy, [np.log(4), 0.0], atol=1e-6)


@pytest.mark.parametrize("f", [1, 4, 7])
def test_the_kernels_compute_what_torch_does(f):
    generator = torch.Generator().manual_seed(f)
    shapes = [(3, 9, f), (3, f), (3, 6), (6, f), (6,)]
    about, *known = (torch.randn(shape, generator=generator) for shape in shapes)
    ways = {}
    for function in (scores_in_torch, candidate_scores):
        parameters = [x.clone().requires_grad_() for x in known]
        scores = function(about, *parameters)
        (scores * scores.detach().cos()).sum().backward()
        ways[function] = [scores.detach(), *(x.grad for x in parameters)]
    for expected, found in zip(*ways.values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_every_part_of_the_policy_learns(new_policy, observations):
    policy = new_policy()
    obs = observations()
    values, likelihood, entropy = policy.evaluate_actions(obs, torch.tensor([[0, 1]] * N))
    (values.sum() + likelihood.sum() + entropy.sum()).backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_permuting_candidates_permutes_scores_and_slates_and_keeps_values(new_policy, observations):
    policy, obs = new_policy(), observations()
    order = torch.tensor([3, 0, 4, 1, 2])
    about = obs[:, USER:].unflatten(1, (C, F))
    other = torch.cat([obs[:, :USER], about[:, order].flatten(1)], 1)
    with torch.no_grad():
        torch.testing.assert_close(policy.scores(other), policy.scores(obs)[:, order])
        torch.testing.assert_close(policy.predict_values(other), policy.predict_values(obs))
        slates, *_ = policy(obs, deterministic=True)
        slates_of_other, *_ = policy(other, deterministic=True)
        assert torch.equal(order[slates_of_other], slates)
        scores = policy.scores(obs)
    assert torch.equal(slates, scores.argsort(descending=True)[:, :K])


def test_scores_depend_on_the_user(new_policy, observations):
    policy, obs = new_policy(), observations()
    other = torch.cat([-obs[:, :USER], obs[:, USER:]], 1)
    assert not torch.allclose(policy.scores(obs), policy.scores(other))


def test_it_starts_as_the_ranker_it_is_given(observations):
    space = spaces.Box(-np.inf, np.inf, (USER + C * F,), np.float32)
    slates = spaces.MultiDiscrete([C] * K)
    policy = PointerPolicy(space, slates, lambda _: 1.0, candidates=C, features=F, start=[1, -2, 0])
    about = observations()[:, USER:].unflatten(1, (C, F)).numpy()
    best = np.argsort(-(about[:, :, 0] - 2 * about[:, :, 1]), axis=1)[:, :K]
    np.testing.assert_array_equal(
        policy.predict(observations().numpy(), deterministic=True)[0], best
    )


def test_what_was_drawn_is_evaluated_alike(new_policy, observations):
    policy, obs = new_policy(), observations(64)
    actions, values, likelihood = policy(obs)
    again = policy.evaluate_actions(obs, actions)
    torch.testing.assert_close((values, likelihood), again[:2])
    torch.testing.assert_close(policy.predict_values(obs), values)
    torch.testing.assert_close(policy.get_distribution(obs).log_prob(actions), likelihood)


def test_slates_of_one_are_single_numbers(new_policy, observations):
    policy = new_policy(action_space=spaces.Discrete(C))
    actions, _, likelihood = policy(observations())
    assert actions.shape == (N,)
    torch.testing.assert_close(
        likelihood, policy.scores(observations()).log_softmax(1).gather(1, actions[:, None])[:, 0]
    )


@pytest.mark.parametrize("algorithm", [PPO, A2C])
@pytest.mark.parametrize("modes", [{}, {"action": "item", "slate_size": 1}])
def test_plain_algorithms_train_it(new_vec, algorithm, modes, tmp_path):
    env = new_vec(N, observation="dict", autoreset_mode="same_step", **modes)
    extractor = FeatureExtractor()
    extractor.fit(env.public_data(), env.config)
    vec_env = FeatureWrapper(Sb3VecEnv(env), extractor)
    settings = {"n_steps": 16, "seed": 1, "policy_kwargs": extractor.policy_kwargs()}
    model = algorithm(PointerPolicy, vec_env, **settings)
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(64)
    moved = [not torch.equal(*pair) for pair in zip(before, model.policy.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
    observation = extractor.encode(env.reset(seed=0)[0])
    actions, _ = model.predict(observation, deterministic=True)
    model.policy.save(tmp_path / "policy.pt")
    again = PointerPolicy.load(tmp_path / "policy.pt")
    np.testing.assert_array_equal(again.predict(observation, deterministic=True)[0], actions)


def test_a_seed_decides_what_it_learns_and_the_buffer_changes_nothing(new_vec):
    def learn(buffer=None):
        env = new_vec(N, observation="dict", autoreset_mode="same_step")
        extractor = FeatureExtractor(("session", "candidate_features"))
        extractor.fit(env.public_data(), env.config)
        settings = {"n_steps": 8, "batch_size": 16, "policy_kwargs": extractor.policy_kwargs()}
        settings |= {"seed": 5, "rollout_buffer_class": buffer}
        model = PPO(PointerPolicy, FeatureWrapper(Sb3VecEnv(env), extractor), **settings)
        return torch.cat([x.flatten() for x in model.learn(64).policy.parameters()])

    first = learn()
    assert torch.equal(first, learn()) and torch.equal(first, learn(SlateRolloutBuffer))


def test_deterministic_slates_come_from_the_average_of_the_weights(new_policy, observations):
    policy, obs = new_policy(), observations(64).numpy()
    policy.forget()
    before, _ = policy.predict(obs, deterministic=True)
    with torch.no_grad():
        for parameter in (policy.start, policy.worth, policy.tilt.weight):
            parameter.neg_()
    after, _ = policy.predict(obs, deterministic=True)
    np.testing.assert_array_equal(after, before)
    policy.forget()
    after, _ = policy.predict(obs, deterministic=True)
    assert (after != before).any(1).mean() > 0.9
    best = policy.scores(torch.tensor(obs)).topk(K).indices
    np.testing.assert_array_equal(after, best)


@pytest.mark.parametrize(("ema_decay", "expected"), [(0.95, 4.0), (0.5, 4.5), (0.0, 6.0)])
def test_weights_are_averaged_over_updates(new_policy, ema_decay, expected):
    policy = new_policy(ema_decay=ema_decay)
    for value in (0.0, 6.0, 6.0):
        with torch.no_grad():
            policy.start.fill_(value)
        policy.set_training_mode(True)
        policy.set_training_mode(False)
        policy.set_training_mode(False)  # what predict does
    averaged = policy.state_dict()["averaged_start"]
    torch.testing.assert_close(averaged, torch.full((F,), expected))


def test_spaces_that_do_not_fit_are_refused(new_policy):
    with pytest.raises(ValueError, match=r"candidates=0.*policy_kwargs=extractor.policy_kwargs"):
        new_policy(action_space=spaces.MultiDiscrete([C] * K), candidates=0)
    for space in (spaces.Box(-1, 1, (8,)), spaces.MultiDiscrete([C, C + 1])):
        with pytest.raises(ValueError, match="does not pick among candidates=5"):
            new_policy(action_space=space)
    with pytest.raises(ValueError, match="not flat with numbers about the user"):
        new_policy(features=9, start=None)
    with pytest.raises(ValueError, match="start has 2 weights; allowed: features=3"):
        new_policy(start=[1.0, 2.0])
