"""`history="document"`: the slow interest is the encoding of the joined behaviour texts."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from llmrec_env.config import EnvConfig
from llmrec_env.content.encoders import HashingEncoder
from llmrec_env.envs.spaces import observation_of
from llmrec_env.interface import documents
from llmrec_env.interface.documents import DocumentReader, DocumentWarning
from llmrec_env.interface.history import QUERY, SATISFIED

N = 6
DOCUMENT = {"history": "document", "observation": "dict"}


class CountingEncoder(HashingEncoder):
    """A hashing encoder that remembers what it was asked for."""

    def __init__(self):
        super().__init__()
        self.calls: list[list[str]] = []

    def encode(self, texts):
        self.calls.append(list(texts))
        return super().encode(texts)


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


def _reader(world, **changes):
    reader = DocumentReader(
        EnvConfig(encoder="hashing", dim=32, **changes),
        world.catalog.texts,
        world.phrases.texts,
        world.text.space,
    )
    reader.encoder = CountingEncoder()
    return reader


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


def test_a_document_begins_with_the_newest_text_wherever_the_ring_stands(world):
    history = world.histories[:1].copy()
    length = history["item"].shape[1]
    history["item"], history["feedback"] = np.arange(length), SATISFIED
    history["feedback"][0, 4] = QUERY
    history["feedback"][0, 3] = 0  # did not satisfy
    history["num_entries"] = 3 * length + 6  # index 5 is the newest, index 6 the oldest
    num_items = len(world.catalog)
    ids = _reader(world, document_size=7).documents(history, np.array([0]))[0]
    assert ids.tolist() == [5, num_items + 4, 2, 1, 0, length - 1, length - 2]
    everything = _reader(world, document_size=128).documents(history, np.array([0]))[0]
    assert everything[-2:].tolist() == [6, -1]


def test_only_documents_that_are_new_are_encoded_in_one_call(world):
    reader, histories = _reader(world), world.histories[:20].copy()
    everyone = np.arange(20)
    reader.read(histories, everyone)
    first = histories["interest"].copy()
    (texts,) = reader.encoder.calls
    assert set(texts) == {_document(world, history) for history in histories} - {""}
    assert len(texts) == len(set(texts)) > 10
    histories["interest"] = 0.0
    reader.read(histories, everyone)
    np.testing.assert_array_equal(histories["interest"], first)
    histories["item"][:, 0] = histories["feedback"][:, 0] = SATISFIED  # item 2, the oldest text
    histories["num_entries"][:3] = 1
    reader.read(histories, everyone[:8])
    assert len(reader.encoder.calls) == 2
    assert world.catalog.texts[SATISFIED] in reader.encoder.calls[1]
    assert len(reader.encoder.calls[1]) < 8


def test_what_is_kept_changes_no_vector_and_is_bounded(world, monkeypatch):
    monkeypatch.setattr(documents, "_CACHE_BYTES", 4 * 500)
    forgetful, sessions = _reader(world), np.arange(40)
    monkeypatch.undo()
    mindful, histories = _reader(world), world.histories[:40].copy()
    other = histories.copy()
    for _ in range(2):
        forgetful.read(histories, sessions)
        mindful.read(other, sessions)
        np.testing.assert_array_equal(histories["interest"], other["interest"])
    assert len(forgetful.encoder.calls) == 2 and len(mindful.encoder.calls) == 1
    assert len(forgetful._vectors) < 6 < len(mindful._vectors)
    assert all(vector.base is None for vector in mindful._vectors.values())  # pins no batch


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


def test_environments_of_a_process_share_one_model(new_env, assert_same):
    one, other = (new_env(**DOCUMENT).unwrapped for _ in range(2))
    another = new_env("llmrec/Static-v1", world_seed=1, **DOCUMENT).unwrapped
    reader = one.simulator._reader
    assert reader is other.simulator._reader is another.simulator._reader
    assert new_env(document_size=3, **DOCUMENT).unwrapped.simulator._reader is not reader
    one.reset(seed=0)
    data = pickle.dumps(one)
    assert len(data) < 100_000
    for twin in (copy.deepcopy(one), pickle.loads(data)):
        assert twin.simulator._reader is reader
        assert_same(twin.step(np.arange(5)), copy.deepcopy(one).step(np.arange(5)))


def test_a_user_without_a_past_has_an_empty_document(world):
    reader, histories = _reader(world), world.histories[:2].copy()
    histories["num_entries"] = 0
    before = histories["interest"].copy()
    reader.read(histories, np.arange(2))
    np.testing.assert_array_equal(histories["interest"], before)
    assert reader.encoder.calls == []


def test_a_document_that_is_cut_is_told_once(new_env, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    from tiny_bert import save_tiny_bert

    # It reads letter by letter: a text in some 100 tokens.
    cut = {"encoder": str(save_tiny_bert(tmp_path / "bert", positions=300)), "dim": 8}
    env = new_env(**cut, **DOCUMENT).unwrapped
    assert env.simulator._reader.encoder.max_length == 300
    message = r"document_size=12: .* has \d{3,} tokens, .* 'bert' reads the first 300: .*_size=2,"
    with pytest.warns(DocumentWarning, match=message):
        env.reset(seed=0)
    for seed in range(1, 4):
        env.reset(seed=seed)  # warnings are errors here
    new_env(document_size=1, **cut, **DOCUMENT).reset(seed=0)
