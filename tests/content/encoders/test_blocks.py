import numpy as np
import pytest

from llmrec_env.content.encoders.blocks import BUCKETS, Block, block_widths, pad_block, plan_blocks


def test_widths_leave_room_behind_a_truncated_text_if_the_model_has_it() -> None:
    assert block_widths(100, 512) == [8, 16, 24, 32, 48, 64, 96, 108]
    assert block_widths(256, 512)[-2:] == [192, 264]
    assert block_widths(512, 512)[-2:] == [384, 512]
    assert block_widths(2, 512) == [10]


@pytest.mark.parametrize("block_tokens", [1, 64, 256, 16_384])
def test_every_text_is_planned_once_into_the_block_of_its_length(block_tokens: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 101, size=500).tolist()
    widths = block_widths(100, 512)
    planned: list[int] = []
    rows_of: dict[int, set[int]] = {}
    for width, rows, members in plan_blocks(lengths, widths, block_tokens):
        planned += members
        rows_of.setdefault(width, set()).add(rows)
        assert 1 <= len(members) <= rows
        assert all(width == next(w for w in widths if lengths[i] <= w) for i in members)
    assert sorted(planned) == list(range(500))
    least = 1 if block_tokens == 1 else 2
    assert all(rows == {max(least, block_tokens // width)} for width, rows in rows_of.items())


def test_a_block_is_never_without_padding() -> None:
    lengths = [16] * 50 + [15] * 3
    for width, rows, members in plan_blocks(lengths, BUCKETS, 64):
        assert (width, rows) == (16, 4)
        assert len(members) < 4 or any(lengths[i] == 15 for i in members)
    sizes = [len(members) for _, _, members in plan_blocks([8] * 7, BUCKETS, 16)]
    assert sizes == [1] * 7  # two rows, one of them a dummy


def test_no_lengths_plan_no_blocks() -> None:
    assert list(plan_blocks([], BUCKETS, 256)) == []


def test_padding_and_dummy_rows() -> None:
    tokens = {"input_ids": [[5, 6, 7], [8]], "attention_mask": [[1, 1, 1], [1]]}
    block = pad_block(tokens, Block(4, 3, [1, 0]), {"input_ids": 9, "attention_mask": 0})
    assert block["input_ids"].tolist() == [[8, 9, 9, 9], [5, 6, 7, 9], [9, 9, 9, 9]]
    assert block["attention_mask"].tolist() == [[1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]]
