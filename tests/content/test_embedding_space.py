from collections.abc import Callable

import numpy as np
import pytest

from llmrec_env.content.embedding_space import Space


def make_vectors(n: int, dim: int, seed: int, offset: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dim)) * np.geomspace(3, 0.3, dim) + offset
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def items() -> np.ndarray:
    return make_vectors(300, 24, 0, offset=0.5)


@pytest.fixture
def phrases() -> np.ndarray:
    return make_vectors(40, 24, 1, offset=-0.4)


@pytest.fixture
def space(items: np.ndarray, phrases: np.ndarray) -> Space:
    return Space.fit(items, phrases, 8)


def test_shapes_and_unit_rows(space: Space, items: np.ndarray, phrases: np.ndarray) -> None:
    assert space.components.shape == (24, 8) and space.dim == 8
    assert space.item_mean.shape == space.phrase_mean.shape == (24,)
    for projected in (space.project_items(items), space.project_phrases(phrases)):
        assert projected.dtype == np.float32 and projected.shape[1] == 8
        np.testing.assert_allclose(np.linalg.norm(projected, axis=1), 1, atol=1e-6)


def test_components_are_orthonormal_and_sorted_by_variance(space: Space, items: np.ndarray) -> None:
    np.testing.assert_allclose(space.components.T @ space.components, np.eye(8), atol=1e-5)
    variances = ((items - items.mean(axis=0)) @ space.components).var(axis=0)
    assert (np.diff(variances) < 0).all()
    total = items.astype(np.float64).var(axis=0).sum()
    assert space.kept_variance == pytest.approx(variances.sum() / total, rel=1e-4)


def test_equals_an_independent_principal_component_analysis(
    space: Space, items: np.ndarray
) -> None:
    centred = items.astype(np.float64) - items.mean(axis=0, dtype=np.float64)
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    overlap = np.abs(np.sum(rows[:8].T * space.components, axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-5)


def test_largest_entry_of_every_component_is_positive(
    items: np.ndarray, phrases: np.ndarray
) -> None:
    for flip in (1, -1):
        components = Space.fit(flip * items, flip * phrases, 8).components
        assert (components[np.abs(components).argmax(axis=0), np.arange(8)] > 0).all()
    np.testing.assert_allclose(components, Space.fit(items, phrases, 8).components, atol=1e-5)


def test_each_side_is_centred_by_its_own_mean(
    space: Space, items: np.ndarray, phrases: np.ndarray
) -> None:
    by_hand = (phrases - phrases.mean(axis=0)) @ space.components
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(space.project_phrases(phrases), by_hand, atol=1e-4)
    # A shift of all phrases, a matter of style, changes nothing.
    shifted = Space.fit(items, phrases + 0.3, 8)
    np.testing.assert_allclose(shifted.project_phrases(phrases + 0.3), by_hand, atol=1e-4)


def test_scale_is_the_mean_best_cosine(items: np.ndarray, phrases: np.ndarray) -> None:
    many_items, many_phrases = make_vectors(2100, 24, 2), make_vectors(1500, 24, 3)
    for some_items, some_phrases in ((items, phrases), (many_items, many_phrases)):
        space = Space.fit(some_items, some_phrases, 8)
        cosines = space.project_phrases(some_phrases) @ space.project_items(some_items).T
        assert space.scale == pytest.approx(cosines.max(axis=1).mean(), abs=1e-6)
        assert 0 < space.scale <= 1


def test_bits_do_not_depend_on_the_batch(space: Space) -> None:
    vectors = make_vectors(257, 24, 5)
    together = space.project_items(vectors)
    one_by_one = np.concatenate([space.project_items(row[None]) for row in vectors])
    np.testing.assert_array_equal(together, one_by_one)
    np.testing.assert_array_equal(space.project_items(vectors[::-1]), together[::-1])
    np.testing.assert_array_equal(space.project_items(np.asfortranarray(vectors)), together)


def test_no_vectors_give_no_rows(space: Space) -> None:
    assert space.project_items(np.zeros((0, 24))).shape == (0, 8)


def test_bits_do_not_depend_on_the_number_of_threads(run_python: Callable[..., str]) -> None:
    code = (
        "import hashlib, numpy as np; from llmrec_env.content.embedding_space import Space;"
        "rng = np.random.default_rng(0); scales = np.geomspace(3, 0.3, 384);"
        "items, phrases = (rng.normal(size=(n, 384)) * scales for n in (2000, 100));"
        "space = Space.fit(items, phrases, 128);"
        "projected = space.project_items(items);"
        "parts = space.item_mean, space.phrase_mean, space.components, projected;"
        "print(hashlib.sha256(b''.join(part.tobytes() for part in parts)).hexdigest())"
    )
    digests = {
        run_python(code, OPENBLAS_NUM_THREADS=threads, OMP_NUM_THREADS=threads)
        for threads in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("dim", [0, -1, 25])
def test_dim_out_of_range(items: np.ndarray, phrases: np.ndarray, dim: int) -> None:
    with pytest.raises(ValueError, match=rf"dim={dim} is out of range.*use dim=1 to 24"):
        Space.fit(items, phrases, dim)


def test_dim_above_the_rank_names_the_fix(items: np.ndarray, phrases: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"5 item vectors .* differ in 4 directions; use dim=1 to"):
        Space.fit(items[:5], phrases, 5)
    assert Space.fit(items[:5], phrases, 4).kept_variance == pytest.approx(1)
    with pytest.raises(ValueError, match="differ in 2 directions"):
        Space.fit(np.repeat(items[:3], 50, axis=0), phrases, 3)


def test_items_that_are_all_the_same_are_refused(phrases: np.ndarray) -> None:
    with pytest.raises(ValueError, match="differ in 0 directions"):
        Space.fit(np.ones((9, 24)), phrases, 2)


def test_phrases_that_are_all_the_same_are_refused(items: np.ndarray) -> None:
    with pytest.raises(ValueError, match="equals the mean phrase"):
        Space.fit(items, np.ones((9, 24)), 2)


def test_malformed_vectors_are_refused(
    space: Space, items: np.ndarray, phrases: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="item_vectors must have shape"):
        Space.fit(items[0], phrases, 2)
    with pytest.raises(ValueError, match="phrase_vectors must have shape"):
        Space.fit(items, phrases[:1], 2)
    with pytest.raises(ValueError, match="encode both with the same encoder"):
        Space.fit(items, phrases[:, :20], 2)
    with pytest.raises(ValueError, match="NaN"):
        Space.fit(np.where(items > 0.5, np.nan, items), phrases, 2)
    with pytest.raises(ValueError, match="20 columns, this space was fitted on 24"):
        space.project_items(items[:, :20])


def test_vector_at_the_mean_has_no_direction(space: Space, items: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"item vectors\[1\] equals the mean item"):
        space.project_items(np.stack([items[0], space.item_mean]))
