import time
from collections.abc import Callable

import numpy as np
import pytest

from llmrec_env.content.encoders import HashingEncoder

TEXTS = [
    "a slow documentary about mountain railways",
    "mountain railways: a documentary",
    "quick pasta recipes for students",
    "",
    "!!! ...",
    "日本の山の鉄道",
    "山の鉄道",
    "straße",
]


def test_rows_are_float32_unit_vectors() -> None:
    vectors = HashingEncoder(64).encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 64) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_shared_words_mean_near_vectors() -> None:
    vectors = HashingEncoder(512).encode(TEXTS)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.5
    assert abs(cosines[0, 2]) < 0.2
    assert cosines[5, 6] > 0.5  # a script without spaces


def test_case_and_normal_form_do_not_matter() -> None:
    vectors = HashingEncoder().encode(["Café Society", "cafe\u0301 society"])
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_word_order_matters_a_little() -> None:
    vectors = HashingEncoder().encode(["dog bites man", "man bites dog"])
    assert 0.6 < vectors[0] @ vectors[1] < 0.999


def test_repeating_a_word_counts_less_each_time() -> None:
    encoder = HashingEncoder(4096)
    once, many, other = encoder.encode(["jazz piano", "jazz " * 100 + "piano", "jazz"])
    assert once @ other < many @ other < 1


def test_text_without_words_is_the_first_axis() -> None:
    vectors = HashingEncoder(16).encode(["", " \n", "?!"])
    np.testing.assert_array_equal(vectors, np.eye(1, 16, dtype=np.float32).repeat(3, axis=0))


def test_bits_do_not_depend_on_company_or_order() -> None:
    encoder = HashingEncoder(128)
    texts = [f"text {i} about {['tea', 'jazz', 'chess'][i % 3]}" for i in range(2500)]
    together = encoder.encode(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_array_equal(encoder.encode([texts[i] for i in order]), together[order])
    for i in (0, 1, 2047, 2048, 2499):
        np.testing.assert_array_equal(encoder.encode([texts[i]])[0], together[i])


def test_bits_are_pinned_and_do_not_depend_on_the_hash_seed(run_python: Callable[..., str]) -> None:
    code = (
        "import hashlib; from llmrec_env.content.encoders import HashingEncoder as H;"
        f"v = H(32, seed=7).encode({TEXTS!r});"
        "print(hashlib.sha256(v.astype('<f4').tobytes()).hexdigest()[:16])"
    )
    digests = {run_python(code, PYTHONHASHSEED=seed, PYTHONUTF8="1") for seed in ("1", "2")}
    assert digests == {"6390f111891fb06a"}


def test_seed_and_dim_change_vectors_and_fingerprint() -> None:
    encoders = [HashingEncoder(), HashingEncoder(seed=1), HashingEncoder(128)]
    assert len({encoder.fingerprint for encoder in encoders}) == 3
    assert HashingEncoder().fingerprint == encoders[0].fingerprint
    assert not np.array_equal(encoders[0].encode(TEXTS), encoders[1].encode(TEXTS))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_tiny_dimensions_still_give_unit_vectors(dim: int) -> None:
    vectors = HashingEncoder(dim).encode([f"word{i}" for i in range(200)])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_unrelated_words_are_nearly_orthogonal() -> None:
    vectors = HashingEncoder(256).encode([f"word{i}" for i in range(400)])
    cosines = (vectors @ vectors.T)[np.triu_indices(400, 1)]
    assert abs(cosines.mean()) < 0.005
    assert 0.04 < cosines.std() < 0.09  # 1/sqrt(256) = 0.0625


@pytest.mark.parametrize("arguments", [{"dim": 0}, {"dim": 65537}, {"seed": -1}, {"seed": 2**64}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        HashingEncoder(**arguments)


def test_no_texts_give_no_rows() -> None:
    assert HashingEncoder(8).encode([]).shape == (0, 8)


def test_catalogue_sized_input_takes_seconds() -> None:
    words = np.random.default_rng(0).integers(5000, size=(20_000, 14))
    texts = [" ".join(f"w{i}" for i in row) for row in words]
    start = time.process_time()
    HashingEncoder().encode(texts)
    assert time.process_time() - start < 10
