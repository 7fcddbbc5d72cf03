"""Instructions: who types them and when, what they say, and that nothing else changes by them."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.interface.instructions import (
    CLICKBAIT,
    ENOUGH,
    FADING,
    MORE,
    NUM_WORDINGS,
    WORDINGS,
    instruction_blocks,
    instruction_text,
)

SPEAKS = {"instruct_rate": 1.0, "instruct_patience": 100.0, "patience_start": 9.0}
N, STEPS = 60, 12


def play(simulator, steps=STEPS, before_step=None):
    """Plays random slates and returns the responses and the users after them, (steps, n)."""
    rng, responses, users = np.random.default_rng(0), [], []
    for _ in range(steps):
        if before_step:
            before_step(simulator)
        simulator.step(rng.integers(0, 20, (simulator.n, 5)))
        responses.append(simulator.responses.copy())
        users.append(simulator.users.copy())
    return np.stack(responses), np.stack(users)


@pytest.mark.parametrize("changes", [{}, {"instruct_rate": 0.5, "off": ["instructions"]}])
def test_by_default_and_switched_off_nobody_types_any(new_simulator, changes):
    simulator = new_simulator(N, patience_start=3.0, **changes)
    assert simulator.buffers.instructions.size == 0 and not simulator.config.instructs()
    responses, _ = play(simulator)
    assert (responses["instruction"] == -1).all() and (responses["about"] == -1).all()


def test_nothing_else_of_a_session_changes(new_simulator):
    speaking, silent = new_simulator(N, **SPEAKS), new_simulator(N, patience_start=9.0)
    (responses, users), (expected, as_before) = play(speaking), play(silent)
    assert (responses["instruction"] >= 0).any()
    for name in set(responses.dtype.names) - {"instruction", "about", "wording"}:
        np.testing.assert_array_equal(responses[name], expected[name])
    assert users.tobytes() == as_before.tobytes()
    assert speaking.histories.tobytes() == silent.histories.tobytes()
    np.testing.assert_array_equal(speaking.buffers.vector, silent.buffers.vector)


def test_users_speak_when_patience_runs_low_and_nothing_satisfied(new_simulator):
    settings = SPEAKS | {"instruct_patience": 7.0}
    responses, users = play(new_simulator(N, **settings), 20)
    low = users["patience"] < 7.0
    grounds = low & (responses["satisfied"] == 0) & (responses["terminated"] == 0)
    spoke = responses["instruction"] >= 0
    assert 0.2 < grounds.mean() < 0.9 and (low & ~grounds).any()
    np.testing.assert_array_equal(spoke, grounds)
    sometimes, _ = play(new_simulator(N, **settings | {"instruct_rate": 0.4}), 20)
    assert (sometimes["instruction"] >= 0)[grounds].mean() == pytest.approx(0.4, abs=0.05)


def cosines_of(simulator, response, user):
    """Of each interest of a user: the best cosine of the slate, and cos times length with c."""
    phrases = simulator.world.interests.vectors[user["phrase"]]
    shown = (phrases @ simulator.world.text_vectors[response["slate"]].T).max(axis=1)
    return shown, phrases @ user["satiation"]


def test_what_is_said_is_true_of_the_user(new_simulator):
    simulator = new_simulator(N, **SPEAKS)
    responses, users = play(simulator, 25)
    missed, served, calm, tired = [], [], [], []
    for response, user in zip(responses.ravel(), users.ravel(), strict=True):
        kind, phrase = response["instruction"], response["about"]
        if kind == CLICKBAIT:
            assert phrase == -1 and user["goodwill"] < 0.0
        elif kind >= 0:
            slot = np.flatnonzero(user["phrase"] == phrase)[0]
            assert user["active"][slot] == 1
            shown, satiation = cosines_of(simulator, response, user)
            (missed if kind == MORE else served).append(shown[slot])
            (calm if kind == MORE else tired).append(satiation[slot])
            if kind == ENOUGH:
                assert satiation[slot] > 0.0 and shown[slot] > 0.0
    assert np.mean(missed) < np.mean(served) - 0.1
    assert np.mean(calm) < np.mean(tired) - 0.1
    assert {MORE, ENOUGH, CLICKBAIT} <= set(responses["instruction"].ravel())


def test_strong_interests_are_asked_for_more_often(new_simulator):
    responses, users = play(new_simulator(300, **SPEAKS), 6)
    asked, other = [], []
    for response, user in zip(responses.ravel(), users.ravel(), strict=True):
        if response["instruction"] == MORE:
            wanted = user["phrase"] == response["about"]
            asked += user["weight"][wanted].tolist()
            other += user["weight"][~wanted & (user["active"] == 1)].tolist()
    assert np.mean(asked) > np.mean(other) + 0.2


def test_lost_goodwill_makes_more_complaints_about_clickbait(new_simulator):
    def share(goodwill):
        def lose(simulator):
            simulator.users["goodwill"] = goodwill

        responses, _ = play(new_simulator(N, **SPEAKS), before_step=lose)
        spoke = responses["instruction"] >= 0
        return (responses["instruction"] == CLICKBAIT)[spoke].mean()

    shares = [share(goodwill) for goodwill in (0.5, -0.3, -1.0)]
    assert shares[0] == 0.0 and 0.1 < shares[1] < shares[2] - 0.1


def test_wordings_are_the_users_own_random_numbers(new_simulator):
    responses, _ = play(new_simulator(N, **SPEAKS), 25)
    again, _ = play(new_simulator(N, **SPEAKS), 25)
    assert responses.tobytes() == again.tobytes()
    for kind in (MORE, ENOUGH, CLICKBAIT):
        drawn = responses["wording"][responses["instruction"] == kind]
        assert set(drawn.tolist()) <= set(range(NUM_WORDINGS)) and len(set(drawn.tolist())) > 1


def test_a_session_does_not_depend_on_its_batch_and_a_new_one_forgets(new_simulator):
    three, eight = new_simulator(3, **SPEAKS), new_simulator(8, **SPEAKS)
    eight.users["noise_key"][:3] = three.users["noise_key"]
    eight.show(np.arange(8))
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        actions = rng.integers(0, 20, (8, 5))
        three.step(actions[:3])
        eight.step(actions)
    told = eight.buffers.instructions
    np.testing.assert_array_equal(told[:3], three.buffers.instructions)
    newest = eight.responses[["instruction", "about", "wording"]].tolist()
    np.testing.assert_array_equal(told[:, 0], newest)
    before = told.copy()
    assert (before[2] >= 0).any()
    eight.start(np.array([2]), np.array([9]), np.array([1], np.uint64))
    assert (told[2] == -1).all()
    np.testing.assert_array_equal(np.delete(told, 2, 0), np.delete(before, 2, 0))


# --- texts and blocks


def test_every_kind_has_as_many_wordings_and_each_names_its_phrase():
    phrases = ["sea snails", "chess"]
    texts = {
        instruction_text((kind, 1 if kind != CLICKBAIT else -1, wording), phrases)
        for kind in range(len(WORDINGS))
        for wording in range(NUM_WORDINGS)
    }
    assert len(texts) == len(WORDINGS) * NUM_WORDINGS == sum(map(len, WORDINGS))
    assert sum("chess" in text for text in texts) == 2 * NUM_WORDINGS
    assert instruction_text((ENOUGH, 0, 0), phrases) == "enough of sea snails for today"


def test_blocks_are_sums_of_phrases_that_fade():
    told = np.full((2, 32, 3), -1, np.int32)
    told[0, 2], told[0, 4], told[0, 5], told[0, 1] = (
        (MORE, 0, 1),
        (MORE, 1, 0),
        (ENOUGH, 2, 3),
        (CLICKBAIT, -1, 2),
    )
    blocks = instruction_blocks(told, np.eye(3, 8, dtype=np.float32))
    expected = np.array([FADING[MORE] ** 2, FADING[MORE] ** 4])
    expected /= np.linalg.norm(expected)  # which is more than 1
    np.testing.assert_allclose(blocks["instruction_more"][0, :2], expected, rtol=1e-5)
    enough = blocks["instruction_enough"]
    assert enough[0, 2] == pytest.approx(FADING[ENOUGH] ** 5, rel=1e-5)
    assert blocks["instruction_clickbait"][0] == pytest.approx(FADING[CLICKBAIT], rel=1e-5)
    assert all((block[1] == 0).all() for block in blocks.values())
    assert np.count_nonzero(blocks["instruction_more"]) == 2 and np.count_nonzero(enough) == 1
