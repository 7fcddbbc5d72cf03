"""A two-layer causal model with random weights and a tokenizer of words, letters and digits."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")


def save_tiny_causal(
    directory: Path, words: Sequence[str] = (), seed: int = 0, **changes: Any
) -> Path:
    """Writes a Llama of 2 layers and its tokenizer and returns their directory.

    Args:
        directory: where to.
        words: that are one token each; others are read letter by letter.
        seed: of the weights.
        **changes: of LlamaConfig.
    """
    vocabulary = ["<pad>", "<unk>", "<s>", "</s>", *words, *(f" {word}" for word in words)]
    vocabulary += [c for c in string.printable if c not in vocabulary]
    pieces = tokenizers.Regex("|".join([r"\d+", r" ?[^\W\d]+", r"\n", r"[^\w\s]", " "]))
    known = {word: place for place, word in enumerate(vocabulary)}
    model = tokenizers.models.WordPiece(known, unk_token="<unk>", continuing_subword_prefix="")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(pieces, "isolated")
    backend.decoder = tokenizers.decoders.Fuse()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    ).save_pretrained(directory)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "initializer_range": 0.3,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.LlamaConfig(
            vocab_size=len(vocabulary),
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
            **sizes | changes,
        )
        transformers.LlamaForCausalLM(config).save_pretrained(directory)
    return directory
