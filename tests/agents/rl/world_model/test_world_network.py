"""The network: its likelihoods are ones, its memory follows events, and heads may differ."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agents.added_blocks import AddedBlocks  # noqa: E402
from agents.rl.slateq.unrolling import logged_steps  # noqa: E402
from agents.rl.world_model.following import write_products  # noqa: E402
from agents.rl.world_model.network import Event, WorldModel  # noqa: E402

N, K, S, M = 6, 5, 4, 3


@pytest.fixture
def env(new_vec):
    return new_vec(2, observation="dict", new_items=0.4)


@pytest.fixture
def data(env):
    return env.public_data()


@pytest.fixture
def model(data):
    folds = np.random.default_rng(0).normal(size=(2, len(data.items.vectors), 5))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WorldModel(data, folds.astype(np.float32), K, 30, 1, S, 16, M)


@pytest.fixture
def after(model, env, data):
    """The state of N users after their logged steps, and the last of these."""
    state = model.begin(torch.full((N,), -20.0))
    for step in logged_steps(data, AddedBlocks(env.config, data)):
        event = Event(*(getattr(step, name)[:N] for name in Event._fields))
        _, _, state = model.step(state, event)
    return state, event


def test_probabilities_of_every_head_add_up_and_shapes_are_as_told(model, after):
    state, event = after
    logs, expected, following = model.step(state, event)
    assert logs.shape == (N, M, K + 1) and expected.reward.shape == (N, M, K)
    torch.testing.assert_close(logs.exp().sum(2), torch.ones(N, M))
    assert (state.time == 0).all() and (following.time == 1).all()
    assert following.texts.shape == (N, S, data_dim(model)) and model.num_states == 16 + 2 * S + 2
    assert (expected.reward >= 0).all()


def data_dim(model):
    return model.vectors.shape[1]


def test_a_step_that_never_was_changes_nothing(model, after):
    state, event = after
    slate = event.slate.clone()
    slate[0] = -1
    following = model.step(state, event._replace(slate=slate))[2]
    for new, old in zip(following, state, strict=True):
        assert torch.equal(new[0], old[0]) and not torch.equal(new[1], old[1])


def test_what_is_typed_is_remembered_and_what_is_chosen_counts(model, after):
    state, event = after
    silent = event._replace(query=torch.full((N,), -1))
    asked = model.step(state, event._replace(query=torch.full((N,), 3)))[2]
    told = (asked.texts - model.step(state, silent)[2].texts).detach()
    expected = model.typed.detach()[None, :, None] * model.phrases[3]
    torch.testing.assert_close(told, expected.expand_as(told))
    first, last = (
        model.step(state, event._replace(choice=torch.full((N,), slot)))[2] for slot in (0, 4)
    )
    assert not torch.allclose(first.texts, last.texts)
    assert not torch.allclose(first.hidden, last.hidden)


def test_compiled_products_are_those_of_torch(model, after):
    state, _ = after
    candidates = np.random.default_rng(1).integers(0, 600, (N, 20)).astype(np.int32)
    candidates[0, 0] = -1
    close = np.empty((N, S, 20), np.float32)
    write_products(state.texts.detach().numpy(), model.vectors.numpy(), candidates, close)
    ids = torch.from_numpy(np.maximum(candidates, 0)).long()
    added = torch.rand(N, 20, 1)
    own = model.describe_items(state, ids, added).detach()
    told = model.describe_items(state, ids, added, torch.from_numpy(close)).detach()
    torch.testing.assert_close(own, told, atol=1e-4, rtol=1e-4)


def test_the_loss_of_the_mixture_is_less_than_the_mean_of_the_heads(model, after):
    state, event = after
    logs, expected, _ = model.step(state, event)
    choice, satisfaction = model.losses(logs, expected, event, None).detach()
    alone = -logs.gather(2, event.choice[:, None, None].expand(-1, M, 1)).mean()
    assert 0.0 < float(choice) < float(alone.detach())
    assert float(satisfaction) > 0.0
    nothing = event._replace(choice=torch.full((N,), K))
    assert float(model.losses(logs, expected, nothing, torch.zeros(N)).detach()[1:].sum()) == 0.0


def test_what_mechanisms_add_is_told_of_items_and_nothing_where_there_are_none(model, after):
    state, event = after
    assert float(event.added.max()) > 0.2
    added = torch.rand(N, 2, 1)
    ids = torch.tensor([[0, 1]] * N)
    torch.testing.assert_close(model.describe_items(state, ids, added)[..., -1:], added)
    nothing = model.describe_items(state, ids, added[..., :0])[..., -1]
    assert (nothing == 0.0).all()


def test_one_half_of_the_users_is_learnt_from_by_the_factors_of_the_other(model, after):
    state, _ = after
    ids, added = torch.tensor([[5, 6]] * N), torch.zeros(N, 2, 1)
    plain = model.describe_items(state, ids, added)
    torch.testing.assert_close(plain[0, 0, 3 * S : 3 * S + 2], model.embedding[5, 3:])
    model.fold = 1
    other = model.describe_items(state, ids, added)
    torch.testing.assert_close(other[0, 0, 3 * S : 3 * S + 2], model.folds[1, 5, 3:])
