"""Causal language model of a local directory: likelihoods of endings, and answers to prompts.

Only weights in safetensors form are read, and no code of the directory is run.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Generator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llmrec_env.content.encoders import DeviceError
from llmrec_env.content.encoders.transformer import find_device
from llmrec_env.content.encoders.weights import load_model, read_sizes
from llmrec_env.content.model_directory import CAUSAL, DTYPES, check_memory, checked_directory

Tokens = Sequence[int] | npt.NDArray[np.int32]


class CausalModel:
    """A language model that predicts the next token, and its tokenizer.

    Attributes:
        directory: of the model.
        digest: SHA-256 of its files.
        limit: tokens that it reads at most, prompt and answer together.
        tokens: how many it has read and written so far.
    """

    def __init__(
        self, model: str | Path, device: str = "auto", dtype: str = "auto", batch_size: int = 16
    ) -> None:
        """Loads the model whole.

        Args:
            model: a directory, as `model.save_pretrained` and `hf download` write it.
            device: `auto` (the GPU where there is one), `cpu`, `cuda`, ...
            dtype: of the weights; `auto`: bfloat16 on a GPU, float32 elsewhere.
            batch_size: texts read at once.

        Raises:
            ValueError: an argument is out of range.
            WeightsError: no such directory, or the model is not causal, wants to run code of its
                own, or is incomplete.
            DeviceError: the device is not here, or its memory is too small.
        """
        directory, _, self.digest = checked_directory(
            model,
            (CAUSAL,),
            name="model",
            naming="--set model=DIR",
            instead="use one such as LlamaForCausalLM, or lm-embed, which takes an encoder",
        )
        self.device = find_device(device)
        if dtype == "auto":
            dtype = "bfloat16" if self.device.startswith("cuda") else "float32"
        if dtype not in DTYPES:
            raise ValueError(f"dtype={dtype!r} is unknown; use auto, {', '.join(DTYPES)}.")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} is out of range; use 1 or more.")
        self.batch_size, self.name, self.tokens = batch_size, directory.name, 0
        self.directory = directory
        check_memory(directory, self.device, dtype)
        _, self.limit = read_sizes(directory)
        _, self.model, self.tokenizer = load_model(directory, self.device, dtype, CAUSAL.loader)
        self._keeps_logits = "logits_to_keep" in signature(self.model.forward).parameters
        self._continuations: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text, after the one that begins every text where there is one."""
        start = self.tokenizer.bos_token_id
        first = [] if start is None else [start]
        return first + self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    @torch.inference_mode()
    def log_likelihoods(self, prompt: str, endings: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the mean log-probability of the tokens of each ending after a prompt, (n,).

        The prompt is read once, for all endings.
        """
        start = torch.tensor([self.encode(prompt) or [self._padding]], device=self.device)
        tokens = [self.continuation(ending) for ending in endings]
        room = self.limit - start.shape[1]
        if max(map(len, tokens), default=0) > room:
            raise ValueError(f"{self.name} reads {self.limit} tokens; shorten the prompt.")
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))  # less padding
        means = np.empty(len(tokens), np.float32)
        with self._memory_errors():
            read = self.model(start, use_cache=True, **self._last_logits(1))
            self.tokens += start.shape[1]
            for first in range(0, len(tokens), self.batch_size):
                rows = order[first : first + self.batch_size]
                found = self._means(start, read, [tokens[row] for row in rows])
                means[rows] = found.cpu().numpy()
        return means

    def _means(self, start: Tensor, read: Any, tokens: list[list[int]]) -> Tensor:
        """The mean log-probability of each of some endings, (b,)."""
        ids, mask = self.padded(tokens, left=False)
        self.tokens += int(mask.sum())
        first = read.logits[:, -1].float().log_softmax(dim=1)[0]
        logs = first[ids[:, 0]]
        if ids.shape[1] > 1:  # nothing is foretold by the last token
            past = copy.deepcopy(read.past_key_values)  # reading appends to it
            past.batch_repeat_interleave(len(tokens))
            whole = torch.cat([torch.ones_like(start).expand(len(tokens), -1), mask[:, :-1]], dim=1)
            logits = self.model(ids[:, :-1], past_key_values=past, attention_mask=whole).logits
            logs = logs - token_losses(logits, ids[:, 1:], mask[:, 1:].bool()).sum(dim=1)
        return logs / mask.sum(dim=1)

    def logits_behind(
        self, prompts: Sequence[Tokens], endings: Sequence[Tokens]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what foretells each token of endings, these tokens, and where there are any.

        (b, longest ending, vocabulary), (b, longest ending) and a mask of this shape; gradients are
        those of the caller.

        Args:
            prompts: tokens of each, at least one, (b,).
            endings: tokens behind it, (b,).
        """
        ids, mask = self.padded(
            [[*pair[0], *pair[1]] for pair in zip(prompts, endings, strict=True)], left=False
        )
        starts = torch.tensor([len(prompt) for prompt in prompts], device=ids.device)
        lengths = torch.tensor([len(ending) for ending in endings], device=ids.device)
        kept = int(ids.shape[1] - starts.min() + 1)
        logits = self.model(ids, attention_mask=mask, **self._last_logits(kept)).logits
        places = starts[:, None] + torch.arange(int(lengths.max()), device=ids.device)
        told = places < (starts + lengths)[:, None]
        places = places.clamp(max=ids.shape[1] - 1)
        index = places - 1 - (ids.shape[1] - logits.shape[1])
        before = logits.gather(1, index[..., None].expand(-1, -1, logits.shape[2]))
        return before, ids.gather(1, places), told

    def _last_logits(self, count: int) -> dict[str, int]:
        """Keywords by which only the last logits are computed, where the model can."""
        return {"logits_to_keep": count} if self._keeps_logits else {}

    def answers(
        self, prompts: Sequence[str], max_new_tokens: int, temperature: float = 0.0
    ) -> list[str]:
        """Returns what the model writes after each prompt.

        Args:
            prompts: texts.
            max_new_tokens: tokens after which an answer ends.
            temperature: 0 writes the likeliest token; more draws, from torch's generator.

        Raises:
            ValueError: a prompt is longer than what the model reads.
        """
        tokens = [self.encode(prompt) for prompt in prompts]
        self.check_lengths(tokens, max_new_tokens)
        texts: list[str] = []
        for first in range(0, len(tokens), self.batch_size):
            written = self.write(
                tokens[first : first + self.batch_size], max_new_tokens, temperature
            )
            texts += [self.text(row) for row in written.tolist()]
        return texts

    def text(self, tokens: list[int]) -> str:
        """Returns what tokens say, without those that begin, end or fill a text."""
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    @torch.inference_mode()
    def write(
        self, prompts: list[list[int]], max_new_tokens: int, temperature: float = 0.0
    ) -> Tensor:
        """Returns the tokens written after each prompt, (n, at most max_new_tokens), then padding.

        Args:
            prompts: tokens of each.
            max_new_tokens: see `answers`.
            temperature: see `answers`.
        """
        ids, mask = self.padded(prompts, left=True)
        draws: dict[str, Any] = {"do_sample": temperature > 0}
        if temperature > 0:
            draws |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
        with self._memory_errors():
            written = self.model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                pad_token_id=self._padding,
                eos_token_id=self.tokenizer.eos_token_id,
                **draws,
            )[:, ids.shape[1] :]
        self.tokens += int(mask.sum()) + written.numel()
        return written

    def check_lengths(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
        """Raises ValueError where a prompt and its answer are longer than what the model reads."""
        longest, room = max(map(len, prompts), default=0), self.limit - max_new_tokens
        if longest > room:
            raise ValueError(
                f"a prompt has {longest} tokens, but {self.name} reads {self.limit}, of which "
                f"max_new_tokens={max_new_tokens} are for the answer; lower text_budget to "
                f"about {max(room, 0) / longest:.0%} of what it is (--env.text-budget), or offer "
                "fewer candidates."
            )

    @property
    def _padding(self) -> int:
        padding = self.tokenizer.pad_token_id
        return 0 if padding is None else int(padding)

    def continuation(self, text: str) -> list[int]:
        """Returns the tokens of a text that goes on with another; they are kept."""
        if text not in self._continuations:
            tokens = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            self._continuations[text] = tokens or [self._padding]
        return self._continuations[text]

    def padded(self, tokens: Sequence[Tokens], left: bool) -> tuple[Tensor, Tensor]:
        """Returns tokens and their mask, both (n, longest), padded on one side."""
        width = max(map(len, tokens))
        ids = torch.full((len(tokens), width), self._padding)
        mask = torch.zeros_like(ids)
        for row, entry in enumerate(tokens):
            place = slice(width - len(entry), width) if left else slice(0, len(entry))
            ids[row, place], mask[row, place] = torch.as_tensor(entry), 1
        return ids.to(self.device), mask.to(self.device)

    @contextlib.contextmanager
    def _memory_errors(self) -> Generator[None]:
        """Says what to do where a batch does not fit into the device's memory."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{self.name} ran out of memory on {self.device} with batch_size="
                f"{self.batch_size}; use batch_size={max(1, self.batch_size // 4)}, or a shorter "
                "text_budget."
            ) from error


def token_losses(logits: Tensor, tokens: Tensor, told: Tensor) -> Tensor:
    """Returns minus the log-probability of each token, (b, t); 0 where `told` is False.

    Args:
        logits: of each token, (b, t, vocabulary).
        tokens: (b, t).
        told: which of them count, (b, t).
    """
    wanted = tokens.masked_fill(~told, -100)
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=-100, reduction="none"
    )
    return losses.view(tokens.shape)
