"""The joint recommender: its losses and their weights, its scores, its beliefs, its refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from agents.joint.model import (
    CLICK_LOSSES,
    JointModel,
    batch_observed,
    batch_of,
    bpr_loss,
    calibrated,
    choice_loss,
    text_loss,
)
from agents.joint.recommender import Joint, observed_steps
from agents.rollout import rollout
from llmrec_env.config import EnvConfig

FAST = {"epochs": 3, "batch_size": 256}


@pytest.fixture(scope="module")
def samples(world, tiny):
    return observed_steps(world.public(), EnvConfig(**tiny))


@pytest.fixture(scope="module")
def batch(samples):
    return batch_of(samples, np.arange(0, len(samples), 7))


@pytest.fixture
def model(world):
    items = world.items
    torch.manual_seed(0)
    model = JointModel(items.vectors, world.interests.vectors, items.substance, evolves=True)
    with torch.no_grad():  # away from the start, where many gradients vanish
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="module")
def fitted(new_vec):
    agent = Joint(0, **FAST)
    agent.fit(new_vec(4, autoreset_mode="same_step", observation="dict"), 0)
    return agent


@pytest.mark.parametrize("name", [*CLICK_LOSSES, "text", "evolution"])
def test_gradients_are_those_of_the_loss(model, batch, name):
    """Every loss against central differences, in double precision."""
    weights = dict.fromkeys(("click", "text", "evolution"), 0.0)
    weights["click" if name in CLICK_LOSSES else name] = 0.7
    kind = {"click_loss": name} if name in CLICK_LOSSES else {}
    agent, model = Joint(0, **weights, **kind), model.double()
    some = {k: v[:40].double() if v.is_floating_point() else v[:40] for k, v in batch.items()}
    agent.loss(model, some).backward()
    checked = 0
    for title, parameter in model.named_parameters():
        if parameter.grad is None or not parameter.grad.any():
            continue
        index = int(parameter.grad.abs().argmax())
        with torch.no_grad():
            flat, ends = parameter.view(-1), []
            for change in (1e-5, -2e-5):
                flat[index] += change
                ends.append(float(agent.loss(model, some)))
            flat[index] += 1e-5
        expected = (ends[0] - ends[1]) / 2e-5
        actual = float(parameter.grad.flatten()[index])
        assert actual == pytest.approx(expected, rel=1e-4, abs=1e-8), title
        checked += 1
    assert checked >= (3 if name == "evolution" else 5)


def test_the_loss_is_the_weighted_sum_and_zero_removes_a_term(model, batch):
    with torch.no_grad():
        belief = model.belief(batch)
        click, text = (float(f(model, belief, batch)) for f in (choice_loss, text_loss))
        whole = Joint(0, click=0.3, text=2.0).loss(model, batch)
        assert float(whole) == pytest.approx(0.3 * click + 2.0 * text)
        assert float(Joint(0, click=0.3, text=0.0).loss(model, batch)) == pytest.approx(0.3 * click)
    Joint(0, click=0.0).loss(model, batch).backward()
    for name in ("click_bias.weight", "null_item.weight", "lure", "position"):
        assert model.get_parameter(name).grad is None, name
    assert model.text_bias.weight.grad.any()


def test_bpr_compares_what_was_clicked_with_what_was_only_browsed(model, batch):
    some = {name: values.clone() for name, values in batch.items()}
    some["choice"][:] = 5
    assert float(bpr_loss(model, model.belief(some), some).detach()) == 0.0
    some["choice"][:] = 0
    utilities = model.utility(model.belief(some), some["slate"])
    better = utilities[:, :1] - utilities[:, 1:]
    expected = torch.log1p(torch.exp(-better)).sum(1).mean()
    torch.testing.assert_close(bpr_loss(model, model.belief(some), some), expected)


def test_the_score_is_an_inner_product_and_the_log_odds_but_for_the_session_bias(model, batch):
    ids = batch["slate"]
    with torch.no_grad():
        odds = model.satisfaction(model.belief(batch), batch, ids) - model.session_bias(
            batch["session"]
        )
        score = (model.alpha("satisfaction")[ids] * model.v(batch, "satisfaction")[:, None]).sum(-1)
    torch.testing.assert_close(score, odds, rtol=1e-4, atol=1e-4)


def test_items_start_from_their_text(world):
    items = world.items
    model = JointModel(items.vectors, world.interests.vectors, items.substance)
    torch.testing.assert_close(model.items(torch.arange(600)), torch.tensor(items.vectors))


def test_without_evolution_the_order_of_the_past_is_not_looked_at(world, batch):
    items = world.items
    for evolves in (False, True):
        model = JointModel(
            items.vectors, world.interests.vectors, items.substance, 0.0, evolves=evolves
        )
        with torch.no_grad():
            model.evolution.share += 1.0
        turned = {**batch, "history": batch["history"].flip(0)}
        with torch.no_grad():
            same = torch.equal(model.belief(batch), model.belief(turned))
        assert same != evolves


def test_it_learns_and_beats_content_and_random(fitted, new_vec):
    from agents import make_agent

    env = new_vec(60, observation="dict", split="all")
    users, returns = np.arange(60), {}
    for name in ("random", "content"):
        agent = make_agent(name, env.config)
        agent.fit(new_vec(4, observation="dict"), 0)
        returns[name] = rollout(agent, env, users, 3).reward.sum(1).mean()
    returns["joint"] = rollout(fitted, env, users, 3).reward.sum(1).mean()
    assert returns["joint"] > returns["content"] > returns["random"]


def test_what_happens_in_a_session_changes_the_belief_at_once(fitted, new_vec):
    env = new_vec(4, observation="dict")
    before, _ = env.reset(seed=0)
    starts = np.ones(4, bool)
    for _ in range(6):
        after, *_ = env.step(fitted.act(before, starts))
    one, two = fitted.belief(before), fitted.belief(after)
    assert one.shape == (4, 32) and (np.abs(one - two).max(axis=1) > 1e-3).all()


def test_probabilities_are_calibrated(fitted, new_vec):
    observation, _ = new_vec(4, observation="dict").reset(seed=0)
    chance = fitted.probability(observation)
    assert chance.shape == (4, 20) and ((chance > 0) & (chance < 1)).all()
    generator = np.random.default_rng(0)
    odds = generator.normal(size=20_000)
    happened = generator.random(20_000) < 1 / (1 + np.exp(-(0.5 * odds - 1.0)))
    assert calibrated(odds, happened.astype(float)) == pytest.approx([0.5, -1.0], abs=0.06)


def test_calibration_is_fitted_to_held_out_users(fitted, world, tiny):
    learnt, held_out = fitted.split
    assert not {*learnt.users.tolist()} & {*held_out.users.tolist()}
    assert {*learnt.users.tolist()} | {*held_out.users.tolist()} == {*range(48)}
    odds, satisfied = [], []
    for steps in (learnt, held_out):
        batch = batch_of(steps, np.flatnonzero(steps.items >= 0))
        ids = batch["slate"].gather(1, batch["choice"][:, None])
        with torch.no_grad():
            chosen = fitted.model.satisfaction(fitted.model.belief(batch), batch, ids)[:, 0]
        odds.append(chosen.double().numpy())
        satisfied.append(batch["satisfied"].double().numpy())
    of_learnt, of_held_out = (calibrated(*pair) for pair in zip(odds, satisfied, strict=True))
    np.testing.assert_allclose(fitted.calibration, of_held_out)
    assert np.abs(fitted.calibration - of_learnt).max() > 0.01


def test_users_without_a_past_get_what_is_liked_by_all(fitted, new_vec):
    observation, _ = new_vec(4, observation="dict").reset(seed=0)
    cold = {name: np.zeros_like(values) for name, values in observation.items()}
    cold["history"] -= 1
    cold["history_feedback"] -= 1
    cold["candidates"] = np.tile(np.arange(20), (4, 1)).astype(np.int32)
    scores = fitted.scores(cold)
    np.testing.assert_allclose(scores, np.tile(fitted.alpha[:20, -1], (4, 1)), rtol=1e-5)


def test_training_goes_on_from_a_checkpoint_bit_for_bit(world, tiny, tmp_path, fitted):
    config = EnvConfig(**tiny)

    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.epoch == 2:
            raise KilledError

    agent = Joint(0, **FAST)
    with pytest.raises(KilledError):
        agent.learn(world.public(), config, tmp_path / "state.pt", on_epoch=kill)
    again = Joint(0, **FAST)
    again.learn(world.public(), config, tmp_path / "state.pt")
    np.testing.assert_array_equal(again.alpha, fitted.alpha)


def test_bad_settings_and_logs_are_refused(world, tiny):
    with pytest.raises(ValueError, match=r"click_loss 'choise'. Did you mean 'choice'"):
        Joint(0, click_loss="choise")
    with pytest.raises(ValueError, match=r"click=0.0, text=0.0, evolution=0.0: weights of losses"):
        Joint(0, click=0.0, text=0.0)
    with pytest.raises(ValueError, match=r"text=-1.0"):
        Joint(0, text=-1.0)
    data = world.public()
    satisfied_always = np.where(data.logs.feedback >= 0, np.int8(1), np.int8(-1))
    alike = dataclasses.replace(data, logs=data.logs._replace(feedback=satisfied_always))
    with pytest.raises(ValueError, match=r"all \d+ clicks of the logs satisfied"):
        Joint(0).learn(alike, EnvConfig(**tiny))


def test_observations_and_samples_speak_of_the_same(new_vec, samples):
    observation, _ = new_vec(4, observation="dict").reset(seed=0)
    seen, known = batch_observed(observation), batch_of(samples, np.arange(4))
    for name, values in seen.items():
        assert values.shape == known[name].shape and values.dtype == known[name].dtype
