"""Local language models that say whether a user will be satisfied, from a profile and an item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llmrec_env.content.encoders import DeviceError, WeightsError
from llmrec_env.content.encoders.blocks import (
    Block,
    Tokens,
    block_widths,
    pad_block,
    padding_values,
    plan_blocks,
)
from llmrec_env.content.encoders.transformer import BLOCK_TOKENS, find_device, parallel_map_of
from llmrec_env.content.encoders.weights import load_model, read_sizes
from llmrec_env.content.model_directory import (
    CAUSAL,
    CLASSIFIER,
    Kind,
    check_memory,
    checked_directory,
)
from llmrec_env.content.profiles import Profile

PROMPT_VERSION = 1
"""Of PROMPT: raised when its wording changes."""
PROMPT = (
    "llmrec satisfaction prompt {version}\n"
    "About a user: {profile}\n"
    "The user has chosen this item: {item}\n"
    "Question: does it satisfy the user? Answer yes or no.\n"
    "Answer:"
)
ANSWERS = {"no": (" no", " No", "no", "No"), "yes": (" yes", " Yes", "yes", "Yes")}
MAX_TOKENS = 1024
"""Of a profile and an item together, at most."""


class SatisfactionModel(Protocol):
    """Says how likely it is that an item which a user has chosen satisfies."""

    name: str

    def probabilities(
        self, profiles: Sequence[Profile], items: Sequence[str]
    ) -> npt.NDArray[np.float64]:
        """Returns P(z = 1) of pairs of a profile and an item's text, (n,)."""
        ...


def load_satisfaction_model(directory: str, device: str = "auto") -> SatisfactionModel:
    """Returns the model of a local directory: a sequence classifier or a causal language model.

    Args:
        directory: as `model.save_pretrained` and `hf download` write it.
        device: `auto` (the GPU where there is one), `cpu`, `cuda`, ...

    Raises:
        WeightsError: no such directory, or the model is of another kind, wants to run code of its
            own, is incomplete, or has labels or tokens by which it cannot answer.
        DeviceError: the device is not here, or its memory is too small.
    """
    path, kind, _ = checked_directory(
        directory,
        (CLASSIFIER, CAUSAL),
        name="response_model",
        naming="response_model='DIR' (--env.response-model DIR)",
        instead="use one of these kinds, or leave response_model out for the classifier of "
        "encoded texts",
    )
    device = find_device(device)
    dtype = "bfloat16" if device.startswith("cuda") else "float32"
    check_memory(path, device, dtype)
    reader = _Reader(path, kind, device, dtype)
    return SequenceClassifier(reader) if kind is CLASSIFIER else YesNoModel(reader)


class _Reader:
    """Runs texts through a model in blocks of fixed shape: the same bits in any company."""

    def __init__(self, directory: Any, kind: Kind, device: str, dtype: str) -> None:
        _, limit = read_sizes(directory)
        self.name, self.device, self._limit = directory.name, device, limit
        self.max_length = min(MAX_TOKENS, limit)
        self.torch, self.model, self.tokenizer = load_model(directory, device, dtype, kind.loader)
        if self.model.config.pad_token_id is None:  # by which a decoder finds the last token
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self._widths = block_widths(self.max_length, limit)

    def logits(self, tokens: Tokens) -> npt.NDArray[np.float64]:
        """Returns what the head says behind the last token of each text, (n, labels or words)."""
        lengths = [len(ids) for ids in tokens["input_ids"]]
        size = BLOCK_TOKENS.get(self.device.partition(":")[0], BLOCK_TOKENS["cpu"])
        blocks = list(plan_blocks(lengths, self._widths, size))
        rows: dict[int, npt.NDArray[np.float64]] = {}
        with parallel_map_of(self.torch, self.device, len(blocks)) as parallel_map:
            for members, logits in parallel_map(lambda block: self._read(tokens, block), blocks):
                rows.update(zip(members, logits, strict=True))
        return np.stack([rows[i] for i in range(len(lengths))])

    def _read(self, tokens: Tokens, block: Block) -> tuple[list[int], npt.NDArray[np.float64]]:
        torch = self.torch
        arrays = pad_block(tokens, block, padding_values(self.tokenizer))
        inputs = {name: torch.from_numpy(ids).to(self.device) for name, ids in arrays.items()}
        try:
            with torch.inference_mode():
                logits = self.model(**inputs).logits
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{self.name} ran out of memory on {self.device} with {block.rows} x "
                f"{block.width} tokens; use device='cpu', or a smaller response_model."
            ) from error
        if logits.ndim == 3:  # of every token: the last one's foretell the answer
            last = arrays["attention_mask"].sum(axis=1) - 1
            logits = logits[torch.arange(block.rows), torch.from_numpy(last)]
        return block.members, logits.double().cpu().numpy()[: len(block.members)]


class SequenceClassifier:
    """A classifier of pairs of texts: one label, or two of which the second is satisfaction."""

    def __init__(self, reader: _Reader) -> None:
        """Takes what runs the model.

        Raises:
            WeightsError: it has more than two labels.
        """
        labels = int(reader.model.config.num_labels)
        if labels > 2:
            raise WeightsError(
                f"{reader.name} has {labels} labels; use a response_model with one, or with two of "
                "which the second means that the item satisfies."
            )
        self._reader, self.name = reader, reader.name

    def probabilities(
        self, profiles: Sequence[Profile], items: Sequence[str]
    ) -> npt.NDArray[np.float64]:
        """Returns P(z = 1) of pairs of a profile and an item's text, (n,)."""
        reader = self._reader
        logits = reader.logits(pair_tokens(reader.tokenizer, profiles, items, reader.max_length))
        margin = logits[:, -1] - (logits[:, 0] if logits.shape[1] == 2 else 0.0)
        return 1.0 / (1.0 + np.exp(-margin))


def pair_tokens(
    tokenizer: Any, profiles: Sequence[Profile], items: Sequence[str], max_length: int
) -> Tokens:
    """Returns pairs of a profile and an item's text as a sequence classifier reads them."""
    pairs = [profile.text for profile in profiles], list(items)
    encoding = tokenizer(*pairs, truncation="longest_first", max_length=max_length)
    return {name: encoding[name] for name in encoding}


class YesNoModel:
    """A causal language model that is asked: P(yes) over P(yes) + P(no) as its next word."""

    def __init__(self, reader: _Reader) -> None:
        """Takes what runs the model.

        Raises:
            WeightsError: its tokenizer begins yes and no alike.
        """
        first = {
            answer: {
                reader.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words
            }
            for answer, words in ANSWERS.items()
        }
        both = first["yes"] & first["no"]
        self._no, self._yes = (sorted(first[answer] - both) for answer in ("no", "yes"))
        if not self._no or not self._yes:
            raise WeightsError(
                f"the tokenizer of {reader.name} begins yes and no with the same token; use "
                "another response_model."
            )
        self._reader, self.name = reader, reader.name

    def probabilities(
        self, profiles: Sequence[Profile], items: Sequence[str]
    ) -> npt.NDArray[np.float64]:
        """Returns P(z = 1) of pairs of a profile and an item's text, (n,).

        Raises:
            ValueError: a prompt is longer than what the model reads.
        """
        tokenizer, start = self._reader.tokenizer, self._reader.tokenizer.bos_token_id
        prompts = [prompt_of(*pair) for pair in zip(profiles, items, strict=True)]
        tokens = tokenizer(prompts, add_special_tokens=False, verbose=False)["input_ids"]
        ids = [[*([] if start is None else [start]), *row] for row in tokens]
        longest, limit = max(map(len, ids)), self._reader.max_length
        if longest > limit:
            raise ValueError(
                f"a question has {longest} tokens, but {self.name} reads {limit}; use a "
                "response_model that reads more, or items of shorter texts."
            )
        logits = self._reader.logits(
            {"input_ids": ids, "attention_mask": [[1] * len(x) for x in ids]}
        )
        no, yes = (np.logaddexp.reduce(logits[:, x], axis=1) for x in (self._no, self._yes))
        return 1.0 / (1.0 + np.exp(no - yes))


def prompt_of(profile: Profile, item: str) -> str:
    """Returns the question whose answer is yes or no."""
    return PROMPT.format(version=PROMPT_VERSION, profile=profile.text, item=item)
