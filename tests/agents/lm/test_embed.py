"""`lm-embed`: one document a user, alone or with each candidate of a shortlist."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_bert import save_tiny_bert

from agents.checkpoint import load_agent, save_agent
from agents.lm.embed import LmEmbed
from llmrec_env.content.encoders import load_encoder
from llmrec_env.interface.history import QUERY, SATISFIED


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(save_tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def new_agent(bert, new_vec):
    """Makes agents that read with the encoder of the environment, and the environment."""
    env = new_vec(3, observation="dict", encoder=bert)

    def make(**settings):
        agent = LmEmbed(model=bert, device="cpu", size=3, **settings)
        agent.fit(env, 0)
        return agent, env

    return make


def _document(agent, observation, session):
    """The three newest texts that satisfied or were typed."""
    texts, data = [], agent.data
    for kind, item in zip(
        observation["history_feedback"][session], observation["history"][session], strict=True
    ):
        if kind == SATISFIED:
            texts.append(data.catalog.texts[item])
        elif kind == QUERY:
            texts.append(data.phrases.texts[item])
    return " ".join(texts[:3])


def test_the_belief_is_the_encoding_of_the_newest_texts(new_agent, bert):
    agent, env = new_agent()
    observation, _ = env.reset(seed=0)
    documents = [_document(agent, observation, i) for i in range(3)]
    encoder = load_encoder(bert, device="cpu", documents=True, dtype="auto", cache=False)
    expected = agent.data.space.project_items(encoder.encode(documents))
    np.testing.assert_allclose(agent.belief(observation), expected, atol=1e-5)
    scores = agent.scores(observation)
    items = agent.data.items.vectors[observation["candidates"][1]]
    np.testing.assert_allclose(scores[1], items @ expected[1], atol=1e-4)


def test_a_document_is_read_once(new_agent):
    agent, env = new_agent()
    observation, _ = env.reset(seed=0)
    agent.scores(observation)
    assert agent.texts_read == 3
    agent.scores(observation)
    assert agent.texts_read == 3


def test_a_user_without_a_past_gets_the_public_terms(new_agent):
    agent, env = new_agent(popular=0.5)
    observation = {name: block.copy() for name, block in env.reset(seed=0)[0].items()}
    observation["history_feedback"][0] = -1
    popularity = agent.data.items.popularity[observation["candidates"][0]]
    np.testing.assert_allclose(agent.scores(observation)[0], 0.5 * popularity, atol=1e-6)


def test_the_shortlist_is_read_together_with_the_document(new_agent, monkeypatch):
    agent, env = new_agent(reading="together", shortlist=4)
    alone, _ = new_agent()
    observation, _ = env.reset(seed=0)
    read = []
    encode = agent.encoder.encode
    monkeypatch.setattr(agent.encoder, "encode", lambda texts: read.extend(texts) or encode(texts))
    scores, plain = agent.scores(observation), alone.scores(observation)
    best = np.argsort(-plain[1], kind="stable")[:4]
    assert set(np.argsort(-scores[1])[:4]) == set(best)
    document, offered = _document(agent, observation, 1), observation["candidates"][1]
    together = [f"{document} {agent.data.catalog.texts[i]}" for i in offered]
    assert {together[c] for c in best} <= set(read) and len(read) == 3 + 3 * 4
    vectors = agent.data.space.project_items(encode([together[c] for c in best]))
    expected = vectors @ agent.belief(observation)[1] + 4.0
    np.testing.assert_allclose(scores[1, best], expected, atol=1e-4)


def test_a_saved_agent_acts_as_before(new_agent, tmp_path):
    agent, env = new_agent(reading="together", shortlist=6, substance=0.1)
    observation, _ = env.reset(seed=0)
    save_agent(agent, env.config, tmp_path)
    again, starts = load_agent(tmp_path, env), np.ones(3, bool)
    np.testing.assert_array_equal(again.act(observation, starts), agent.act(observation, starts))


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"reading": "alone"}, "reading"), ({"size": 0}, "size=0"), ({"shortlist": 0}, "shortlist=0")],
)
def test_settings_out_of_range_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        LmEmbed(**settings)
