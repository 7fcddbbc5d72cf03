"""Instructions as environments tell them: blocks, prompts, `info` and `describe`."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from llmrec_env.envs.single import RecEnv
from llmrec_env.interface.instructions import instruction_text

SPEAKS = {"instruct_rate": 1.0, "instruct_patience": 100.0}
NAMES = ("instruction_more", "instruction_enough", "instruction_clickbait")


@pytest.mark.parametrize("observation", ["dict", "vector", "text"])
def test_spaces_hold_what_is_observed(tiny, observation):
    env = RecEnv(**tiny, **SPEAKS, observation=observation)
    check_env(env, skip_render_check=True)
    env.reset(seed=0)
    for _ in range(6):
        assert env.observation_space.contains(env.step(np.arange(5))[0])


def test_blocks_and_vectors_tell_the_same(new_vec, tiny):
    blocks, vectors = (new_vec(4, observation=x, **SPEAKS) for x in ("dict", "vector"))
    seen, numbers = blocks.reset(seed=3)[0], vectors.reset(seed=3)[0]
    assert not any(seen[name].any() for name in NAMES) and (seen["recent_instructions"] < 0).all()
    for _ in range(8):
        actions = np.tile(np.arange(5), (4, 1))
        seen, numbers = blocks.step(actions)[0], vectors.step(actions)[0]
    expected = np.concatenate([seen[name] for name in NAMES], axis=1)
    assert expected.any(axis=1).all()
    np.testing.assert_array_equal(numbers[:, -expected.shape[1] :], expected)
    newest = blocks.simulator.responses[["instruction", "about", "wording"]].tolist()
    np.testing.assert_array_equal(seen["recent_instructions"][:, 0], newest)
    alone = RecEnv(**tiny, **SPEAKS, observation="dict")
    one = alone.reset(seed=3)[0]
    for _ in range(8):
        one = alone.step(np.arange(5))[0]
    for name in (*NAMES, "recent_instructions"):
        np.testing.assert_array_equal(one[name], seen[name][0])


def test_prompts_info_and_descriptions_have_the_words(tiny):
    env = RecEnv(**tiny, **SPEAKS, observation="text", info_texts=True)
    prompt, _ = env.reset(seed=0)
    assert "! told you" in prompt.split("\n\n")[1] and "| ! " not in prompt
    said = []
    for _ in range(6):
        prompt, _, _, _, info = env.step(np.arange(5))
        told = env.simulator.buffers.instructions[0, 0]
        if told[0] >= 0:
            said.append(instruction_text(told.tolist(), env.simulator.world.phrases.texts))
            assert f'typed the instruction "{said[-1]}"' in info["events"]
            newest = prompt.split("passed over):\n")[1].split("\n")[0]
            assert newest.endswith(f"! {said[-1]}")
        if said:
            assert f'Said last: "{said[-1]}".' in info["description"] == env.describe()
    assert len(said) > 2
    assert all(text in prompt for text in said)


def test_silent_users_leave_prompts_as_they_were(tiny):
    env = RecEnv(**tiny, observation="text")
    prompt, _ = env.reset(seed=0)
    assert "| ! " not in prompt
    assert "! told you" not in prompt and "| ! " not in env.step(np.arange(5))[0]


def test_copies_go_on_with_what_was_said(tiny):
    env = RecEnv(**tiny, **SPEAKS, observation="dict")
    env.reset(seed=1)
    for _ in range(4):
        env.step(np.arange(5))
    twin = copy.deepcopy(env)
    for _ in range(3):
        seen, same = env.step(np.arange(5))[0], twin.step(np.arange(5))[0]
        np.testing.assert_array_equal(seen["recent_instructions"], same["recent_instructions"])
    assert (seen["recent_instructions"][:, 0] >= 0).sum() > 3


def test_a_picture_has_a_lane_for_what_was_said(tiny):
    env = RecEnv(**tiny, **SPEAKS, render_mode="ansi")
    env.reset(seed=0)
    texts = []
    for _ in range(6):
        env.step(np.arange(5))
        texts.append(env.render())
    assert any("typed the instruction" in text for text in texts)
