"""`history="document"`: the slow interest is the encoding of the joined behaviour texts."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.content.encoders import HashingEncoder
from llmrec_env.envs.spaces import observation_of
from llmrec_env.interface.documents import DocumentReader
from llmrec_env.interface.history import QUERY, SATISFIED

N = 6
DOCUMENT = {"history": "document", "observation": "dict"}


def _document(world, history, size=12):
    texts = []
    count = int(history["num_entries"])
    for item, kind in zip(
        history["item"][:count][::-1], history["feedback"][:count][::-1], strict=True
    ):
        if kind == SATISFIED:
            texts.append(world.catalog.texts[item])
        elif kind == QUERY:
            texts.append(world.phrases.texts[item])
    return " ".join(texts[:size])


def _reader(simulator):
    world = simulator.world
    texts = world.catalog.texts, world.phrases.texts
    return DocumentReader(simulator.config, *texts, world.text.space)


def _encoded(world, document):
    return world.text.space.project_items(HashingEncoder().encode([document]))[0]


@pytest.mark.parametrize("size", [1, 12])
def test_the_interest_shown_is_the_encoding_of_the_newest_texts(new_simulator, draw_actions, size):
    simulator = new_simulator(N, document_size=size, query_rate=0.3, **DOCUMENT)
    world, rng = simulator.world, np.random.default_rng(0)
    for _ in range(8):
        seen = observation_of(simulator, slice(None))["interest"]
        for i, history in enumerate(simulator.histories):
            document = _document(world, history, size)
            if document:
                np.testing.assert_allclose(seen[i], _encoded(world, document), atol=1e-6)
        simulator.step(draw_actions(simulator, rng))


def test_candidate_features_use_the_document(new_simulator):
    simulator = new_simulator(N, **DOCUMENT)
    interest = observation_of(simulator, slice(None))["interest"]
    vectors = simulator.world.items.vectors[simulator.buffers.ids]
    expected = np.einsum("ncd,nd->nc", vectors, interest)
    np.testing.assert_allclose(simulator.buffers.features[:, :, 0], expected, atol=1e-5)


def test_users_live_alike_whatever_the_agent_reads(new_simulator, draw_actions):
    pooled, read = new_simulator(N, observation="dict"), new_simulator(N, **DOCUMENT)
    rng = np.random.default_rng(1)
    for _ in range(6):
        actions = draw_actions(pooled, rng)
        pooled.step(actions)
        read.step(actions)
    assert pooled.users.tobytes() == read.users.tobytes()
    assert (pooled.histories["interest"] != read.histories["interest"]).any()


def test_batches_of_documents_are_those_of_single_sessions(new_simulator, draw_actions):
    one, batch = new_simulator(1, **DOCUMENT), new_simulator(N, **DOCUMENT)
    batch.users["noise_key"][0] = one.users["noise_key"][0]
    batch.show(np.arange(N))
    rng = np.random.default_rng(1)
    for _ in range(6):
        actions = draw_actions(batch, rng)
        one.step(actions[:1])
        batch.step(actions, np.array([3]))
    np.testing.assert_array_equal(one.buffers.vector[0], batch.buffers.vector[0])


def test_a_user_without_a_past_has_an_empty_document(new_simulator):
    simulator = new_simulator(1, **DOCUMENT)
    history = simulator.histories[0].copy()
    history["num_entries"] = 0
    assert _reader(simulator).document(history) == ""
    simulator.histories["num_entries"] = 0
    before = simulator.histories["interest"].copy()
    _reader(simulator).read(simulator.histories, np.array([0]))
    np.testing.assert_array_equal(simulator.histories["interest"], before)
