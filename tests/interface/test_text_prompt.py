"""`observation="text"`: golden prompts, what a budget cuts, and nothing that is hidden."""

from __future__ import annotations

import copy
import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.interface.history import slot_feedback
from llmrec_env.interface.text_prompt import PromptWriter, one_line

TITLES = ["Slow trains", "Fast\ntrains \x1b[31m", "Jazz piano", "Fresh pasta", "Old wars", "Tides"]
PHRASES = ["cooking: pasta", "jazz"]
TEXT = {"observation": "text", "action": "text"}
NO_STEPS = np.full((32, 2), -1)

GOLDEN = """\
llmrec prompt 1
Choose this user's next slate: 2 of the candidates, best first. The user takes one of them or none, is satisfied or not, and leaves when too little satisfies.

Earlier slates, newest first (+ taken, satisfied; - taken, not satisfied; ? typed; of the last 5: . passed over):
+ Slow trains | . Old wars | ? jazz
. Fresh pasta | - Fast trains [31m

Candidates:
1. Jazz piano
2. Fresh pasta
4. Tides

Answer with 2 different numbers of candidates, separated by commas.
Answer:"""  # noqa: E501


def _writer(budget=2000, titles=TITLES, **changes):
    config = EnvConfig(**({"slate_size": 2, "candidates": 4} | changes))
    return PromptWriter(config, titles, PHRASES, budget)


def _steps(*steps):
    """The newest steps as arrays: (slate, feedback, query) each."""
    slates, feedback, queries = NO_STEPS.copy(), NO_STEPS.copy(), NO_STEPS[:, 0].copy()
    for index, (slate, kinds, query) in enumerate(steps):
        slates[index], feedback[index], queries[index] = slate, kinds, query
    return slates, feedback, queries


PAST = _steps(([0, 4], [1, -1], 1), ([3, 1], [-1, 0], -1))
OFFERED = np.array([2, 3, -1, 5])


def test_a_prompt_is_the_golden_one():
    assert _writer().write(OFFERED, *PAST) == (GOLDEN, 0, 0, 0)


def test_a_user_without_a_past_and_one_who_takes_several():
    prompt = _writer(response="cascade").write(OFFERED, *_steps())
    assert "takes any number" in prompt.text and "passed over):\n(none)\n\nCand" in prompt.text


def test_of_steps_before_the_newest_five_only_what_was_taken_or_typed_is_told():
    steps = [([0, 4], [1, -1], -1)] * 6 + [([0, 4], [-1, -1], -1), ([3, 1], [-1, -1], 0)]
    text = _writer().write(OFFERED, *_steps(*steps)).text
    assert text.count("+ Slow trains | . Old wars\n") == 5
    assert "Old wars\n+ Slow trains\n? cooking: pasta\n\nCandidates" in text


def test_what_a_budget_cuts_is_counted_in_order():
    titles = [f"{number:02d} " + "x" * 60 for number in range(40)]
    candidates, steps = np.arange(4), [([4, 5], [1, -1], -1)] * 30
    whole = _writer(100_000, titles).write(candidates, *_steps(*steps))
    assert whole[1:] == (0, 0, 0)
    cuts = []
    for budget in range(len(whole.text), 520, -7):
        prompt = _writer(budget, titles).write(candidates, *_steps(*steps))
        assert len(prompt.text) <= budget and prompt.text.endswith("Answer:")
        assert prompt.text.count("+ 04") == 30 - prompt.cut_steps
        assert prompt.text.count(". 05") == min(5, 30 - prompt.cut_steps) - prompt.cut_items
        assert prompt.text.count("…") == prompt.cut_titles
        cuts.append(prompt[1:])
    items = [cut[1] for cut in cuts if cut[0] == 0]
    assert items[0] == 0 and items[-1] == 5 and items == sorted(items)
    assert cuts[-1][0] == 30 and cuts[-1][2] == 4
    assert [cut[0] for cut in cuts] == sorted(cut[0] for cut in cuts)


def test_a_budget_too_small_for_the_candidates_is_refused_with_the_one_that_fits(new_env):
    with pytest.raises(ConfigError, match=r"text_budget=600 .* 20 candidates; set text_budget="):
        new_env(observation="text", text_budget=600)
    try:
        _writer(500)
    except ConfigError as error:
        fits = int(str(error).split("set text_budget=")[1].split()[0])
        assert len(_writer(fits).write(OFFERED, *PAST).text) <= fits


def test_hidden_state_has_no_words(new_env):
    with pytest.raises(ConfigError, match="privileged_observation=True has no words"):
        new_env(observation="text", privileged_observation=True)


def test_a_line_has_neither_breaks_nor_control_characters():
    assert one_line("a\n 1. b\x1b[31m\u2028c\td") == "a 1. b [31m c d"


def test_feedback_of_slots_is_what_was_consumed():
    slates, items = np.array([[3, 1], [0, 4], [-1, -1]]), np.array([1, -1, -1])
    feedback = slot_feedback(slates, items, np.array([0, -1, -1]))
    np.testing.assert_array_equal(feedback, [[-1, 0], [-1, -1], [-1, -1]])


@pytest.mark.parametrize("candidates", [20, 0])
@pytest.mark.parametrize("response", ["logit", "cascade"])
def test_gymnasium_check_env_passes_without_a_warning(new_env, candidates, response):
    env = new_env(candidates=candidates, response=response, text_budget=100_000, **TEXT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


def test_a_prompt_tells_what_the_dict_observation_holds(new_env):
    env, named = new_env(**TEXT), new_env(observation="dict", action="slate")
    prompt, _ = env.reset(seed=4)
    titles = env.unwrapped.public_data().catalog.titles
    observation, _ = named.reset(seed=4)
    for _ in range(8):
        listed = prompt.split("Candidates:\n")[1].split("\n\n")[0].splitlines()
        offered = {titles.index(line.split(". ", 1)[1]) for line in listed}
        assert {titles[i] for i in observation["candidates"]} == {titles[i] for i in offered}
        assert env.observation_space.contains(prompt)
        items, satisfied = observation["recent_items"], observation["recent_satisfied"]
        events = zip(items, satisfied, strict=True)
        taken = [("+ " if z else "- ") + titles[i] for i, z in events if i >= 0]
        told = [part for line in prompt.split("\n") for part in line.split(" | ")]
        assert [part for part in told if part[:2] in ("+ ", "- ")] == taken
        wanted = [line.split(". ", 1)[1] for line in listed[:5]]
        prompt, reward, *_, info = env.step("1, 2, 3, 4, 5")
        picks = [
            next(c for c, item in enumerate(observation["candidates"]) if titles[item] == title)
            for title in wanted
        ]
        observation, same, *_ = named.step(np.array(picks))
        assert reward == same and [titles[i] for i in info["slate"]] == wanted


def test_a_batch_has_the_prompts_of_single_environments(new_env, new_vec, assert_same):
    batch, ones = new_vec(3, **TEXT), [new_env(**TEXT) for _ in range(3)]
    prompts, infos = batch.reset(seed=5)
    singles = [one.reset(seed=5 + i) for i, one in enumerate(ones)]
    assert_same(prompts, tuple(prompt for prompt, _ in singles))
    assert batch.observation_space.contains(prompts)
    running = [True] * 3
    for answers in [("1,2,3,4,5", "no", "5,4,3,2,1"), ("7,8,9,1,2", "1", "20,1,2,3,4")] * 15:
        resting = [not run for run in running]
        prompts, rewards, terminated, truncated, infos = batch.step(answers)
        for i, one in enumerate(ones):
            if resting[i]:
                prompt, info = one.reset()
            else:
                prompt, reward, *_, info = one.step(answers[i])
                assert reward == rewards[i]
            assert prompt == prompts[i]
            for name in ("cut_steps", "cut_items", "cut_titles", "parse_error", "parse_problem"):
                assert info[name] == infos[name][i] and infos[f"_{name}"][i], name
        running = [not end for end in terminated | truncated]
    assert infos["parse_error"].dtype == np.int64 and infos["parse_problem"].dtype == object


def test_same_step_resets_keep_the_last_prompt(new_vec):
    env = new_vec(2, autoreset_mode="same_step", patience_start=0.3, **TEXT)
    env.reset(seed=0)
    for _ in range(20):
        prompts, _, terminated, _, infos = env.step(("1,2,3,4,5",) * 2)
        if terminated.any():
            break
    ended = int(np.flatnonzero(terminated)[0])
    assert infos["final_obs"][ended].startswith("llmrec prompt 1")
    assert infos["final_obs"][ended] != prompts[ended]


def test_copies_go_on_with_the_same_prompts(new_env, assert_same):
    env = new_env(**TEXT).unwrapped
    env.reset(seed=0)
    env.step("1, 2, 3, 4, 5")
    others = copy.deepcopy(env), pickle.loads(pickle.dumps(env))
    expected = env.step("9, 8, 7, 6, 5")
    for other in others:
        assert_same(other.step("9, 8, 7, 6, 5"), expected)


def test_the_batch_of_gymnasium_takes_the_space(new_env):
    env = gymnasium.vector.SyncVectorEnv([lambda: new_env(**TEXT)] * 2)
    prompts, _ = env.reset(seed=0)
    assert len(prompts) == 2 and prompts[0].startswith("llmrec prompt 1")
    prompts, *_, infos = env.step(("1,2,3,4,5", "what?"))
    assert list(infos["parse_error"]) == [0, 1]
