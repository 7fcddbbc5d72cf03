"""Batches of fixed shape: which texts run through a model together, and in what array.

A matrix product of another shape sums in another order and gives other last bits. So the shape
that a text is computed in may depend on that text alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Tokens: TypeAlias = dict[str, list[list[int]]]

BLOCK_SCHEME = "blocks-1"  # part of a fingerprint: change it with anything in this file
BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192)


class Block(NamedTuple):
    """Texts that run together in one array (rows, width)."""

    width: int
    rows: int
    members: list[int]
    """Indices of the texts, at most `rows`."""


def block_widths(max_length: int, limit: int) -> list[int]:
    """The widths of blocks, rising, for texts of up to `max_length` tokens.

    The last one leaves room for padding behind a truncated text where the model's `limit` allows
    it, because a block without padding has to give up a row: see `plan_blocks`.
    """
    return [width for width in BUCKETS if width < max_length] + [min(max_length + 8, limit)]


def tokenize(tokenizer: Any, texts: list[str], max_length: int) -> Tokens:
    """Token ids and masks of the texts, cut at `max_length`, never padded, never empty."""
    tokens = tokenizer(texts, truncation=True, max_length=max_length, return_attention_mask=True)
    padding = padding_values(tokenizer)
    padding["attention_mask"] = 1  # the stand-in for a text without tokens is one that counts
    return {name: [ids or [padding[name]] for ids in tokens[name]] for name in tokens}


def padding_values(tokenizer: Any) -> dict[str, int]:
    """What stands in the unused cells of each input of a model."""
    return {
        "input_ids": int(tokenizer.pad_token_id or 0),
        "attention_mask": 0,
        "token_type_ids": int(tokenizer.pad_token_type_id or 0),
    }


def plan_blocks(
    lengths: Sequence[int], widths: Sequence[int], block_tokens: int
) -> Iterator[Block]:
    """Yield the blocks that the texts run in, each text in one of them.

    Args:
        lengths: tokens of each text, at most the last width.
        widths: the widths to choose from, rising.
        block_tokens: rows times width to aim at. A block has two rows at least; with 1 it has one,
            so that each text runs by itself.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")
    bounds = np.searchsorted(np.asarray(lengths)[order], widths, side="right")
    for width, start, stop in zip(widths, [0, *bounds[:-1]], bounds, strict=True):
        rows = 1 if block_tokens == 1 else max(2, block_tokens // width)
        while start < stop:
            members = [int(index) for index in order[start : min(start + rows, stop)]]
            if 1 < len(members) == rows and lengths[members[0]] == width:
                # Nothing would be padded, and a model that sees no padding drops the mask and
                # takes another kernel with other bits: leave one row to a dummy.
                members.pop()
            yield Block(width, rows, members)
            start += len(members)


def pad_block(
    tokens: Tokens, block: Block, padding: dict[str, int]
) -> dict[str, npt.NDArray[np.int64]]:
    """The inputs of a block, each (rows, width): members first, padded right, then dummies."""
    arrays: dict[str, npt.NDArray[np.int64]] = {}
    for name, ids in tokens.items():
        arrays[name] = np.full((block.rows, block.width), padding[name], dtype=np.int64)
        for row, member in enumerate(block.members):
            arrays[name][row, : len(ids[member])] = ids[member]
    # A row that attends to nothing gives NaN.
    arrays["attention_mask"][len(block.members) :, 0] = 1
    return arrays
