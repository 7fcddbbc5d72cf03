"""Several items of a slate consumed: the user, the public side, logs and metrics."""

from __future__ import annotations

import numpy as np
import pytest

from agents.dataset import Dataset
from agents.joint.satisfaction.pairs import pairs_of
from agents.rankers.baselines import Content, Popular
from agents.rollout import rollout
from experiments.runs.measures import Truth, episode_rows
from experiments.runs.spec import RunSpec
from llmrec_env import metrics
from llmrec_env.config import EnvConfig
from llmrec_env.envs.rendering import SessionRecorder, as_image, as_text
from llmrec_env.envs.spaces import observation_of
from llmrec_env.interface.history import EMPTY, RECENT_STEPS, SATISFIED, UNSATISFIED
from llmrec_env.world import load_world

ALL = slice(None)
EAGER = {"response": "cascade", "cascade_null": 1.5, "off": ["churn"]}
"""Users who often consume several items of a slate."""


@pytest.fixture(scope="module")
def cascade_world(tiny):
    return load_world(EnvConfig(**tiny, **EAGER))


@pytest.fixture
def episodes(new_vec):
    env = new_vec(12, observation="dict", split="all", **EAGER)
    agent = Content()
    agent.fit(env, 0)
    return rollout(agent, env, np.arange(12), seed=4)


# --- the user


def test_every_item_consumed_changes_the_user(craft, world):
    crafted = craft(
        response="cascade", reinforce=0.2, satiation_decay=0.5, goodwill_gain=0.1, exposure=0.0
    )
    crafted.users["consumed"] = -1
    crafted.consume(0, True)
    crafted.consume(3, False)
    crafted.affinity[1] = [0.5, 0.8, 0.0, 0.9, 0.0]
    crafted.affinity[2] = [0.4, 0.0, 0.7, -0.6, 0.0]
    expected = np.zeros(8)
    expected[1:3] = 0.2 * (0.5 - 0.5 * 0.9), 0.2 * 0.4
    count = int(crafted.users["num_consumed"][0])
    crafted.users["satiation"] = crafted.users["goodwill"] = 0.0
    user = crafted.evolve()
    np.testing.assert_allclose(user["weight"], expected, atol=1e-6)
    np.testing.assert_allclose(user["satiation"], world.items.vectors[[0, 3]].sum(0), atol=1e-6)
    substance = world.traits["substance"][[0, 3]].sum()
    assert user["goodwill"] == pytest.approx(0.1 * substance, abs=1e-6)
    assert user["num_consumed"] == count + 2 and {0, 3} <= set(user["consumed"].tolist())


def test_only_examined_slots_expose(craft):
    crafted = craft(response="cascade", exposure=0.1, position_bias=2.0)
    crafted.responses["examined"] = 2
    crafted.affinity[1] = [0.5, 0.3, 0.9, 0.9, 0.9]
    crafted.affinity[6] = [-0.5, 0.2, 0.9, 0.9, 0.9]
    expected = np.zeros(8)
    expected[[1, 6]] = 0.1 * (0.5 + 0.3), 0.1 * 0.2
    np.testing.assert_allclose(crafted.evolve()["weight"], expected, atol=1e-6)


def test_patience_sums_over_what_was_consumed(craft):
    crafted = craft(response="cascade")
    crafted.users["patience"] = 5.0
    for slot, satisfied in enumerate([True, True, False]):
        crafted.consume(slot, satisfied)
    crafted.tire()
    assert crafted.users["patience"][0] == pytest.approx(5.0 + 2 * 0.8 - 0.6)


def test_responses_agree_with_themselves(new_simulator, draw_actions):
    simulator, rng, counts = new_simulator(40, **EAGER), np.random.default_rng(0), []
    for _ in range(10):
        simulator.step(draw_actions(simulator, rng))
        responses = simulator.responses
        slots = np.arange(5)
        consumed = responses["feedback"] >= 0
        last = np.where(consumed, slots, -1).max(axis=1)
        np.testing.assert_array_equal(responses["choice"], last)
        rows = np.flatnonzero(last >= 0)
        np.testing.assert_array_equal(responses["item"][rows], responses["slate"][rows, last[rows]])
        np.testing.assert_array_equal(
            responses["satisfied"][rows], responses["feedback"][rows, last[rows]]
        )
        assert (responses["item"][last < 0] == -1).all()
        assert not (consumed & (slots >= responses["examined"][:, None])).any()
        counts += consumed.sum(axis=1).tolist()
    assert {0, 1, 2, 3} <= set(counts)


# --- the public side


def test_histories_list_every_item_in_order_of_slots(new_simulator, draw_actions):
    simulator, rng = new_simulator(10, observation="dict", **EAGER), np.random.default_rng(1)
    users = simulator.users["user_id"]
    feedbacks = list(simulator.world.logs.feedback[users].transpose(1, 0, 2))
    slates = list(simulator.world.logs.slates[users].transpose(1, 0, 2))
    for _ in range(RECENT_STEPS - 15):
        simulator.step(draw_actions(simulator, rng))
        feedbacks.append(simulator.responses["feedback"].copy())
        slates.append(simulator.responses["slate"].copy())
    seen = observation_of(simulator, ALL)
    newest = np.stack(feedbacks[: -RECENT_STEPS - 1 : -1], axis=1)
    np.testing.assert_array_equal(seen["recent_feedback"], newest)
    last_slates = np.stack(slates[: -RECENT_STEPS - 1 : -1], axis=1)
    np.testing.assert_array_equal(seen["recent_slates"], last_slates)
    for i in range(10):
        consumed = [
            (item, z)
            for slate, feedback in zip(slates, feedbacks, strict=True)
            for item, z in zip(slate[i].tolist(), feedback[i].tolist(), strict=True)
            if z >= 0
        ]
        kinds = seen["history_feedback"][i]
        read = (kinds == SATISFIED) | (kinds == UNSATISFIED)
        events = list(zip(seen["history"][i][read].tolist(), kinds[read].tolist(), strict=True))
        assert events == consumed[::-1][: len(events)] and len(events) > 10
        history = simulator.histories[i]
        known = history["consumed_items"][: history["num_consumed_items"]].tolist()
        assert known == [item for item, _ in consumed]
        assert not set(known) & set(seen["candidates"][i].tolist())
    several = (newest >= 0).sum(axis=2) > 1
    assert several.any() and (seen["recent_items"][several] >= 0).all()
    assert (seen["recent_satisfied"][(newest < 0).all(axis=2)] == EMPTY).all()


@pytest.mark.parametrize("n", [1, 3])
def test_a_batch_is_as_many_single_environments(new_env, new_vec, assert_same, n):
    changes = EAGER | {"observation": "dict", "off": []}
    batch = new_vec(n, autoreset_mode="disabled", **changes)
    observations, _ = batch.reset(seed=5)
    singles = [new_env(**changes).unwrapped for _ in range(n)]
    for i, env in enumerate(singles):
        observation, _ = env.reset(seed=5 + i)
        assert_same({name: x[i] for name, x in observations.items()}, observation)
    actions = np.tile(np.arange(5), (n, 1))
    for _ in range(4):
        observations, rewards, *_, infos = batch.step(actions)
        for i, env in enumerate(singles):
            observation, reward, *_, info = env.step(actions[i])
            assert env.observation_space.contains(observation)
            assert rewards[i] == reward and observation["user_id"] == observations["user_id"][i]
            np.testing.assert_array_equal(
                observation["recent_feedback"], observations["recent_feedback"][i]
            )
            np.testing.assert_array_equal(infos["feedback"][i], info["feedback"])


def test_only_a_cascade_shows_the_feedback_of_slots(new_env):
    env = new_env(observation="dict")
    assert "recent_feedback" not in env.observation_space.spaces
    assert "feedback" not in env.reset(seed=0)[1]


def test_the_longest_session_fits_into_the_history(new_simulator):
    tireless = {f"cascade_{outcome}": 1.0 for outcome in ("skipped", "satisfied", "dissatisfied")}
    simulator = new_simulator(8, **EAGER | tireless | {"cascade_null": -10.0})
    for _ in range(30):
        simulator.step(np.tile(np.arange(5), (8, 1)))
    consumed = simulator.histories["consumed_items"]
    counts = simulator.histories["num_consumed_items"]
    assert consumed.shape[1] == (20 + 30) * 5 and (counts > 240).all()
    for row, count in zip(consumed, counts, strict=True):
        assert (row[count:] == 0).all()


def test_the_model_of_the_response_is_part_of_the_world(tiny, world, cascade_world):
    assert EnvConfig(**tiny).of_world() != EnvConfig(**tiny, response="cascade").of_world()
    assert (cascade_world.logs.feedback >= 0).sum() > (world.logs.feedback >= 0).sum()


# --- logs and metrics


def test_logs_tell_every_item_consumed(cascade_world):
    logs, everyone = cascade_world.logs, np.arange(60)
    user, item, satisfied = logs.clicks(everyone)
    row, step, slot = np.nonzero(logs.feedback >= 0)
    np.testing.assert_array_equal(user, row)
    np.testing.assert_array_equal(item, logs.slates[row, step, slot])
    np.testing.assert_array_equal(satisfied, logs.feedback[row, step, slot])
    assert np.bincount(row * 20 + step).max() > 1
    table = logs.table()
    clicks = table[table["event"] == "click"]
    for name, values in (("user", user), ("item", item), ("value", satisfied)):
        np.testing.assert_array_equal(clicks[name], values)
    np.testing.assert_array_equal(clicks["timestamp"], step - 20)
    assert (table["event"] == "rating").sum() <= (logs.items >= 0).sum()


def test_datasets_hold_every_item_consumed(cascade_world):
    data = cascade_world.public()
    user, item, satisfied = data.logs.clicks(np.arange(len(data.users)))
    dataset = Dataset.from_logs(data)
    log = dataset.consumed()
    np.testing.assert_array_equal(log.users, user)
    np.testing.assert_array_equal(log.items, item)
    np.testing.assert_array_equal(log.satisfied, satisfied == 1)
    assert len(log) > (dataset.items >= 0).sum()
    assert dataset.matrix().nnz == len(np.unique(user * 600 + item))
    pairs = pairs_of(data, browsed=0.0)
    assert [pair.satisfied for pair in pairs] == satisfied.tolist()
    *_, (rows, histories) = dataset.replayed(data, cascade_world.config)
    before = (data.logs.feedback[:, :-1] >= 0).sum(axis=(1, 2))
    np.testing.assert_array_equal(histories["num_consumed_items"], before[dataset.users[rows]])


def test_episodes_and_their_measures_count_every_item(new_vec, episodes):
    assert (episodes.feedback >= 0).sum() > (episodes.item >= 0).sum()
    slots = episodes.feedback >= 0
    np.testing.assert_array_equal(slots.any(axis=2), episodes.item >= 0)
    env = new_vec(12, observation="dict", split="all", **EAGER)
    agent = Popular()
    agent.fit(env, 0)
    truth = Truth(env, 2)
    played = rollout(agent, env, np.arange(12), 4, watch=truth)
    spec = RunSpec("llmrec/Drift-v1", "popular", 0, env=EAGER, users=12)
    rows, topics = episode_rows(spec, played, truth), env.simulator.world.catalog.topics
    for i, row in enumerate(rows):
        items = played.slate[i][played.feedback[i] >= 0]
        assert row.consumed == len(items)
        assert row.satisfied == (played.feedback[i] == 1).sum()
        assert row.topics == pytest.approx(metrics.effective_topics(topics[items][None])[0])
    for i, session in enumerate(truth.sessions):
        for t, step in enumerate(session):
            assert step["feedback"] == played.feedback[i, t].tolist()


def test_renderings_mark_every_item(new_simulator):
    simulator = new_simulator(1, **EAGER)
    recorder = SessionRecorder(simulator)
    recorder.restart()
    several = 0
    for _ in range(12):
        recorder.record(float(simulator.step(np.arange(5)[None])[0]))
        feedback = simulator.responses["feedback"][0].tolist()
        lines = as_text(recorder).splitlines()
        first = next(i for i, line in enumerate(lines) if line.startswith("SLATE")) + 1
        marks = [lines[first + k][0] for k in range(5)]
        assert marks == [" x*"[z + 1] for z in feedback]
        result = next(line for line in lines if line.startswith("RESULT"))
        count = sum(z >= 0 for z in feedback)
        several += count > 1
        assert (f"chose {count} items" in result) == (count > 1)
        assert max(map(len, lines)) <= 100
    assert several and as_image(recorder).shape == (720, 1280, 3)
