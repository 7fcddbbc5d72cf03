"""BOUNDARY: `history="document"`, a user's behaviour texts read by the model as one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.content.embedding_space import Space
from llmrec_env.content.encoders import load_encoder
from llmrec_env.interface.history import HISTORY_LENGTH, QUERY, SATISFIED


class DocumentReader:
    """Writes v, the encoding of each session's behaviour texts, into the public histories."""

    def __init__(
        self,
        config: EnvConfig,
        item_texts: Sequence[str],
        phrase_texts: Sequence[str],
        space: Space,
    ) -> None:
        """Loads the encoder, on the GPU where there is one.

        Args:
            config: names the encoder, its device and the size of a document.
            item_texts: texts by item id.
            phrase_texts: texts by phrase id.
            space: where the encodings of items lie.
        """
        self._texts = {SATISFIED: item_texts, QUERY: phrase_texts}
        self._space, self._size = space, config.document_size
        # Not cached on disk: a document is read once, and says more of a user than one text does.
        self._encoder = load_encoder(config.encoder, device=config.device, cache=False)

    def read(self, histories: npt.NDArray[np.void], sessions: npt.NDArray[np.intp]) -> None:
        """Replaces the slow interest of these sessions by the encoding of their documents."""
        documents = {i: text for i in sessions if (text := self.document(histories[i]))}
        if documents:
            vectors = self._space.project_items(self._encoder.encode(list(documents.values())))
            histories["interest"][list(documents)] = vectors

    def document(self, history: Any) -> str:
        """Returns the texts that satisfied or were typed, newest first; empty if there is none."""
        texts: list[str] = []
        newest = int(history["num_entries"]) - 1
        for entry in range(newest, max(newest - HISTORY_LENGTH, -1), -1):
            source = self._texts.get(int(history["feedback"][entry % HISTORY_LENGTH]))
            if source is not None:
                texts.append(source[int(history["item"][entry % HISTORY_LENGTH])])
            if len(texts) == self._size:
                break
        return " ".join(texts)
