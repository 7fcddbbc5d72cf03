"""BOUNDARY: `history="document"`, a user's behaviour texts read by the model as one text."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.content.embedding_space import Space
from llmrec_env.content.encoders import TransformerEncoder, load_encoder
from llmrec_env.content.encoders.transformer import Dtype
from llmrec_env.interface.history import HISTORY_LENGTH, QUERY, SATISFIED

_CACHE_BYTES = 64 * 2**20


class DocumentWarning(UserWarning):
    """A document is longer than what its encoder reads."""


class DocumentReader:
    """Writes v, the encoding of each session's behaviour texts, into the public histories.

    Two steps of three change no document: nothing satisfied, and nothing was typed. So the vectors
    of documents are kept, in 64 MiB, and only new ones are encoded, in one call. A document's
    vector depends on the document alone: what is kept changes the speed and nothing else.
    """

    def __init__(
        self,
        config: EnvConfig,
        item_texts: Sequence[str],
        phrase_texts: Sequence[str],
        space: Space,
    ) -> None:
        """Loads the encoder, on the GPU where there is one.

        Args:
            config: names the encoder, its device and numbers, and the size of a document.
            item_texts: texts by item id.
            phrase_texts: texts by phrase id.
            space: where the encodings of items lie.
        """
        self._texts, self._num_items = [*item_texts, *phrase_texts], len(item_texts)
        self._space, self._size = space, config.document_size
        # Not cached on disk: a document is read once, and says more of a user than one text does.
        self.encoder = load_encoder(
            config.encoder,
            device=config.device,
            dtype=cast(Dtype, config.document_dtype),
            documents=True,
            cache=False,
        )
        self._vectors: OrderedDict[bytes, npt.NDArray[np.float32]] = OrderedDict()
        self._capacity = _CACHE_BYTES // (4 * config.dim + 4 * self._size + 256)
        self._has_warned = False

    def read(self, histories: npt.NDArray[np.void], sessions: npt.NDArray[np.intp]) -> None:
        """Replaces the slow interest of these sessions by the encoding of their documents."""
        documents = self.documents(histories, sessions)
        written = documents[:, 0] >= 0
        if written.any():
            histories["interest"][sessions[written]] = self._encode(documents[written])

    def documents(
        self, histories: npt.NDArray[np.void], sessions: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.int32]:
        """Returns ids of the texts that satisfied or were typed, newest first, (n, size).

        Phrases are numbered behind the items; -1 stands behind the oldest text.
        """
        entries = histories["num_entries"][sessions][:, None] - 1 - np.arange(HISTORY_LENGTH)
        ring = entries % HISTORY_LENGTH
        feedback = np.take_along_axis(histories["feedback"][sessions], ring, axis=1)
        ids = np.take_along_axis(histories["item"][sessions], ring, axis=1)
        ids = np.where(feedback == QUERY, ids + self._num_items, ids)
        is_read = ((feedback == SATISFIED) | (feedback == QUERY)) & (entries >= 0)
        index = np.cumsum(is_read, axis=1) - 1  # of a text in its document
        rows, columns = np.nonzero(is_read & (index < self._size))
        documents = np.full((len(ids), self._size), -1, np.int32)
        documents[rows, index[rows, columns]] = ids[rows, columns]
        return documents

    def text(self, document: npt.NDArray[np.int32]) -> str:
        """Returns the texts of a document, (size,), as one."""
        return " ".join(self._texts[i] for i in document if i >= 0)

    def _encode(self, documents: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        keys = [document.tobytes() for document in documents]
        known = self._vectors
        new = {key: i for i, key in enumerate(keys) if key not in known}
        if new:
            texts = [self.text(documents[i]) for i in new.values()]
            self._warn_of_cuts(texts)
            vectors = self._space.project_items(self.encoder.encode(texts))
            known.update((key, vector.copy()) for key, vector in zip(new, vectors, strict=True))
        rows = np.stack([known[key] for key in keys])
        for key in keys:
            known.move_to_end(key)
        while len(known) > self._capacity:
            known.popitem(last=False)
        return rows

    def _warn_of_cuts(self, texts: list[str]) -> None:
        if self._has_warned or not isinstance(self.encoder, TransformerEncoder):
            return
        tokens, limit = max(self.encoder.num_tokens(texts)), self.encoder.max_length
        if tokens > limit:
            self._has_warned = True
            warnings.warn(
                f"document_size={self._size}: a document has {tokens} tokens, of which "
                f"{self.encoder.name!r} reads the first {limit}: its oldest texts are cut; set "
                f"document_size={max(1, self._size * limit // tokens)}, or use another encoder.",
                DocumentWarning,
                stacklevel=2,
            )
