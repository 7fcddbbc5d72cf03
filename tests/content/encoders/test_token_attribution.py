import numpy as np
import pytest

from llmrec_env.content.encoders import load_encoder
from llmrec_env.content.encoders.token_attribution import (
    attention_of,
    attribute_tokens,
    import_captum,
)

pytest.importorskip("captum", reason="needs the extra `explain`")
TEXT = "Sourdough bread from your own starter, step by step"


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("minilm", cache=False, device="cpu")


def likeness(encoder, other):
    import torch

    direction = torch.from_numpy(encoder.encode([other])[0])
    return lambda vectors: vectors @ direction


def test_tokens_add_up_to_what_the_words_change(encoder):
    found = attribute_tokens(encoder, TEXT, likeness(encoder, "baking at home"))
    blank = "[MASK]" + " [MASK]" * (len(found.tokens) - 3)
    vectors = encoder.encode([TEXT, blank, "baking at home"])
    change = vectors[0] @ vectors[2] - vectors[1] @ vectors[2]
    assert found.amounts.sum() == pytest.approx(change, abs=0.02)
    assert abs(found.missing) < 0.02
    assert found.tokens[0] == "[CLS]" and found.amounts[0] == 0.0


def test_the_word_in_common_adds_most(encoder):
    found = attribute_tokens(encoder, TEXT, likeness(encoder, "bread"))
    assert found.tokens[int(found.amounts.argmax())] == "bread"


def test_attention_is_a_distribution_and_leaves_the_encoder_as_it_was(encoder):
    before = encoder.encode([TEXT])
    tokens, attention = attention_of(encoder, TEXT)
    assert attention.shape == (len(tokens), len(tokens))
    np.testing.assert_allclose(attention.sum(axis=1), 1.0, atol=1e-5)
    assert (encoder.encode([TEXT]) == before).all()


def test_no_steps_are_refused(encoder):
    with pytest.raises(ValueError, match="steps=0"):
        attribute_tokens(encoder, TEXT, likeness(encoder, "bread"), steps=0)


def test_a_missing_library_is_named(monkeypatch):
    import importlib

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"llmrec-env\[explain\]"):
        import_captum()
