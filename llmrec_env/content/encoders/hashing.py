"""Hashing encoder of words and word pairs: no model, no download, the same bits everywhere."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from llmrec_env.content.encoders.protocol import Vectors, check_encoding, normalize_texts

# Scripts written without spaces (kana, CJK ideographs) count as one word a character.
_WORD = re.compile(r"[^\W\u3040-\u30ff\u3400-\u9fff]+|[\u3040-\u30ff\u3400-\u9fff]")
_BUCKETS_PER_FEATURE = 8
_BLOCK = 2048  # texts accumulated together: bounds memory
# Weights are whole numbers, so that every sum below is exact in float64 and no order of
# summation, thread count or instruction set can change a bit.
_WORD_WEIGHT = 1024.0
_PAIR_WEIGHT = 512.0
_MAX_WORDS = 4096  # keeps the squared norm below 2**53


class HashingEncoder:
    """Vectors in which texts that share words and word pairs are near each other.

    A feature (word or pair) adds its weight to eight buckets chosen by its BLAKE2b hash, with
    hashed signs; a repeated feature counts with the square root of its number. Good for tests and
    for machines without torch; it knows no synonyms.
    """

    def __init__(self, dim: int = 256, seed: int = 0) -> None:
        """Choose the buckets.

        Args:
            dim: length of a vector, 1 to 65,536.
            seed: chooses another set of buckets, 0 to 2**64 - 1.

        Raises:
            ValueError: for an argument out of range.
        """
        if not 1 <= dim <= 65_536:
            raise ValueError(f"dim={dim} is out of range; a hashing encoder takes 1 to 65536")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed={seed} is out of range; use 0 to 2**64 - 1")
        self.dim = dim
        self.seed = seed
        self.fingerprint = hashlib.sha256(f"hashing-1 dim={dim} seed={seed}".encode()).hexdigest()

    def __repr__(self) -> str:
        return f"HashingEncoder(dim={self.dim}, seed={self.seed})"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of the texts: float32, (n, dim).

        Only the first 4,096 words of a text count. A text without a word becomes the first axis.

        Raises:
            TypeError: for an element that is not a string.
            ValueError: for a lone surrogate.
        """
        texts = normalize_texts(texts)
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), _BLOCK):
            vectors[start : start + _BLOCK] = self._encode_block(texts[start : start + _BLOCK])
        return check_encoding(vectors, len(texts), self.dim, name=repr(self))

    def _encode_block(self, texts: list[str]) -> Vectors:
        counts = [count_features(text) for text in texts]
        numbers = {f: i for i, f in enumerate(dict.fromkeys(f for c in counts for f in c))}
        rows = np.repeat(np.arange(len(texts)), [len(c) for c in counts])  # (m,)
        features = np.array([numbers[f] for c in counts for f in c], dtype=np.int64)  # (m,)
        repeats = np.array([k for c in counts for k in c.values()], dtype=np.float64)  # (m,)
        is_pair = np.array([" " in f for f in numbers], dtype=bool)

        buckets, signs = self._hash(list(numbers))
        weights = np.rint(
            np.sqrt(repeats) * np.where(is_pair, _PAIR_WEIGHT, _WORD_WEIGHT)[features]
        )
        cells = rows[:, None] * self.dim + buckets[features]  # (m, 8)
        sums = np.bincount(
            cells.ravel(),
            weights=(weights[:, None] * signs[features]).ravel(),
            minlength=len(texts) * self.dim,
        ).reshape(len(texts), self.dim)

        norms = np.sqrt((sums * sums).sum(axis=1))
        sums[norms == 0, 0] = 1.0
        norms[norms == 0] = 1.0
        return (sums / norms[:, None]).astype(np.float32)

    def _hash(self, features: list[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Buckets and signs of the features, both (number of features, 8)."""
        hasher = hashlib.blake2b(
            digest_size=4 * _BUCKETS_PER_FEATURE, key=self.seed.to_bytes(8, "little")
        )
        digests = bytearray()
        for feature in features:
            feature_hasher = hasher.copy()
            feature_hasher.update(feature.encode("utf-8"))
            digests += feature_hasher.digest()
        bits = np.frombuffer(bytes(digests), dtype="<u4").reshape(-1, _BUCKETS_PER_FEATURE)
        return (bits >> 1).astype(np.int64) % self.dim, (bits & 1).astype(np.float64) * 2 - 1


def count_features(text: str) -> Counter[str]:
    """How often each word and each pair of neighbouring words stands in a text."""
    words = _WORD.findall(unicodedata.normalize("NFC", text.lower()))[:_MAX_WORDS]
    return Counter([*words, *(f"{left} {right}" for left, right in pairwise(words))])
