"""The public history: what it holds, in which order."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.envs.spaces import observation_of
from llmrec_env.interface.history import (
    EMPTY,
    HISTORY_LENGTH,
    QUERY,
    RECENT_STEPS,
    SATISFIED,
    UNSATISFIED,
    append,
    newest_first,
)

ALL = slice(None)


@pytest.mark.parametrize("count", [0, 3, HISTORY_LENGTH, 300])
def test_the_ring_of_events_is_read_newest_first(world, count):
    histories = world.histories[:1].copy()
    histories["item"], histories["feedback"], histories["num_entries"] = -1, EMPTY, 0
    for entry in range(count):
        append(histories[0], entry, entry % 3)
    items = np.zeros((2, HISTORY_LENGTH), np.int32)
    feedback = np.zeros_like(items)
    newest_first(histories[0], items, feedback, 1)
    expected = np.arange(count)[::-1][:HISTORY_LENGTH]
    padding = np.full(HISTORY_LENGTH - len(expected), -1)
    np.testing.assert_array_equal(items[1], [*expected, *padding])
    np.testing.assert_array_equal(feedback[1], [*(expected % 3), *padding])
    assert (items[0] == 0).all()


def test_the_last_steps_are_listed_whole_and_newest_first(new_simulator, draw_actions):
    simulator = new_simulator(20, observation="dict", query_rate=0.4)
    logs, responses, rng = simulator.world.logs, [], np.random.default_rng(2)
    for _ in range(RECENT_STEPS - logs.slates.shape[1] + 3):  # some of the logged steps fall out
        simulator.step(draw_actions(simulator, rng))
        responses.insert(0, simulator.responses.copy())
    seen = observation_of(simulator, ALL)
    steps = np.stack(responses, axis=1)
    expected_columns = {"slates": steps["slate"], "items": steps["item"], "queries": steps["query"]}
    expected_columns["satisfied"] = np.where(steps["item"] >= 0, steps["satisfied"], -1)
    users = simulator.users["user_id"]
    for name, values in expected_columns.items():
        logged = getattr(logs, name)[users][:, ::-1]
        expected = np.concatenate([values, logged], axis=1)[:, :RECENT_STEPS]
        if name != "satisfied":
            np.testing.assert_array_equal(seen[f"recent_{name}"], expected)
        else:
            np.testing.assert_array_equal(seen[f"recent_{name}"] == 1, expected == 1)
    assert (seen["recent_satisfied"] >= 0)[seen["recent_items"] >= 0].all()
    assert (seen["recent_satisfied"][seen["recent_items"] < 0] == EMPTY).all()


def test_history_lists_events_in_order(new_simulator, draw_actions):
    simulator = new_simulator(20, observation="dict", query_rate=0.4)
    events_of = [[] for _ in range(20)]
    rng = np.random.default_rng(2)
    for _ in range(12):
        simulator.step(draw_actions(simulator, rng))
        for events, response in zip(events_of, simulator.responses, strict=True):
            if response["item"] >= 0:
                kind = SATISFIED if response["satisfied"] else UNSATISFIED
                events.insert(0, (response["item"], kind))
            if response["query"] >= 0:
                events.insert(0, (response["query"], QUERY))
    seen = observation_of(simulator, ALL)
    past = simulator.world.histories
    for i, events in enumerate(events_of):
        events = [*events, *_logged(past[i])]
        events_seen = list(zip(seen["history"][i], seen["history_feedback"][i], strict=True))
        assert events_seen[: len(events)] == events
        assert events_seen[len(events) :] == [(-1, EMPTY)] * (HISTORY_LENGTH - len(events))


def _logged(history):
    count = int(history["num_entries"])
    entries = zip(history["item"][:count], history["feedback"][:count], strict=True)
    return list(entries)[::-1]
