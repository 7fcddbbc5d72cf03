"""Ranker by an encoder that reads a user's texts as one document, alone or with each candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from agents.rankers.baselines import Content
from agents.rankers.ranker import Floats, best_slots
from llmrec_env.config import unknown
from llmrec_env.content.encoders import load_encoder
from llmrec_env.content.encoders.transformer import Dtype, TransformerEncoder
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.history import QUERY, SATISFIED

READINGS = ("document", "together")


class LmEmbed(Content):
    """Shows what is near to the document of the texts that the user liked or typed, newest first.

    `reading="document"` compares candidates with the encoding of the document, where `content`
    takes the mean of encodings, one a text. `reading="together"` then has the encoder read the
    document with each candidate of a shortlist behind it, and prefers those that change it least.
    Both have the public terms of `content`.
    """

    name = "lm-embed"

    def __init__(
        self,
        seed: int = 0,
        model: str = "minilm",
        device: str = "auto",
        dtype: str = "auto",
        size: int = 6,
        reading: str = "document",
        shortlist: int = 10,
        **settings: Any,
    ) -> None:
        """Takes the encoder and what it reads.

        Args:
            seed: nothing is drawn; recorded only.
            model: `minilm`, or the directory of a transformer: the encoder of the environment, or
                candidates and document lie in different spaces.
            device: `auto` (the GPU where there is one), `cpu`, `cuda`, ...
            dtype: `auto`: bfloat16 where the device has it natively.
            size: texts of a document.
            reading: `document`, or `together` with each candidate.
            shortlist: candidates that are read together with the document.
            **settings: of Content.

        Raises:
            ValueError: an argument is out of range.
        """
        super().__init__(seed, **settings)
        if reading not in READINGS:
            raise ValueError(unknown("reading:", reading, list(READINGS)))
        if size < 1 or shortlist < 1:
            raise ValueError(f"size={size}, shortlist={shortlist}: use 1 or more.")
        self.model, self.device, self.dtype = model, device, dtype
        self.size, self.reading, self.shortlist = size, reading, shortlist

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Loads the encoder and takes the texts; plays no step."""
        super().fit(env, num_steps)
        self._load()

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Does the same; there are no weights of its own."""
        super().load(weights, env)
        self._load()

    def _load(self) -> None:
        self.encoder = load_encoder(
            self.model,
            device=self.device,
            dtype=cast(Dtype, self.dtype),
            documents=True,
            cache=False,
        )
        self._texts = [*self.data.catalog.texts, *self.data.phrases.texts]
        self._known: dict[bytes, npt.NDArray[np.float32]] = {}
        self.texts_read = self.tokens = 0

    def belief(self, observation: Any) -> Floats:
        """Returns the encoding of each session's document, (n, d); 0 where there is none."""
        documents = self.documents(observation)
        keys = [document.tobytes() for document in documents]
        self._known = {key: self._known[key] for key in keys if key in self._known}
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        written = [key for key, row in new.items() if documents[row, 0] >= 0]
        vectors = self._encode([self._text(documents[new[key]]) for key in written])
        self._known |= dict(zip(written, vectors, strict=True))
        nothing = np.zeros(self.data.items.vectors.shape[1], np.float32)
        return np.stack([self._known.get(key, nothing) for key in keys])

    def documents(self, observation: Any) -> npt.NDArray[np.int64]:
        """Returns ids of the texts that satisfied or were typed, newest first, (n, size).

        Phrases are numbered behind the items; -1 stands behind the oldest text.
        """
        kinds, ids = observation["history_feedback"], observation["history"].astype(np.int64)
        ids = np.where(kinds == QUERY, ids + len(self.data.catalog), ids)
        is_read = (kinds == SATISFIED) | (kinds == QUERY)
        order = np.argsort(~is_read, axis=1, kind="stable")[:, : self.size]
        return np.where(
            np.take_along_axis(is_read, order, 1), np.take_along_axis(ids, order, 1), -1
        )

    def scores(self, observation: Any) -> Floats:
        """Returns the score of each candidate, (n, c)."""
        scores = super().scores(observation)
        if self.reading == "document":
            return scores
        candidates, vectors = observation["candidates"], self.data.items.vectors
        belief, documents = self.belief(observation), self.documents(observation)
        best = best_slots(scores, candidates, min(self.shortlist, candidates.shape[1]))
        items = np.take_along_axis(candidates, best, 1)
        texts = [
            f"{self._text(document)} {self._texts[item]}"
            for document, row in zip(documents, items, strict=True)
            for item in row
        ]
        together = self._encode(texts).reshape(*items.shape, -1)
        change = (together * belief[:, None]).sum(-1) - (vectors[items] * belief[:, None]).sum(-1)
        # The shortlist stays above the rest: no cosine of it is lost by more than 2.
        read = np.take_along_axis(scores, best, 1) + 4.0 + change
        np.put_along_axis(scores, best, read.astype(np.float32), 1)
        return scores

    def _text(self, document: npt.NDArray[np.int64]) -> str:
        return " ".join(self._texts[i] for i in document if i >= 0)

    def _encode(self, texts: Sequence[str]) -> Floats:
        self.texts_read += len(texts)
        if not texts:
            return np.zeros((0, self.data.items.vectors.shape[1]), np.float32)
        if isinstance(self.encoder, TransformerEncoder):
            self.tokens += sum(self.encoder.num_tokens(texts))
        return self.data.space.project_items(self.encoder.encode(texts))
