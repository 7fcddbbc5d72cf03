"""The joint recommender with its language model: what learns, what it becomes, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_bert import save_tiny_bert

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("peft", reason="peft is not installed")

from agents.joint.language import JointWithLanguage, LanguageModel  # noqa: E402
from agents.joint.past import Past  # noqa: E402
from agents.joint.recommender import Joint  # noqa: E402
from agents.joint.text_tower import TextTower  # noqa: E402
from agents.rollout import rollout  # noqa: E402
from llmrec_env.config import ConfigError, EnvConfig  # noqa: E402
from llmrec_env.content.encoders import load_encoder  # noqa: E402

FAST = {"sweeps": 1}
LANGUAGE = {"lora_rank": 4, "language_samples": 48, "language_batch": 16, "language_rate": 1e-2}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """The directory of a model; vectors are kept in a folder of their own."""
    folder = tmp_path_factory.mktemp("joint")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMREC_CACHE", str(folder / "cache"))
        yield str(save_tiny_bert(folder / "bert"))


@pytest.fixture(scope="module")
def env(new_vec, bert):
    return new_vec(4, encoder=bert, observation="dict")


@pytest.fixture(scope="module")
def frozen(env):
    agent = Joint(0, **FAST)
    agent.fit(env, 0)
    return agent


@pytest.fixture(scope="module", params=["lora", "full"])
def learnt(request, env):
    agent = JointWithLanguage(0, mode=request.param, **LANGUAGE, **FAST)
    agent.fit(env, 0)
    return agent


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_before_training_items_are_read_as_the_environment_reads_them(frozen, env, bert, mode):
    data = env.public_data()
    model = LanguageModel(frozen.response, TextTower(bert, mode, rank=4), data).eval()
    ids = torch.tensor([[0, 5, 5], [599, 17, 0]])
    with torch.no_grad():
        vectors = model.encode(ids)
    assert vectors.shape == (2, 3, 32)
    np.testing.assert_allclose(vectors.numpy(), data.items.vectors[ids], atol=1e-4)
    np.testing.assert_allclose(model.read(), frozen.texts.read, atol=1e-4)


def test_the_loss_of_the_language_model_begins_as_that_of_the_response(frozen, env, bert):
    agent = JointWithLanguage(0, **LANGUAGE, **FAST)
    for name in ("data", "texts", "parameters", "learnt", "response"):
        setattr(agent, name, getattr(frozen, name))
    past = Past.of(frozen.data, frozen.texts)
    rows = np.arange(5, 45)
    model = LanguageModel(frozen.response, TextTower(bert, "frozen"), frozen.data).eval()
    with torch.no_grad():
        own = float(model.loss(*agent._sample(past, rows)))
        scores = past.take(rows).steps(frozen.learnt.taste)
        assert own == pytest.approx(float(frozen.response.loss(scores)), rel=1e-4)


def test_the_language_model_learns(learnt, frozen, env):
    before = TextTower(learnt.tower.directory, learnt.mode, rank=4, seed=0).trained()
    after = learnt.tower.trained()
    assert before.keys() == after.keys() and after
    assert any(not torch.equal(before[name], after[name]) for name in after)
    moved = np.abs(learnt.texts.read - env.public_data().items.vectors).max()
    assert moved > 1e-3
    np.testing.assert_array_equal(frozen.texts.read, env.public_data().items.vectors)
    assert learnt.language_progress.epoch == 1
    assert np.isfinite(learnt.language_progress.train_loss).all()


def test_lora_leaves_the_base_as_it_was_and_full_does_not(learnt, bert):
    base = TextTower(bert, "frozen").model.state_dict()
    now = {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): weight
        for name, weight in learnt.tower.model.state_dict().items()
    }
    assert base.keys() <= now.keys()
    same = all(torch.equal(base[name], now[name]) for name in base)
    assert same == (learnt.mode == "lora")


def test_it_scores_with_what_the_language_model_reads_now(learnt, env):
    data = env.public_data()
    again = LanguageModel(learnt.response, TextTower(learnt.tower.directory), data)
    again.tower = learnt.tower.eval()
    with torch.no_grad():
        read = again.encode(torch.arange(40))
    np.testing.assert_allclose(read.numpy(), learnt.texts.read[:40], atol=1e-4)


def test_it_acts(learnt, new_vec, bert):
    env = new_vec(6, encoder=bert, observation="dict", split="all")
    episodes = rollout(learnt, env, np.arange(6), 1)
    assert episodes.alive[:, 0].all() and np.isfinite(episodes.reward).all()
    assert learnt.name == f"joint-{learnt.mode}"


def test_the_exported_encoder_serves_environments(learnt, new_vec, tmp_path):
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
    for tolerance in (0.0, 1e-5):  # the second time both parts are done already
        agent = JointWithLanguage(0, mode=learnt.mode, **LANGUAGE, **FAST)
        agent.learn(env.public_data(), env.config, tmp_path / "state.pt")
        np.testing.assert_allclose(agent.texts.read, learnt.texts.read, rtol=0.0, atol=tolerance)
    assert (tmp_path / "state.language").exists()


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
