"""What mechanisms add to items: it is learnt, acted on, and no sign of an interest."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agents.added_blocks import QUESTION, AddedBlocks  # noqa: E402
from agents.rl.slateq.learner import SlateQ  # noqa: E402
from agents.rl.slateq.tracking import Tracker  # noqa: E402
from agents.rl.slateq.unrolling import logged_steps  # noqa: E402
from agents.rl.slateq.user_model import Transition, UserModel  # noqa: E402

N = 6
MECHANISMS = {"new_items": 0.4, "creator_growth": 0.8, "creator_half_life": 30.0}
RESOLVING = {"resolution": 0.2, "query_rate": 0.5}
MODES = {"observation": "dict", "action": "slate", "warmup_slates": 30}


def test_logs_teach_that_what_is_fresh_or_of_a_familiar_creator_is_chosen_more(new_vec):
    strong = {"freshness_choice": 4.0, "creator_choice": 6.0, "creator_satisfaction": 4.0}
    env = new_vec(4, autoreset_mode="same_step", num_users=600, **MODES, **MECHANISMS, **strong)
    agent = SlateQ(0, steps=8)
    agent.fit(env, 32)
    fresh, familiar = (x.detach().numpy() for x in agent.model.added.values())
    start = UserModel(env.public_data(), agent.blocks.names).exported().added
    assert fresh[0] > start[0, 0] + 0.05
    assert (familiar > start[1] + 0.05).all() and start[1, 1] == 0.0
    observation = env.reset(seed=1)[0]
    tracker = Tracker(agent.tracker.model, agent.blocks)
    tracker.observe(observation, np.ones(4, bool))
    odds, features = tracker.appraise(observation["candidates"])
    tracker.added = tracker.added * 0.0
    blind, plain = tracker.appraise(observation["candidates"])
    weights, blocks = agent.tracker.model.added, agent.blocks.of_candidates(observation)
    np.testing.assert_allclose(odds / blind, np.exp(blocks @ weights[:, 0]), rtol=1e-3)
    logits = [np.log(x[..., 1] / (1.0 - x[..., 1])) for x in (features, plain)]
    np.testing.assert_allclose(logits[0] - logits[1], blocks @ weights[:, 1], atol=1e-3)


def test_the_compiled_recurrence_reads_them_as_the_one_that_is_trained(new_vec):
    env = new_vec(N, **MODES, **MECHANISMS, **RESOLVING)
    data = env.public_data()
    blocks = AddedBlocks(env.config, data)
    model = UserModel(data, blocks.names)
    with torch.no_grad():
        for weights in model.added.values():
            weights += torch.tensor([2.0, 1.0])
    tracker, observation = Tracker(model.exported(), blocks), env.reset(seed=0)[0]
    tracker.observe(observation, np.ones(N, bool))
    rows = [int(np.flatnonzero(data.users == user)[0]) for user in observation["user_id"]]
    states = []
    for told in (1.0, 0.0):
        state = model.start(N)
        with torch.no_grad():
            for step in logged_steps(data, blocks):
                own = Transition(*(column[rows] for column in step))
                own = own._replace(added=told * own.added)
                state = model.step(model.parameters_now(), state, own)[1]
        states.append(state)
    for own, other in zip(tracker.state, states[0], strict=True):
        np.testing.assert_allclose(own, other.numpy(), rtol=2e-3, atol=2e-4)
    assert np.abs(tracker.belief - states[1].belief.numpy()).max() > 0.01


def test_an_answer_that_satisfies_is_asked_for_no_more(new_vec):
    data = new_vec(2, **MODES, **RESOLVING).public_data()
    model = UserModel(data, (QUESTION,))
    nearest = int((data.phrase_vectors @ data.items.vectors[0]).argmax())
    beliefs = []
    for satisfied in (0.0, 1.0):
        for resolved in (0.0, 4.0):
            q = model.parameters_now() | {"resolved": torch.tensor(resolved)}
            step = Transition(
                slate=torch.tensor([[0]]),
                choice=torch.tensor([0]),
                satisfied=torch.tensor([satisfied]),
                query=torch.tensor([-1]),
                taste=torch.zeros(1, 1),
                added=torch.zeros(1, 1, 1),
            )
            with torch.no_grad():
                after = model.step(q, model.start(1), step)[1]
            beliefs.append(float(after.belief[0, nearest]))
    assert beliefs[0] == beliefs[1]
    assert beliefs[3] < 0.5 * beliefs[0] < beliefs[2]


def test_a_task_without_mechanisms_has_no_such_parameter(new_vec):
    model = UserModel(new_vec(2, observation="dict").public_data())
    assert len(model.added) == 0 and model.exported().added.shape == (0, 2)
    names = [name for name, _ in model.named_parameters()]
    assert not any(name.startswith("added") or name == "raw.resolved" for name in names)
