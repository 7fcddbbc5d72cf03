"""Text tower that is linear: a vector for each token, or a matrix, learns; no model runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from llmrec_env.content.encoders import load_encoder
from llmrec_env.content.encoders.protocol import normalize_texts
from llmrec_env.content.encoders.word_vectors import WordVectorEncoder


class _Features(NamedTuple):
    start: Tensor  # (dim,), the unit vector of the encoder
    rows: Tensor  # (m,), of the change, one for each token that can learn
    weights: Tensor  # (m,)


class LinearTower(nn.Module):
    """Maps texts to unit vectors as an encoder does, with a change that is learnt.

    With `word-vectors` the vectors of tokens change, those of the texts to learn from. With any
    other encoder its vectors stay as they are, and a matrix applied to them changes: of
    `hashing-1024` it holds a vector for each bucket of words and word pairs. The change begins at
    zero, and weight decay draws it there.
    """

    def __init__(self, encoder: str, texts: Sequence[str]) -> None:
        """Takes a name or directory for `load_encoder`, and texts, which are kept in memory.

        Raises:
            ValueError: there is no such encoder.
            EncoderError: a package or the weights are missing.
        """
        super().__init__()
        self.encoder = load_encoder(encoder)
        texts = normalize_texts(texts)
        self._row_of: dict[int, int] = {}
        size = self.encoder.dim
        if isinstance(self.encoder, WordVectorEncoder):
            used = np.unique(np.concatenate([bag.ids for bag in self.encoder.bags(texts)]))
            self._row_of = {token: row for row, token in enumerate(used.tolist())}
            size = len(used)
        self.change = nn.Parameter(torch.zeros(size, self.encoder.dim))
        self._remembered = dict(zip(texts, self._features(texts), strict=True))

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Returns the unit vectors of the texts, (n, dim)."""
        texts = normalize_texts(texts)
        if not texts:
            return torch.zeros((0, self.encoder.dim))
        new = [text for text in texts if text not in self._remembered]
        known = self._remembered | dict(zip(new, self._features(new), strict=True))
        features = [known[text] for text in texts]
        start = torch.stack([x.start for x in features])
        if not self._row_of:
            return nn.functional.normalize(start + start @ self.change, dim=1)
        ends = torch.tensor([len(x.rows) for x in features]).cumsum(0)
        added = nn.functional.embedding_bag(
            torch.cat([x.rows for x in features]),
            self.change,
            torch.cat([torch.zeros(1, dtype=torch.long), ends[:-1]]),
            mode="sum",
            per_sample_weights=torch.cat([x.weights for x in features]),
        )
        return nn.functional.normalize(start + added, dim=1)

    def _features(self, texts: Sequence[str]) -> list[_Features]:
        starts = torch.from_numpy(self.encoder.encode(texts))
        if not isinstance(self.encoder, WordVectorEncoder):
            none = torch.zeros(0, dtype=torch.long)
            return [_Features(start, none, none) for start in starts]
        features = []
        for start, (ids, weights) in zip(starts, self.encoder.bags(texts), strict=True):
            length = float(np.linalg.norm(weights @ self.encoder.table[ids])) or 1.0
            known = [place for place, token in enumerate(ids.tolist()) if token in self._row_of]
            rows = torch.tensor([self._row_of[token] for token in ids[known].tolist()])
            share = torch.from_numpy(weights[known] / length).float()
            features.append(_Features(start, rows.long(), share))
        return features
