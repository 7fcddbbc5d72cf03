"""What the world model foretells of users it never met, against a constant and against cosines."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.optimize import minimize  # noqa: E402
from scipy.special import expit, logsumexp  # noqa: E402

from agents.rl.world_model.learner import WorldModelAgent  # noqa: E402
from agents.rollout import rollout  # noqa: E402

WORLD, STEPS, USERS = 100, 20_000, 200


class Recording(WorldModelAgent):
    """Keeps what it foretold of the slates that it showed."""

    def __init__(self, seed):
        super().__init__(seed)
        self.foretold = []

    def act(self, observation, episode_starts):
        slates = super().act(observation, episode_starts)
        model, state = self._acting["model"], self.follower.current
        ids = np.take_along_axis(observation["candidates"], slates, 1).astype(np.int64)
        with torch.no_grad():
            items = model.describe_items(state, torch.from_numpy(ids), torch.empty(*ids.shape, 0))
            expected = model.expect(model.describe_state(state), items)
            logs = model.choice(expected)
        weight = logs.softmax(1)[..., :-1]  # of the heads, where the slot is chosen
        happy = (weight * torch.sigmoid(expected.log_odds)).sum(1)
        cosines = np.take_along_axis(observation["candidate_features"], slates[..., None], 1)
        self.foretold.append((logs.exp().mean(1).numpy(), happy.numpy(), cosines[..., :2]))
        return slates


def _loss_of_choices(utility, choice):
    """Log-loss of choices, (m,), by utilities of slots, (m, k), against nothing."""
    levels = np.concatenate([utility, np.zeros((len(utility), 1))], axis=1)
    return float((logsumexp(levels, axis=1) - levels[np.arange(len(choice)), choice]).mean())


def _loss_of_satisfaction(chance, satisfied):
    return -float(np.log(np.where(satisfied, chance, 1.0 - chance)).mean())


def _fitted(loss, size):
    """The best numbers of a convex loss."""
    return minimize(loss, np.zeros(size)).x


@pytest.mark.slow
def test_it_foretells_choices_and_satisfaction_better_than_a_constant_and_than_cosines():
    def made(split, n, reset="next_step"):
        kwargs = dict(world_seed=WORLD, split=split, autoreset_mode=reset)
        kwargs |= {"observation": "dict", "action": "slate"}
        return gymnasium.make_vec("llmrec/Drift-v1", num_envs=n, **kwargs).unwrapped

    agent = Recording(0)
    agent.fit(made("train", 64, "same_step"), STEPS)
    env = made("validation", USERS)
    users = env.simulator.world.users_of("validation")[:USERS]
    episodes = rollout(agent, env, users, seed=3)
    chances, happy, cosines = (np.stack(x, axis=1) for x in zip(*agent.foretold, strict=True))
    steps = chances.shape[1]
    alive, item = episodes.alive[:, :steps], episodes.item[:, :steps]
    slot = (episodes.slate[:, :steps] == item[..., None]).argmax(axis=2)
    choice, k = np.where(item >= 0, slot, episodes.slate.shape[2])[alive], chances.shape[2] - 1
    satisfied = episodes.satisfied[:, :steps][alive]
    chances, happy, cosines = chances[alive], happy[alive], cosines[alive]
    # Rivals are fitted to every other user; all are judged on the rest.
    fit = np.broadcast_to(np.arange(USERS)[:, None] % 2 == 0, alive.shape)[alive]

    def by_cosines(w):
        return cosines @ w[:2] + w[2:]

    w = _fitted(lambda w: _loss_of_choices(by_cosines(w)[fit], choice[fit]), 2 + k)
    share = np.bincount(choice[fit], minlength=k + 1) / fit.sum()
    losses = {
        "model": -float(np.log(chances[np.arange(len(choice)), choice])[~fit].mean()),
        "cosines": _loss_of_choices(by_cosines(w)[~fit], choice[~fit]),
        "constant": -float(np.log(share[choice[~fit]]).mean()),
    }
    chosen, at = choice < k, np.minimum(choice, k - 1)
    near, z = np.take_along_axis(cosines, at[:, None, None], 1)[:, 0], satisfied
    fit, judged = fit & chosen, ~fit & chosen

    def chance(w, rows):
        return expit(near[rows] @ w[:2] + w[2])

    w = _fitted(lambda w: _loss_of_satisfaction(chance(w, fit), z[fit]), 3)
    told = happy[np.arange(len(at)), at]
    satisfaction_losses = {
        "model": _loss_of_satisfaction(told[judged], z[judged]),
        "cosines": _loss_of_satisfaction(chance(w, judged), z[judged]),
        "constant": _loss_of_satisfaction(np.full(judged.sum(), z[fit].mean()), z[judged]),
    }
    print("choices", losses, "satisfaction", satisfaction_losses)
    assert losses["model"] < losses["cosines"] - 0.04 < losses["constant"] - 0.04
    assert (
        satisfaction_losses["model"]
        < satisfaction_losses["cosines"] - 0.005
        < satisfaction_losses["constant"]
    )
