"""The language model as a trainable tower: texts to unit vectors, with gradients where wanted."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from agents.joint.lora import (
    attention_projections,
    check_range,
    load_adapter,
    save_adapter,
    with_lora,
)
from llmrec_env.config import unknown
from llmrec_env.content.encoders import WeightsError, load_encoder
from llmrec_env.content.encoders.blocks import Block, Tokens, pad_block, padding_values, tokenize
from llmrec_env.content.encoders.protocol import normalize_texts
from llmrec_env.content.encoders.transformer import find_device, native_dtype, pool
from llmrec_env.content.encoders.weights import (
    digest_files,
    find_model,
    load_model,
    read_sizes,
    verify_minilm,
)

Mode = Literal["frozen", "lora", "full"]

MODES = ("frozen", "lora", "full")
DTYPES = ("auto", "float32", "bfloat16")

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)


class TextTower(nn.Module):
    """A transformer that maps texts to unit vectors, as `load_encoder` does, and that can learn.

    Untrained, or in evaluation mode, its vectors are those of the encoder. `frozen` never learns
    and stays in evaluation mode; `lora` learns low-rank changes of the query and value projections
    (Hu et al., LoRA, ICLR 2022); `full` learns every weight. It trains in mixed precision
    (Micikevicius et al., ICLR 2018) where the device computes with bfloat16 natively: products in
    bfloat16, weights and their changes in float32.
    """

    def __init__(
        self,
        encoder: str | Path = "minilm",
        mode: Mode = "frozen",
        *,
        rank: int = 8,
        alpha: int = 16,
        dropout: float = 0.0,
        max_length: int | None = None,
        batch_tokens: int = 4096,
        device: str = "auto",
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        seed: int = 0,
    ) -> None:
        """Loads the model whole, from this machine and from safetensors alone.

        Args:
            encoder: `minilm`, or the directory of a transformer.
            mode: what learns: `frozen`, `lora` or `full`.
            rank: of the changes that `lora` learns.
            alpha: `lora` adds alpha / rank times its change.
            dropout: on what enters a change; that of the transformer is in its own config.json.
            max_length: tokens kept of a text; by default as the encoder: 256 or what it can read.
            batch_tokens: texts of similar length run together, up to so many tokens.
            device: `auto` (the GPU where there is one), `cpu`, `cuda`, ...
            dtype: of products in training; `auto`: `bfloat16` where the device has it natively.
            seed: draws the first change of `lora`, which adds nothing before it learns.

        Raises:
            ValueError: an argument is out of range, or names no transformer.
            WeightsError: the weights are missing, incomplete or not the expected ones.
            EncoderError: a package is not installed.
        """
        super().__init__()
        if mode not in MODES:
            raise ValueError(unknown("mode:", mode, list(MODES)))
        if dtype not in DTYPES:
            raise ValueError(unknown("dtype:", dtype, list(DTYPES)))
        self.directory = find_model(encoder)
        digests = digest_files(self.directory)
        if encoder == "minilm":
            verify_minilm(self.directory, digests)
        self.width, limit = read_sizes(self.directory)
        self.max_length = min(256, limit) if max_length is None else max_length
        check_range("max_length", self.max_length, 2, limit)
        check_range("batch_tokens", batch_tokens, 1)
        self.base = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
        self.mode: Mode = mode
        self.batch_tokens = batch_tokens
        # What never learns reads a text once, for all that come later.
        self.encoder = load_encoder(encoder, device=device) if mode == "frozen" else None
        self._remembered: dict[str, dict[str, list[int]]] = {}
        device = find_device(device)
        self.dtype = native_dtype(device.partition(":")[0]) if dtype == "auto" else dtype
        _, self.model, self.tokenizer = load_model(self.directory, device, "float32")
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # mean pooling does not read it: it would never learn
        self.model.requires_grad_(mode == "full")
        if mode == "lora":
            self.rank, self.alpha = rank, alpha
            self.targets = attention_projections(self.model)
            self.model = with_lora(self.model, self.targets, rank, alpha, dropout, seed)
        self.train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def num_trained(self) -> int:
        """Number of weights that learn."""
        return sum(weight.numel() for weight in self.trained().values())

    def trained(self) -> dict[str, nn.Parameter]:
        """Returns the weights that learn, by name."""
        named = self.model.named_parameters()
        return {name: weight for name, weight in named if weight.requires_grad}

    def train(self, mode: bool = True) -> TextTower:
        """Turns dropout on or off; a frozen tower keeps it off."""
        return super().train(mode and self.mode != "frozen")

    def remember(self, texts: Sequence[str]) -> None:
        """Keeps the tokens of texts that will be read often, such as a catalogue's, in memory."""
        texts = list(dict.fromkeys(normalize_texts(texts)))
        tokens = self.tokenize(texts)
        for row, text in enumerate(texts):
            self._remembered[text] = {name: ids[row] for name, ids in tokens.items()}

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Returns the unit vectors of the texts, (n, width); equal texts share one computation."""
        if self.encoder:
            return torch.from_numpy(self.encoder.encode(texts)).to(self.device)
        texts = normalize_texts(texts)
        index = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        if not index:
            return torch.zeros((0, self.width), device=self.device)
        tokens = self._tokens(list(index))
        order: list[int] = []
        vectors: list[Tensor] = []
        for members in batches(tokens, self.batch_tokens):
            hidden, inputs = self.read(tokens, members)
            pooled = pool(torch, hidden, inputs["attention_mask"], "mean")
            vectors.append(nn.functional.normalize(pooled, dim=1))
            order += members
        rows = np.argsort(order)[[index[text] for text in texts]]
        return torch.cat(vectors)[torch.from_numpy(rows).to(self.device)]

    def vectors(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the unit vectors of the texts without gradients or dropout, (n, width)."""
        training = self.training
        self.train(False)
        try:
            with torch.no_grad():
                return self(texts).cpu().numpy()
        finally:
            self.train(training)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Returns token ids and masks of normalised texts, cut at `max_length`."""
        return tokenize(self.tokenizer, list(texts), self.max_length) if texts else {}

    def read(self, tokens: Tokens, members: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the last hidden states of some token rows, (m, longest, width), and the inputs.

        Args:
            tokens: ids and masks by input name, one list a row.
            members: the rows to read together.
        """
        longest = max(len(tokens["input_ids"][row]) for row in members)
        block = Block(longest, len(members), members)
        arrays = pad_block(tokens, block, padding_values(self.tokenizer))
        device = self.device
        inputs = {name: torch.from_numpy(ids).to(device) for name, ids in arrays.items()}
        mixed = self.training and self.dtype == "bfloat16"
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed):
            hidden = self.model(**inputs).last_hidden_state
        return hidden.float(), inputs

    def state(self) -> dict[str, Tensor]:
        """Returns copies of the weights that learn, by name: what a checkpoint needs."""
        return {name: weight.detach().cpu().clone() for name, weight in self.trained().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes what `state` returned.

        Raises:
            WeightsError: it is of another model, mode or rank, or holds NaN or infinity.
        """
        weights = self.trained()
        wrong = sorted(weights.keys() ^ state.keys())
        wrong += [name for name in weights.keys() & state.keys() if not _fits(weights, state, name)]
        if wrong:
            raise WeightsError(
                f"{len(wrong)} of the trained weights do not fit a {self.mode} tower of "
                f"{self.directory.name} or are not finite, the first {wrong[0]}; "
                "build the tower with the settings that they were trained with"
            )
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(state[name])

    def save_adapter(self, path: Path) -> None:
        """Writes what `lora` learnt into the folder `path`, without the base model.

        Raises:
            ValueError: the tower is not in mode `lora`.
        """
        save_adapter(path, self._settings("saved"), self.state())

    def load_adapter(self, path: Path) -> None:
        """Takes what `save_adapter` wrote.

        Raises:
            ValueError: the tower is not in mode `lora`.
            WeightsError: the adapter was made for another base or rank, or its files are damaged.
        """
        self.restore(load_adapter(path, self._settings("loaded")))

    def export(self, path: Path) -> None:
        """Writes the model as it is now, changes merged, as a directory for `load_encoder(path)`.

        Raises:
            ValueError: `path` is the directory of the base model.
        """
        from safetensors.torch import save_file

        if path.resolve() == self.directory:
            raise ValueError(f"path={str(path)!r} holds the base model; name another folder.")
        model: Any = self.model
        if self.mode == "lora":
            model = copy.deepcopy(model).merge_and_unload()
        path.mkdir(parents=True, exist_ok=True)
        for pattern in ("config.json", *_TOKENIZER_FILES):
            for file in self.directory.glob(pattern):
                shutil.copyfile(file, path / file.name)
        weights = {name: x.detach().cpu().contiguous() for name, x in model.state_dict().items()}
        save_file(weights, path / "model.safetensors", metadata={"format": "pt"})

    def _tokens(self, texts: list[str]) -> Tokens:
        """The tokens of distinct texts, remembered or made now."""
        new = [text for text in texts if text not in self._remembered]
        made = self.tokenize(new)
        rows = {
            text: {name: ids[row] for name, ids in made.items()} for row, text in enumerate(new)
        }
        known = [rows[text] if text in rows else self._remembered[text] for text in texts]
        return {name: [tokens[name] for tokens in known] for name in known[0]}

    def _settings(self, what: str) -> dict[str, Any]:
        if self.mode != "lora":
            raise ValueError(
                f"mode={self.mode!r} has no adapter that could be {what}; "
                "use mode='lora', or export(path) for the whole model."
            )
        settings = {"base": self.base, "rank": self.rank, "alpha": self.alpha}
        return settings | {"targets": list(self.targets)}


def batches(tokens: Tokens, batch_tokens: int) -> Iterator[list[int]]:
    """Yields rows of similar length, shortest first, up to `batch_tokens` with padding."""
    lengths = [len(ids) for ids in tokens["input_ids"]]
    members: list[int] = []
    for row in np.argsort(lengths, kind="stable").tolist():
        if members and (len(members) + 1) * lengths[row] > batch_tokens:
            yield members
            members = []
        members.append(row)
    if members:
        yield members


def _fits(weights: dict[str, nn.Parameter], state: dict[str, Tensor], name: str) -> bool:
    return weights[name].shape == state[name].shape and bool(state[name].isfinite().all())
