"""`history="document"`: a user's behaviour texts joined into one, read by the model as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.content.encoders import load_encoder
from llmrec_env.interface.observation import HISTORY_LENGTH, QUERY, SATISFIED
from llmrec_env.world import World


class DocumentReader:
    """Writes v, the encoding of each session's behaviour texts, into the public histories."""

    def __init__(self, config: EnvConfig, world: World) -> None:
        """Loads the encoder, on the GPU where there is one."""
        self._world, self._size = world, config.document_size
        # Not cached on disk: a document is read once, and says more of a user than one text does.
        self._encoder = load_encoder(config.encoder, device=config.device, cache=False)

    def read(self, histories: npt.NDArray[np.void], sessions: npt.NDArray[np.intp]) -> None:
        """Replaces the slow interest of these sessions by the encoding of their documents."""
        documents = [self.document(histories[i]) for i in sessions]
        written = [place for place, document in enumerate(documents) if document]
        if written:
            vectors = self._encoder.encode([documents[place] for place in written])
            vectors = self._world.text.space.project_items(vectors)
            histories["interest"][sessions[written]] = vectors

    def document(self, history: Any) -> str:
        """Returns the texts that satisfied or were typed, newest first; empty if there is none."""
        catalog, phrases, texts = self._world.catalog, self._world.phrases, []
        newest = int(history["num_entries"]) - 1
        for entry in range(newest, max(newest - HISTORY_LENGTH, -1), -1):
            kind = history["feedback"][entry % HISTORY_LENGTH]
            source = {SATISFIED: catalog.texts, QUERY: phrases.texts}.get(int(kind))
            if source is not None:
                texts.append(source[history["item"][entry % HISTORY_LENGTH]])
            if len(texts) == self._size:
                break
        return " ".join(texts)
