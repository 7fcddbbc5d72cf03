"""MiniLM's vectors of the bundled texts, which come with the package.

The default task so needs no language model, encodes nothing, and has the same vectors on every
machine. The file is a NumPy archive (.npz, no pickle) of these arrays:

| name | type | content |
|---|---|---|
| `texts` | bytes, (n, 16) | first half of the SHA-256 of each text in UTF-8 |
| `vectors` | float16, (n, 384) | its encoding |
| `item_mean`, `phrase_mean` | float32, (384,) | see `Axes` |
| `components` | float32, (384, 384) | see `Axes` |
| `variances` | float64, (384,) | see `Axes` |
| `weights` | bytes, (32,) | SHA-256 of the model's files, see `minilm_digest` |
| `sha256` | bytes, (32,) | SHA-256 of the arrays above, in this order |

`python -m experiments encode-catalogue` makes it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.content.catalog import Catalog
from llmrec_env.content.embedding_space import Axes
from llmrec_env.content.encoders import Encoder, WeightsError, load_encoder
from llmrec_env.content.encoders.protocol import Vectors, normalize_texts
from llmrec_env.content.encoders.weights import minilm_digest
from llmrec_env.content.phrases import phrases_of, probe_texts

CATALOG, ENCODER = "video", "minilm"
FILE = files("llmrec_env").joinpath("content", "catalogues", "video", "minilm.npz")
_REPAIR = "install llmrec-env again, or run in a clone: python -m experiments encode-catalogue"


class Encodings(NamedTuple):
    """What the file holds."""

    row_of: dict[bytes, int]  # by key of a text
    vectors: npt.NDArray[np.float16]  # (n, D)
    axes: Axes
    sha256: str


class BundledEncoder:
    """MiniLM whose vectors of bundled texts are read, and which encodes others."""

    def __init__(self, encodings: Encodings, device: str = "auto") -> None:
        """Loads no model: that happens at the first text that is not bundled."""
        self._encodings, self._device = encodings, device
        self.dim = encodings.vectors.shape[1]
        self.fingerprint = encodings.sha256

    def __repr__(self) -> str:
        return f"BundledEncoder({len(self._encodings.vectors)} texts, {self._device!r})"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of the texts: float32, (n, dim).

        Raises:
            TypeError: for an element that is not a string.
            ValueError: for a lone surrogate.
            EncoderError: for a text that is not bundled, if no model is installed.
        """
        texts = normalize_texts(texts)
        rows = [self._encodings.row_of.get(_key(text), -1) for text in texts]
        vectors = self._encodings.vectors[rows].astype(np.float32).reshape(len(texts), self.dim)
        others = [index for index, row in enumerate(rows) if row < 0]
        if others:
            vectors[others] = self._model.encode([texts[index] for index in others])
        return vectors

    @cached_property
    def _model(self) -> Encoder:
        return load_encoder(ENCODER, device=self._device, progress=True)


def load_encoder_of(items: Catalog, encoder: str, device: str) -> tuple[Encoder, Axes | None]:
    """Returns the encoder of a catalogue, and the axes of its space where they are bundled.

    The bundled vectors are used for the texts of `video` as read by `minilm`, whatever is
    installed; anything else is encoded.

    Raises:
        ValueError: for an unknown encoder.
        EncoderError: the encoder cannot be loaded, or the bundled file is damaged.
    """
    if items.name == CATALOG and encoder == ENCODER:
        encodings = read_encodings()
        if all(_key(text) in encodings.row_of for text in items.texts):
            return BundledEncoder(encodings, device), encodings.axes
    return load_encoder(encoder, device=device, progress=True), None


@lru_cache(maxsize=1)
def read_encodings() -> Encodings:
    """Returns the bundled vectors.

    Raises:
        WeightsError: the file is missing or damaged, or of another model than `minilm` is now.
    """
    try:
        with np.load(io.BytesIO(FILE.read_bytes()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        sha256 = arrays.pop("sha256").tobytes()
        texts, vectors, weights = (arrays.pop(name) for name in ("texts", "vectors", "weights"))
        axes = Axes(**arrays)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        problem = f"cannot be read ({type(error).__name__})"
        raise WeightsError(f"{FILE} {problem}; {_REPAIR}") from None
    if _digest(texts, vectors, axes, weights) != sha256:
        raise WeightsError(f"{FILE} is damaged: its SHA-256 is another; {_REPAIR}")
    if weights.tobytes().hex() != minilm_digest():
        raise WeightsError(f"{FILE} is of another model than encoder={ENCODER!r}; {_REPAIR}")
    row_of = {key.tobytes(): row for row, key in enumerate(texts)}
    return Encodings(row_of, vectors, axes, sha256.hex())


def encode_bundled(encoder: Encoder) -> bytes:
    """Returns the content of the file, with the vectors of an encoder.

    Args:
        encoder: the real MiniLM.
    """
    items = Catalog.load(CATALOG)
    raw_items = encoder.encode(items.texts).astype(np.float16)
    items, phrases = phrases_of(items, raw_items)
    raw_phrases = encoder.encode(phrases.texts).astype(np.float16)
    probe = [text for side in probe_texts() for text in side]
    texts = [*items.texts, *phrases.texts, *probe]
    keys = np.array([list(_key(text)) for text in texts], np.uint8)
    vectors = np.concatenate([raw_items, raw_phrases, encoder.encode(probe).astype(np.float16)])
    axes = Axes.fit(raw_items, raw_phrases)
    weights = np.frombuffer(bytes.fromhex(minilm_digest()), np.uint8)
    sha256 = np.frombuffer(_digest(keys, vectors, axes, weights), np.uint8)
    content = io.BytesIO()
    np.savez(content, texts=keys, vectors=vectors, **axes._asdict(), weights=weights, sha256=sha256)
    return content.getvalue()


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def _digest(
    texts: npt.NDArray[np.uint8],
    vectors: npt.NDArray[np.float16],
    axes: Axes,
    weights: npt.NDArray[np.uint8],
) -> bytes:
    digest = hashlib.sha256()
    for array in (texts, vectors, *axes, weights):
        digest.update(f"{array.dtype.str} {array.shape}".encode() + array.tobytes())
    return digest.digest()
