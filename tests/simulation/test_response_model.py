"""A language model as the user: it decides z and nothing else, the same in any batch."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from tiny_causal import save_tiny_causal

from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.content.encoders import WeightsError
from llmrec_env.simulation.profile_writer import ProfileWriter
from llmrec_env.simulation.response_model import (
    ResponseModel,
    fitted_classifier,
    load_response_model,
    training_clicks,
)
from llmrec_env.simulation.simulator import Simulator

N, STEPS = 40, 10


class Stub:
    """Says one number of everything, and counts what it reads."""

    name = "stub"

    def __init__(self, chance):
        self.chance, self.read = chance, []

    def probabilities(self, profiles, items):
        self.read.append((profiles, items))
        return np.full(len(items), self.chance)


def _judged(simulator, chance):
    stub = Stub(chance)
    simulator.response_model = ResponseModel(simulator.world, stub)
    return stub


def _play(simulator, steps=STEPS, resting=None):
    rng = np.random.default_rng(0)
    for _ in range(steps):
        # The actions of a session are the same in every batch.
        simulator.step(rng.integers(0, 20, (N, 5))[: simulator.n], resting)
    return simulator


def test_it_decides_what_satisfies_and_not_what_is_chosen(new_simulator):
    built_in = new_simulator(N)
    satisfied, dissatisfied = (new_simulator(N, response="llm") for _ in range(2))
    for simulator, chance in ((satisfied, 1.0), (dissatisfied, 0.0)):
        _judged(simulator, chance)
    for simulator in (built_in, satisfied, dissatisfied):
        _play(simulator, 1)
    for name in ("slate", "choice", "item", "relevance"):
        np.testing.assert_array_equal(satisfied.responses[name], built_in.responses[name])
        np.testing.assert_array_equal(dissatisfied.responses[name], built_in.responses[name])
    consumed = built_in.responses["item"] >= 0
    assert 5 < consumed.sum() < N and 0 < built_in.responses["satisfied"].sum() < consumed.sum()
    np.testing.assert_array_equal(satisfied.responses["satisfied"], consumed)
    relevance = satisfied.responses["relevance"]
    np.testing.assert_array_equal(satisfied.responses["satisfied_relevance"], relevance)
    assert not dissatisfied.responses["satisfied"].any()
    assert not dissatisfied.responses["satisfied_relevance"].any()
    # What follows from z follows from this z: patience as built in.
    change = satisfied.users["patience"] - dissatisfied.users["patience"]
    np.testing.assert_allclose(change, consumed * 1.4, atol=1e-5)


@pytest.mark.parametrize("resting", [None, [5, 7]])
def test_a_session_does_not_depend_on_its_batch_or_threads(new_simulator, resting):
    resting = None if resting is None else np.array(resting)
    many = _play(new_simulator(N, response="llm"), resting=resting)
    config = many.config
    threads = Simulator(config, N, threads=3)
    few = Simulator(config, 3)
    for simulator in (threads, few):
        keys = np.random.default_rng(0).integers(0, 2**63, N, dtype=np.uint64)[: simulator.n]
        sessions = np.arange(simulator.n)
        simulator.start(sessions, sessions % config.num_users, keys)
        simulator.show(sessions)
    _play(threads, resting=resting), _play(few)
    for name in ("users", "histories", "responses"):
        assert getattr(many, name).tobytes() == getattr(threads, name).tobytes(), name
        assert getattr(many, name)[:3].tobytes() == getattr(few, name).tobytes(), name
    threads.close()
    satisfied = many.responses["satisfied"]
    assert 0 < satisfied.sum() < N


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_alike_and_asks_nothing_that_is_known(new_simulator, copied):
    simulator = _play(new_simulator(N, response="llm"))
    twin = copied(simulator)
    _play(simulator)
    model = twin.response_model
    assert model is simulator.response_model  # shared in a process
    read = model.num_read
    _play(twin)
    assert twin.users.tobytes() == simulator.users.tobytes()
    assert model.num_read == read and model.num_asked > read > 0


def test_what_is_kept_changes_no_probability(new_simulator):
    simulator = _play(new_simulator(N, response="llm"))
    model, items = simulator.response_model, np.arange(N, dtype=np.int32)
    first = model.probabilities(simulator.users, items)
    assert model.probabilities(simulator.users, items).tolist() == first.tolist()
    model.forget()
    assert model.probabilities(simulator.users, items).tolist() == first.tolist()
    assert np.ptp(first) > 0.1


def test_its_world_is_that_of_the_built_in_response(new_simulator):
    assert new_simulator(1, response="llm").world is new_simulator(1).world


def test_equal_pairs_of_a_batch_are_read_once(new_simulator):
    simulator = new_simulator(4, response="llm")
    stub = _judged(simulator, 0.5)
    users = np.repeat(simulator.users[:1], 4)
    simulator.response_model.probabilities(users, np.array([3, 3, 4, 3], np.int32))
    assert [len(items) for _, items in stub.read] == [2]


def test_the_classifier_of_encoded_texts_agrees_with_the_built_in_response(world):
    """Fitted to training users: calibrated on average, and better than chance at telling."""
    clicks = training_clicks(world)
    said = fitted_classifier(world).probabilities(clicks.profiles, clicks.items)
    assert {*clicks.users} <= {*world.users_of("train").tolist()}
    z = np.array(clicks.satisfied)
    assert abs(said.mean() - z.mean()) < 1e-3
    assert said[z == 1].mean() > said[z == 0].mean() + 0.05


def test_profiles_leave_out_what_cannot_move_satisfaction(new_simulator):
    users = new_simulator(N).users.copy()
    users["goodwill"] = 1.0
    users["satiation"] = 3.0 * new_simulator(1).world.text_vectors[0]
    for off, told in (((), (True, 2)), (("satiation",), (False, 2))):
        writer = ProfileWriter(new_simulator(1, off=off).world)
        profile = writer.profiles(users)[0]
        assert (bool(profile.tired), profile.trust) == told
    indifferent = ProfileWriter(new_simulator(1, goodwill_satisfaction=0.0).world)
    assert indifferent.profiles(users)[0].trust == 0


def test_observations_are_those_of_logit(new_vec):
    one, other = new_vec(2, observation="dict"), new_vec(2, observation="dict", response="llm")
    assert one.single_observation_space == other.single_observation_space
    (seen, info), (read, told) = one.reset(seed=0), other.reset(seed=0)
    assert seen.keys() == read.keys() and info.keys() == told.keys()
    for name in seen:
        np.testing.assert_array_equal(seen[name], read[name])


def test_bad_settings_are_refused_with_what_to_do():
    with pytest.raises(ConfigError, match=r"response_model='x' is not read by response='logit'"):
        EnvConfig(response_model="x")
    with pytest.raises(ConfigError, match="response_model"):
        EnvConfig(response="llm", response_model=3)  # type: ignore[arg-type]


def test_what_is_no_probability_is_refused_and_no_text_is_told(new_simulator):
    simulator = new_simulator(N, response="llm")
    _judged(simulator, np.nan)
    with pytest.raises(WeightsError, match="stub says what is no probability") as caught:
        _play(simulator, 1)
    words = {word for text in simulator.world.phrases.texts for word in text.split()}
    long = {word for word in words if len(word) > 7}
    assert long and not long & set(str(caught.value).split())


def test_worlds_share_a_model_that_a_directory_holds(tiny, tmp_path):
    pytest.importorskip("transformers")
    directory = save_tiny_causal(tmp_path / "lm", ("yes", "no", "trains", "user"))
    settings = {**tiny, "response": "llm", "response_model": str(directory)}
    first, second = (
        load_response_model(EnvConfig(**settings | {"world_seed": seed})) for seed in (0, 1)
    )
    assert first is not second and first.model is second.model
