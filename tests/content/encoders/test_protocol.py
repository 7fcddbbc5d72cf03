import unicodedata

import numpy as np
import pytest

from llmrec_env.content.encoders import Encoder, EncodingError, HashingEncoder
from llmrec_env.content.encoders.protocol import check_encoding, normalize_texts


def test_texts_come_back_in_normal_form_c() -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    assert decomposed != "café"
    assert normalize_texts([decomposed, "", "plain"]) == ["café", "", "plain"]


def test_one_string_is_not_a_sequence_of_texts() -> None:
    with pytest.raises(TypeError, match=r"wrap it: \[text\]"):
        normalize_texts("hello")


@pytest.mark.parametrize("value", [None, 3, b"bytes", ["nested"], float("nan")])
def test_non_string_is_named_by_index(value: object) -> None:
    with pytest.raises(TypeError, match=r"texts\[1\] must be a str"):
        normalize_texts(["fine", value])  # type: ignore[list-item]


def test_lone_surrogate_is_named_by_index_and_never_quoted() -> None:
    with pytest.raises(ValueError, match=r"texts\[2\] holds a lone surrogate") as caught:
        normalize_texts(["a", "b", "very private \ud800 diary"])
    error: BaseException | None = caught.value
    while error is not None:  # a chained UnicodeEncodeError would carry the text
        assert "private" not in repr(error)
        error = error.__cause__ or error.__context__


def test_pairs_of_surrogates_written_as_one_character_are_fine() -> None:
    assert normalize_texts(["\N{GRINNING FACE}"]) == ["\N{GRINNING FACE}"]


def test_valid_vectors_become_contiguous_float32() -> None:
    vectors = check_encoding(np.ones((3, 4)).T, 4, 3)
    assert vectors.dtype == np.float32 and vectors.flags.c_contiguous


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (3,), (3, 4, 1)])
def test_wrong_shape_names_encoder_got_and_expected(shape: tuple[int, ...]) -> None:
    with pytest.raises(EncodingError) as caught:
        check_encoding(np.zeros(shape), 3, 4, name="mine")
    assert "mine" in str(caught.value)
    assert str(shape) in str(caught.value) and "(3, 4)" in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_not_finite_names_the_first_row(bad: float) -> None:
    vectors = np.zeros((5, 2))
    vectors[3, 1] = vectors[4, 0] = bad
    with pytest.raises(EncodingError, match="2 of 5 texts, the first at index 3"):
        check_encoding(vectors, 5, 2)


def test_values_that_are_no_real_numbers_are_refused() -> None:
    with pytest.raises(EncodingError, match="complex"):
        check_encoding(np.zeros((1, 2), dtype=complex), 1, 2)
    with pytest.raises(EncodingError, match="object"):
        check_encoding(np.full((1, 2), None), 1, 2)


def test_encoders_follow_the_protocol() -> None:
    assert isinstance(HashingEncoder(), Encoder)
