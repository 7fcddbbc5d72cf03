"""Encoding of the bundled catalogue, whose vectors come with the package."""

from __future__ import annotations

from pathlib import Path

from llmrec_env.atomic_files import write_atomically
from llmrec_env.content.bundled_encodings import FILE, encode_bundled
from llmrec_env.content.encoders import load_encoder


def run(out: str = "") -> Path:
    """Encode the texts of `video` with MiniLM, and write the file that comes with the package.

    Args:
        out: the file; empty: the one that the package reads.
    """
    encoder = load_encoder("minilm", device="cpu", progress=True)
    path = write_atomically(out or str(FILE), encode_bundled(encoder))
    print(f"{path}: {path.stat().st_size:,} bytes")
    return path
