"""A two-layer BERT with random weights that reads any Latin text letter by letter."""

from __future__ import annotations

import string
from pathlib import Path

import pytest

from llmrec_env.simulation.kernel_cache import cache_home

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

WIDTH = 48
WORDS = "a the of slow fast film about trains cooking pasta jazz piano history war comedy".split()


def save_tiny_bert(directory: Path, seed: int = 0, positions: int = 128) -> Path:
    """Writes the model and its tokenizer and returns their directory."""
    letters = string.ascii_lowercase + string.digits
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *letters[1:]]
    vocabulary += [f"##{letter}" for letter in letters]
    model = tokenizers.models.WordPiece(
        {word: place for place, word in enumerate(vocabulary)}, unk_token="[UNK]"
    )
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(directory)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=positions,
            initializer_range=0.3,
            hidden_dropout_prob=0.02,
            attention_probs_dropout_prob=0.02,
        )
        transformers.BertModel(config).save_pretrained(directory)
    return directory


def own_cache(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Keeps what is encoded from now on in a folder, and machine code where it is."""
    code = cache_home() / "machine_code"
    for path in (folder, code):
        path.mkdir(parents=True, exist_ok=True)
    (folder / "machine_code").symlink_to(code)
    patch.setenv("LLMREC_CACHE", str(folder))
