"""The user model: compiled and in torch it is one recurrence, and it moves the right way."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agents.rl.slateq.tracking import Tracker  # noqa: E402
from agents.rl.slateq.user_model import (  # noqa: E402
    LEAST_MASS,
    MOST,
    STARTS,
    Transition,
    UserModel,
)

N, STEPS, K = 6, 12, 5
NAMES = ("slates", "items", "satisfied", "queries")


@pytest.fixture
def data(new_vec):
    return new_vec(2, observation="dict").public_data()


@pytest.fixture
def model(data):
    """With all that is learnt away from where it starts."""
    model = UserModel(data)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        model.prior[:2] += torch.tensor([-4.0, 6.0])  # beyond what a belief can be
    factors = 0.2 * np.random.default_rng(3).normal(size=model.taste.factors.shape)
    model.taste = model.taste._replace(factors=factors)
    return model


def _steps(data, seed=0):
    """Random steps of N users, oldest first; some are not there, some without consumption."""
    rng = np.random.default_rng(seed)
    num_items, num_phrases = len(data.items.vectors), len(data.phrase_vectors)
    slates = np.stack([rng.permutation(num_items)[:K] for _ in range(N * STEPS)])
    slates = slates.reshape(N, STEPS, K).astype(np.int32)
    choice = rng.integers(0, K + 1, (N, STEPS))
    items = np.take_along_axis(np.dstack([slates, np.full((N, STEPS), -1)]), choice[..., None], 2)
    satisfied = np.where(choice < K, rng.integers(0, 2, (N, STEPS)), -1)
    queries = np.where(rng.random((N, STEPS)) < 0.3, rng.integers(0, num_phrases, (N, STEPS)), -1)
    slates[0, :4] = -1  # begins later
    return slates, items[..., 0].astype(np.int32), satisfied, queries, choice


def _transition(steps, t, taste=None):
    slates, _, satisfied, queries, choice = (torch.from_numpy(x[:, t].copy()) for x in steps)
    satisfaction = (satisfied == 1).float()
    taste = torch.zeros(slates.shape) if taste is None else torch.from_numpy(taste)
    added = torch.empty(*slates.shape, 0)
    return Transition(slates.long(), choice.long(), satisfaction, queries.long(), taste, added)


def _followed(model, data, steps):
    """The tracker and the torch state after the steps, and what the tracker knows of taste."""
    tracker, observation = Tracker(model.exported()), _observation(steps, data)
    state, starts = model.start(N), np.ones(N, bool)
    nothing = {f"recent_{x}": np.full_like(observation[f"recent_{x}"], -1) for x in NAMES}
    tracker.observe(observation | nothing, starts)
    with torch.no_grad():
        for t in range(STEPS):
            taste = tracker.taste(np.maximum(steps[0][:, t], 0))
            _, state = model.step(model.parameters_now(), state, _transition(steps, t, taste))
            new = {
                f"recent_{x}": y[:, t : t + 1].copy() for x, y in zip(NAMES, steps, strict=False)
            }
            tracker.observe(observation | new, ~starts)
    return tracker, state


def _observation(steps, data):
    slates, items, satisfied, queries, _ = steps
    newest = {"slates": slates, "items": items, "satisfied": satisfied, "queries": queries}
    seen = {
        f"recent_{k}": np.ascontiguousarray(v[:, ::-1]).astype(np.int32) for k, v in newest.items()
    }
    return {**seen, "candidates": np.arange(N * 8, dtype=np.int32).reshape(N, 8)}


def test_the_compiled_recurrence_is_the_one_that_is_trained(model, data):
    steps = _steps(data)
    tracker, state = _followed(model, data, steps)
    whole = Tracker(model.exported())
    whole.observe(_observation(steps, data), np.ones(N, bool))
    assert np.abs(tracker.mean[1:]).min() > 0.0
    np.testing.assert_array_equal(whole.mean, tracker.mean)
    for own, other in zip(tracker.state, state, strict=True):
        np.testing.assert_allclose(own, other.numpy(), rtol=2e-4, atol=2e-5)


def test_candidates_are_prediction_as_slates_are(model, data):
    steps = _steps(data)
    tracker, state = _followed(model, data, steps)
    tracker.precision *= 1e9  # nothing about taste is unsure
    candidates = np.arange(N * 8, dtype=np.int32).reshape(N, 8)[:, :1]
    odds, features = tracker.appraise(candidates)
    alone = Transition(
        torch.from_numpy(candidates).long(),
        torch.zeros(N, dtype=torch.long),
        torch.ones(N),
        torch.full((N,), -1),
        torch.from_numpy(tracker.taste(candidates)),
        torch.empty(*candidates.shape, 0),
    )
    with torch.no_grad():
        prediction, _ = model.step(model.parameters_now(), state, alone)
    np.testing.assert_allclose(np.log1p(1.0 / odds[:, 0]), prediction.choice_loss, rtol=1e-3)
    np.testing.assert_allclose(-np.log(features[:, 0, 1]), prediction.satisfaction_loss, rtol=1e-3)
    reward = float(model.raw["reward"].detach()) * features[:, 0, 0] * features[:, 0, 1]
    np.testing.assert_allclose(reward, prediction.reward, rtol=1e-3, atol=1e-5)


def test_a_session_does_not_depend_on_the_others(model, data):
    observation = _observation(_steps(data), data)
    tracker, alone = Tracker(model.exported()), Tracker(model.exported())
    tracker.observe(observation, np.ones(N, bool))
    alone.observe({name: x[3:4] for name, x in observation.items()}, np.ones(1, bool))
    for whole, one in zip(tracker.state, alone.state, strict=True):
        np.testing.assert_array_equal(whole[3:4], one)


def test_gradients_reach_through_steps_and_are_right(model, data):
    steps, name = _steps(data), "passed"

    def loss(shift):
        with torch.no_grad():
            model.raw[name] += shift
        state, total = model.start(N), torch.zeros(())
        for t in range(6):
            prediction, state = model.step(model.parameters_now(), state, _transition(steps, t))
            total = total + prediction.choice_loss.double().sum()
        with torch.no_grad():
            model.raw[name] -= shift
        return total

    loss(0.0).backward()
    found = float(model.raw[name].grad)
    expected = float(loss(0.02).detach() - loss(-0.02).detach()) / 0.04
    assert abs(found) > 1e-3 and found == pytest.approx(expected, rel=0.02)


def test_beliefs_and_parameters_keep_their_bounds(model, data):
    with torch.no_grad():
        for value in model.raw.values():
            value *= 2.0
    state = model.start(N)
    with torch.no_grad():
        for t in range(STEPS):
            _, state = model.step(model.parameters_now(), state, _transition(_steps(data), t))
    least = LEAST_MASS / len(data.phrase_vectors)
    assert float(state.belief.min()) >= least * 0.999 and float(state.belief.max()) <= MOST
    now = model.parameters_now()
    for name, (bound, _) in STARTS.items():
        value = float(now[name].detach())
        assert bound == "free" or 0 < value < (1 if bound == "share" else np.inf)


def _after(model, choice, query=-1, item=3):
    """Belief in the phrase nearest to an item, before and after it was shown."""
    phrase = int((model.phrases @ model.vectors[item]).argmax())
    others = [i for i in range(40) if i != item][:4]
    transition = Transition(
        *(torch.tensor([[item, *others]]), torch.tensor([choice]), torch.ones(1)),
        torch.tensor([phrase if query == "own" else -1]),
        torch.zeros(1, K),
        torch.empty(1, K, 0),
    )
    state = model.start(1)
    _, after = model.step(model.parameters_now(), state, transition)
    return tuple(x.belief[0, phrase].item() for x in (state, after))


def test_what_is_chosen_or_asked_for_is_believed_in_and_what_is_passed_over_is_not(data):
    model = UserModel(data)
    before, chosen = _after(model, choice=0)
    _, passed = _after(model, choice=K)
    _, queried = _after(model, choice=K, query="own")
    assert passed < before < chosen
    assert queried > before


def test_the_pull_towards_the_texts_fades_with_steps(model):
    few, many = (model.penalty(8.0, steps).item() for steps in (100, 10_000))
    assert few > many > 0.0
