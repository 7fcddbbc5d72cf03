"""Text encoders: texts to vectors."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from llmrec_env.content.encoders.cache import CachedEncoder, CacheWarning
from llmrec_env.content.encoders.hashing import HashingEncoder
from llmrec_env.content.encoders.protocol import (
    DeviceError,
    Encoder,
    EncoderError,
    EncodingError,
    WeightsError,
)
from llmrec_env.content.encoders.transformer import Dtype, Pooling, TransformerEncoder
from llmrec_env.content.encoders.word_vectors import WordVectorEncoder

__all__ = [
    "CacheWarning",
    "CachedEncoder",
    "DeviceError",
    "Encoder",
    "EncoderError",
    "EncodingError",
    "HashingEncoder",
    "WeightsError",
    "load_encoder",
]

NAMES = ("minilm", "word-vectors", "hashing")

_HASHING = re.compile(r"hashing(?:-(\d+))?")


def load_encoder(
    name_or_path: str | os.PathLike[str],
    *,
    dim: int | None = None,
    device: str = "auto",
    dtype: Dtype = "float32",
    pooling: Pooling = "mean",
    documents: bool = False,
    cache: bool | str | os.PathLike[str] = True,
    progress: bool = False,
    download: bool = False,
) -> Encoder:
    """The encoder of that name, never another one in its place.

    Args:
        name_or_path: "minilm"; "word-vectors", MiniLM's static token embeddings averaged;
            "hashing", or "hashing-512" for 512 dimensions; a directory with a transformer; or with
            `download` the id of a model on the hub.
        dim: length of the vectors of a hashing encoder, 256 by default. A model has its own;
            `Space.fit` reduces it.
        device: "auto", "cpu", "cuda", ...: for transformers.
        dtype: "float32", "bfloat16", "float16", or "auto", bfloat16 where the device computes with
            it natively: for transformers.
        pooling: "mean", "cls" or "last": for transformers.
        documents: read long texts, few at a time: for transformers, see `TransformerEncoder`.
        cache: keep vectors on disk: True in the user's cache, a path elsewhere, False not at all.
            Hashing and word vectors are as fast as the disk: they are cached only for a path.
        progress: show a bar on stderr while many texts are encoded.
        download: fetch a hub id that is not on this machine yet.

    Raises:
        ValueError: for an unknown name (with the nearest known one) or an argument out of range.
        WeightsError: for weights that are missing, incomplete or not the expected ones.
        DeviceError: for a device that this machine does not have.
    """
    name = os.fspath(name_or_path)
    encoder: Encoder
    hashing = _HASHING.fullmatch(name)
    if hashing:
        encoder = HashingEncoder(_hashing_dim(name, hashing[1], dim))
        cache = False if cache is True else cache
    elif name == "word-vectors":
        encoder = WordVectorEncoder()
        _check_dim(name, dim, encoder.dim)
        cache = False if cache is True else cache
    else:
        _check_name(name, download)
        encoder = TransformerEncoder(
            name,
            pooling=pooling,
            device=device,
            dtype=dtype,
            documents=documents,
            progress=progress,
            download=download,
        )
        _check_dim(name, dim, encoder.dim)
    if cache is False:
        return encoder
    return CachedEncoder(encoder, None if cache is True else cache)


def _hashing_dim(name: str, suffix: str | None, dim: int | None) -> int:
    if suffix is None:
        return 256 if dim is None else dim
    if dim not in (None, int(suffix)):
        raise ValueError(f"{name!r} and dim={dim} contradict each other; use one of them")
    return int(suffix)


def _check_dim(name: str, dim: int | None, own: int) -> None:
    if dim not in (None, own):
        raise ValueError(
            f"dim={dim}, but {name!r} has vectors of length {own}; "
            f"leave dim out and reduce them with Space.fit(items, phrases, dim={dim})"
        )


def _check_name(name: str, download: bool) -> None:
    if name == "minilm" or download or Path(name).expanduser().is_dir():
        return
    matches = difflib.get_close_matches(name.lower(), NAMES, n=1)
    guess = f" Did you mean {matches[0]!r}?" if matches else ""
    raise ValueError(
        f"unknown encoder {name!r}.{guess} Use 'minilm', 'word-vectors', 'hashing', "
        "'hashing-<dim>', a directory with a transformer, or the id of a model on the hub "
        "with download=True"
    )
