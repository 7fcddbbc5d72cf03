"""Encoder protocol, its errors, and the checks that every encoder makes on texts and vectors."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from llmrec_env.content.cells import SURROGATE

Vectors = npt.NDArray[np.float32]


class EncoderError(RuntimeError):
    """An encoder could not be loaded or could not be trusted."""


class WeightsError(EncoderError):
    """The weights or the tokenizer are missing, incomplete or not the expected ones."""


class EncodingError(EncoderError):
    """An encoder returned vectors of the wrong shape or with values that are not finite."""


class DeviceError(EncoderError):
    """The device asked for is not on this machine, or is too small."""


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns texts into vectors.

    The vector of a text must depend on nothing but the text: not on the other texts of the call,
    nor on their order.
    """

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that decides a text's vector: two encoders that share it agree."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of the texts: float32, (n, dim), one row a text, in their order."""
        ...


def normalize_texts(texts: Sequence[str]) -> list[str]:
    """The texts in Unicode normal form C.

    Raises:
        TypeError: for a single string instead of a sequence, or an element that is not a string.
        ValueError: for a lone surrogate, which no tokenizer and no file can hold. Errors give the
            index and never the text: texts are what users wrote.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(
            f"texts must be a sequence of strings, got one {type(texts).__name__}; wrap it: [text]"
        )
    normalized: list[str] = []
    for index, text in enumerate(cast(Sequence[object], texts)):
        if not isinstance(text, str):
            raise TypeError(
                f"texts[{index}] must be a str, got {type(text).__name__}; convert it first"
            )
        if SURROGATE.search(text):
            raise ValueError(
                f"texts[{index}] holds a lone surrogate (U+D800 to U+DFFF), which is no character; "
                "read the source with encoding='utf-8', errors='replace'"
            )
        normalized.append(unicodedata.normalize("NFC", text))
    return normalized


def check_encoding(vectors: object, n: int, dim: int, *, name: str = "encoder") -> Vectors:
    """The vectors as contiguous float32 (n, dim), if that is what they are.

    Args:
        vectors: what the encoder returned.
        n: number of texts it was given.
        dim: length of a vector it promised.
        name: what to call the encoder in errors.

    Raises:
        EncodingError: for another shape, for values that are no real numbers, and for NaN or
            infinity (with the index of the first such row).
    """
    array = np.asarray(vectors)
    if array.shape != (n, dim):
        raise EncodingError(
            f"{name} returned vectors of shape {array.shape}, expected {(n, dim)}: one row a text, "
            "as many columns as its `dim`; fix its `encode` or its `dim`"
        )
    if array.dtype.kind not in "fiu":
        raise EncodingError(
            f"{name} returned values of type {array.dtype}, expected float32; fix its `encode`"
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite: refused below
        array = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise EncodingError(
            f"{name} returned NaN or infinity for {int(n - finite.sum())} of {n} texts, the first "
            f"at index {int(np.argmin(finite))}; its weights are damaged or its dtype is too narrow"
        )
    return array
