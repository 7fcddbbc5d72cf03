"""What is measured of sessions equals what can be read from the environment by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agents import AGENTS, make_agent
from agents.base import BeliefAgent
from agents.rankers.baselines import Content, Random
from agents.rankers.ranker import score
from agents.rollout import rollout
from experiments.runs import measures
from experiments.runs.measures import Truth
from experiments.runs.spec import RunSpec
from llmrec_env import metrics
from llmrec_env.config import EnvConfig
from llmrec_env.simulation.counterfactual import without_recommendations

USERS = np.array([9, 19, 29, 39, 49, 59])


@pytest.fixture(scope="module")
def seen(new_vec):
    """Sessions, their measures, and copies of the hidden state before each step."""
    env = new_vec(6, observation="dict", patience_start=3.0, switch_rate=0.3)
    agent = Content()
    agent.fit(env, 0)
    truth, moments = Truth(env, 2, agent), []

    def watch(t, running, observation):
        truth(t, running, observation)
        simulator = env.simulator
        copies = (simulator.users.copy(), simulator.interests(), simulator.histories.copy())
        moments.append((running.copy(), *copies, simulator.responses.copy()))

    return rollout(agent, env, USERS, 1, watch), truth, moments


@pytest.fixture(scope="module")
def rows(seen, tiny):
    played, truth, _ = seen
    return measures.episode_rows(RunSpec("t", "content", 0, label="named", env=tiny), played, truth)


def test_rows_hold_sums_and_names(seen, rows):
    played, _, _ = seen
    assert {(row.task, row.agent, row.world, row.seed) for row in rows} == {
        ("named", "content", 0, 0)
    }
    for i, row in enumerate(rows):
        assert row.user == USERS[i] and row.ret == pytest.approx(played.reward[i].sum())
        assert row.steps == played.alive[i].sum() and row.satisfied == played.satisfied[i].sum()
        assert row.consumed == (played.item[i] >= 0).sum()
    assert len({row.steps for row in rows}) > 1  # some left earlier


def test_the_end_of_a_session_is_its_own_and_not_of_the_next(seen, rows):
    _, truth, moments = seen
    for i, row in enumerate(rows):
        _, users, interests, _, _ = moments[row.steps]
        assert users["user_id"][i] == USERS[i]
        assert row.goodwill == users["goodwill"][i]
        np.testing.assert_array_equal(truth.interest[i], interests[i])
        first, last = moments[0][1][i], users[i]
        before, after = ({*x["phrase"][x["active"] == 1].tolist()} for x in (first, last))
        assert row.discovered == len(after - before) and row.lost == len(before - after)


def test_angles_are_between_truth_and_what_is_seen(seen, rows):
    _, truth, moments = seen
    for i, row in enumerate(rows):
        tracking_errors = []
        for t in range(row.steps):
            u, v = moments[t][2][i], moments[t][3]["recent"][i]
            cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
            tracking_errors.append(np.degrees(np.arccos(cosine)))
        assert row.tracking_error == pytest.approx(np.mean(tracking_errors), abs=0.02)
        assert np.isnan(truth.tracking_error[i, row.steps :]).all()


def test_the_error_of_the_belief_is_that_of_the_agent_which_plays(new_vec):
    """Agents that show the same and believe otherwise differ in the one error alone."""

    class Wrong(Content):
        def belief(self, observation):
            return -Content.belief(self, observation)

        def scores(self, observation):
            vectors = self.data.items.vectors
            return score(Content.belief(self, observation), observation["candidates"], vectors)

    truths, curves = {}, {}
    for agent in (Content(), Wrong(), Random()):
        env = new_vec(6, observation="dict")
        agent.fit(env, 0)
        truths[type(agent)] = truth = Truth(env, 1, agent)
        played = rollout(agent, env, USERS, 1, truth)
        spec = RunSpec("t", type(agent).__name__, 0)
        curves[type(agent)] = measures.sums_over_sessions(played, truth)
        row = measures.episode_rows(spec, played, truth)[0]
        step = truth.sessions[0][3]
        if agent.name == "random":
            assert math.isnan(row.belief_error) and step["belief_error"] is None
        else:
            known = truth.belief_error[0, : row.steps]
            assert row.belief_error == pytest.approx(np.nanmean(known))
            assert step["belief_error"] == pytest.approx(known[3], abs=1e-4)
    own, other = truths[Content], truths[Wrong]
    np.testing.assert_array_equal(own.tracking_error, other.tracking_error)
    np.testing.assert_allclose(own.belief_error, 180.0 - other.belief_error, atol=1e-3)
    assert curves[Content]["tracking_error"] == curves[Wrong]["tracking_error"]
    assert sum(curves[Content]["belief_error"]) < sum(curves[Wrong]["belief_error"])
    assert "belief_error" not in curves[Random]


@pytest.mark.parametrize("name", AGENTS)
def test_a_belief_is_asked_of_agents_that_hold_one(name, tiny):
    """Agents of the registry that have the name of a protocol's method have the method."""
    agent = make_agent(name, EnvConfig(**tiny))
    assert isinstance(agent, BeliefAgent) == callable(getattr(agent, "belief", None))


def test_shift_is_against_the_same_user_alone(seen, rows):
    _, truth, _ = seen
    world = truth.simulator.world
    alone = without_recommendations(world, USERS, truth.noise_keys, 30)
    for i, row in enumerate(rows):
        expected = metrics.preference_shift(truth.interest[i], alone[i, row.steps])
        assert row.shift == pytest.approx(float(expected))
    assert max(row.shift for row in rows) > 1.0


def test_diversity_topics_and_novelty_are_those_of_the_slates(seen, rows):
    played, truth, _ = seen
    world = truth.simulator.world
    clicks = world.public().logs.items
    count = np.bincount(clicks[clicks >= 0], minlength=600) + 1.0
    for i, row in enumerate(rows):
        lists = []
        for t in range(row.steps):
            vectors = world.items.vectors[played.slate[i, t]]
            pairs = [vectors[a] @ vectors[b] for a in range(5) for b in range(5) if a != b]
            lists.append(1.0 - np.mean(pairs))
        assert row.diversity == pytest.approx(np.mean(lists), abs=1e-5)
        items = played.item[i][played.item[i] >= 0]
        topics = np.bincount(world.catalog.topics[items])
        share = topics[topics > 0] / max(len(items), 1)
        assert row.topics == pytest.approx(np.exp(-(share * np.log(share)).sum()))
        assert row.novelty == pytest.approx(np.mean(-np.log2(count[items] / count.sum())))


def test_the_ceiling_is_that_of_the_candidates(new_vec):
    env = new_vec(2, observation="dict")
    env.reset(seed=0)
    truth = Truth(env)
    truth(0, np.array([True, False]))
    world = env.simulator.world
    text = world.items.vectors @ env.simulator.interests()[0] / world.params["scale"][0]
    taste = world.traits["taste"] @ env.simulator.users["taste"][0]
    relevance = np.maximum(text + env.simulator.config.relevance_taste * taste, 0)
    best = np.sort(relevance[env.simulator.buffers.ids[0]])[-5:].sum()
    assert truth.ceiling[0] == pytest.approx(best / np.sort(relevance)[-5:].sum(), abs=1e-5)
    assert math.isnan(truth.ceiling[1])
    whole = new_vec(2, observation="dict", candidates=0)
    assert (Truth(whole).ceiling == 1.0).all()


def test_sums_give_the_curves(seen):
    played, truth, _ = seen
    sums = measures.sums_over_sessions(played, truth)
    assert sum(sums["reward"]) == pytest.approx(played.reward.sum())
    assert sum(sums["alive"]) == played.alive.sum()
    reward = count = 0.0
    for i in range(6):  # lag 2: two steps after the latest switch
        for t in range(2, 30):
            recent = truth.switched[i, t - 2 : t + 1].tolist()
            if played.alive[i, t] and recent == [True, False, False]:
                reward, count = reward + played.reward[i, t], count + 1
    assert sums["adaptation_count"][2] == count > 0
    assert sums["adaptation_reward"][2] == pytest.approx(reward)


def test_exposure_counts_what_was_shown(seen):
    played, truth, _ = seen
    values = measures.exposure_values(played, truth)
    shown = {*played.slate.ravel().tolist()} - {-1}
    assert values["coverage"] == pytest.approx(len(shown) / 600)
    assert 0.0 < values["gini"] < 1.0


def test_watched_sessions_tell_what_happened_without_texts(seen, tiny):
    played, truth, moments = seen
    spec = RunSpec("t", "content", 0, env=tiny)
    sessions = measures.watched_sessions(spec, played, truth)
    assert [x["user"] for x in sessions] == [9, 19]
    for i, session in enumerate(sessions):
        assert len(session["steps"]) == played.alive[i].sum()
        assert sum(step["reward"] for step in session["steps"]) == pytest.approx(
            played.reward[i].sum(), abs=1e-2
        )
        for t, step in enumerate(session["steps"]):
            user, response = moments[t][1][i], moments[t + 1][4][i]
            assert step["slate"] == response["slate"].tolist()
            active = user["phrase"][user["active"] == 1].tolist()
            assert [phrase for phrase, _ in step["interests"]] == active
            assert max(weight for _, weight in step["interests"]) == 1.0
            died = [p for kind, p, *_ in step["events"] if kind == "died"]
            assert died == ([response["died"]] if response["died"] >= 0 else [])
            assert step["patience"] == pytest.approx(user["patience"], abs=1e-3)


def test_watched_sessions_tell_what_users_said(new_vec, tiny):
    talkative = {"instruct_rate": 1.0, "instruct_patience": 100.0}
    env = new_vec(6, observation="dict", **talkative)
    agent = Random()
    agent.fit(env, 0)
    truth, said = Truth(env, 1, agent), []

    def watch(t, running, observation):
        truth(t, running, observation)
        said.append(env.simulator.responses["instruction"][0])

    played = rollout(agent, env, USERS, 1, watch)
    (session,) = measures.watched_sessions(RunSpec("t", "random", 0, env=tiny), played, truth)
    told = [step.get("instruction", [-1])[0] for step in session["steps"]]
    assert told == said[1 : len(told) + 1] and max(told) >= 0 > min(told)
