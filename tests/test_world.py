"""The world behind a task, and everything that can be wrong with its ingredients."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest

from llmrec_env import world as world_module
from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.content.encoders import DeviceError, EncoderError, HashingEncoder
from llmrec_env.simulation.interests import NUM_COMMUNITIES
from llmrec_env.text_space import load_text_space
from llmrec_env.world import load_world


def test_the_world_is_built_once_a_process(tiny):
    world = load_world(EnvConfig(**tiny))
    assert load_world(EnvConfig(**tiny)) is world
    assert load_world(EnvConfig(**tiny | {"candidates": 30}, split="test", action="query")) is world
    for changes in ({"switch_rate": 0.5}, {"world_seed": 1}):
        changed = load_world(EnvConfig(**tiny, **changes))
        assert changed is not world and changed.text is world.text  # encoded once


def test_a_world_is_the_same_whenever_it_is_built(tiny, world):
    world_module._build_world.cache_clear()
    again = load_world(EnvConfig(**tiny))
    assert again is not world
    for name in ("users", "traits", "params", "histories"):
        assert getattr(again, name).tobytes() == getattr(world, name).tobytes(), name
    for left, right in zip((*again.items, *again.logs), (*world.items, *world.logs), strict=True):
        assert left.tobytes() == right.tobytes()


def test_the_world_is_read_only(world):
    arrays = (world.users, world.traits, world.params, world.histories)
    for array in (*arrays, *world.items, *world.interests, *world.logs):
        assert not array.flags.writeable
    with pytest.raises(dataclasses.FrozenInstanceError):
        world.users = None


def test_sessions_do_not_write_into_the_world(new_simulator, draw_actions, world):
    before = world.users.tobytes(), world.histories.tobytes()
    simulator = new_simulator(60)
    for seed in range(5):
        simulator.step(draw_actions(simulator, np.random.default_rng(seed)))
    assert (world.users.tobytes(), world.histories.tobytes()) == before


def test_users_start_as_configured(tiny):
    quiet = {"off": ["drift"], "active_min": 2, "active_max": 4, "base_sd": 0.5}
    users = load_world(EnvConfig(**tiny | {"num_users": 2000}, **quiet)).users
    assert set(users["active"].sum(1)) == {2, 3, 4}
    assert users["rest"].std() == pytest.approx(0.5, rel=0.05)
    np.testing.assert_array_equal(users["weight"], np.clip(users["rest"], -3, 3))
    assert (users["patience"] == 10).all() and (users["step"] == 0).all()
    assert users["taste"].std() == pytest.approx(1.0, rel=0.15)
    assert set(users["community"]) == set(range(NUM_COMMUNITIES))
    assert len(np.unique(users["noise_key"])) == 2000


def test_users_of_a_community_share_topics(tiny, world):
    users = load_world(EnvConfig(**tiny | {"num_users": 2000}, off=["drift"])).users
    topics = world.phrases.topics[users["phrase"]]
    shared = world.interests.community_topics[users["community"]]
    own = (topics[:, :, None] == shared[:, None, :]).any(2).mean()
    num_topics = len(world.interests.topic_start) - 1
    anywhere = np.mean([len(set(row)) for row in world.interests.community_topics]) / num_topics
    assert own == pytest.approx(0.85 + 0.15 * anywhere, abs=0.02)


def test_vectors_are_unit_and_substance_is_bounded(world):
    for rows in (world.items.vectors, world.interests.vectors):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    for values in (world.items.substance, world.traits["substance"]):
        assert np.abs(values).max() <= 1.0
    assert np.corrcoef(world.items.substance, world.traits["substance"])[0, 1] > 0.3


@pytest.mark.parametrize(
    "changes",
    [{"num_items": 120}, {"candidates": 560}, {"horizon": 600}, {"num_items": 150, "horizon": 60}],
)
def test_a_catalogue_too_small_for_the_session_is_refused(tiny, changes):
    kwargs = tiny | changes
    with pytest.raises(ConfigError, match=f"has {kwargs['num_items']} items.*lower one of them"):
        load_world(EnvConfig(**kwargs))


def test_the_smallest_catalogue_allowed_can_be_played_to_the_end(tiny, new_simulator):
    least = 20 + 10 * 5 + 30 + 20 + 5
    simulator = new_simulator(20, num_items=least, off=["churn"], choice_null=-10.0)
    for seed in range(30):
        ids = simulator.buffers.vector.copy()
        assert np.isfinite(ids).all()
        simulator.step(np.random.default_rng(seed).integers(0, 20, (20, 5)))
        assert (np.diff(np.sort(simulator.responses["slate"], axis=1), axis=1) > 0).all()
    assert (simulator.histories["consumed"] == 30).all()
    with pytest.raises(ConfigError):
        load_world(EnvConfig(**tiny | {"num_items": least - 1}))


@pytest.mark.parametrize("name", ["minlm", "hashin", "no/such/folder", "hashing-x"])
def test_an_unknown_encoder_is_refused_by_name(new_env, name):
    with pytest.raises(ValueError, match=name):
        new_env(encoder=name)


def test_an_unknown_catalogue_is_refused_with_the_nearest_name(new_env):
    with pytest.raises(ConfigError, match="Did you mean 'video'"):
        new_env(catalog="vidio")
    with pytest.raises(ValueError, match=r"missing\.csv"):
        new_env(catalog="missing.csv")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "gpu"])
def test_a_device_that_is_not_there_is_refused(new_env, device):
    pytest.importorskip("transformers")
    with pytest.raises((DeviceError, ValueError), match=device):
        new_env(encoder="minilm", num_items=4100, device=device)  # more than come encoded


def test_too_many_dimensions_are_refused(new_env):
    with pytest.raises(ValueError, match="dim=300"):
        new_env(dim=300)  # the hashing encoder has 256


class Broken(HashingEncoder):
    """An encoder that does something wrong to its vectors."""

    def __init__(self, breaks):
        super().__init__()
        self.breaks = breaks

    def encode(self, texts):
        return self.breaks(super().encode(texts).copy())


def _nan(vectors):
    vectors[0, 0] = np.nan
    return vectors


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (_nan, "NaN"),
        (lambda vectors: vectors * np.float32(np.inf), "NaN|infinity"),
        (lambda vectors: vectors[:-1], "shape"),
        (lambda vectors: vectors[0], "shape"),
        (lambda vectors: vectors[:, None], "shape"),
        (lambda vectors: np.zeros_like(vectors), "dim|direction|differ"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_encoder_that_returns_nonsense_is_refused(monkeypatch, tiny, breaks, said):
    name = "llmrec_env.content.bundled_encodings.load_encoder"
    monkeypatch.setattr(name, lambda *_, **__: Broken(breaks))
    load_text_space.cache_clear()
    try:
        with pytest.raises((ValueError, EncoderError), match=said):
            load_world(EnvConfig(**tiny | {"num_items": 577}))
    finally:
        load_text_space.cache_clear()


@pytest.mark.parametrize("labels", [True, False])
def test_a_table_of_ones_own_works_end_to_end_in_one_call(tmp_path, tiny, labels):
    path, subjects = tmp_path / "items.csv", ("bread", "chess", "rivers", "opera", "robots")
    rows = ["text,topic" if labels else "text"]
    for i in range(220):
        subject = subjects[i % 5]
        text = f"{subject} lesson {i} about {subject} and thing{i % 13} for friends of {subject}"
        rows.append(f"{text},{subject}" if labels else text)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    kwargs = tiny | {"catalog": str(path), "num_items": None, "off": ["goodwill"]}
    env = gymnasium.make("llmrec/Drift-v1", **kwargs)
    env.reset(seed=0)
    for _ in range(5):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation) and reward >= 0
        if terminated or truncated:
            env.reset()
    catalog = env.unwrapped.public_data().catalog
    assert len(catalog) == 220
    assert set(catalog.topic_names) == set(subjects) or not labels


def test_every_world_has_users_and_items_of_its_own(tiny, world):
    other = load_world(EnvConfig(**tiny | {"world_seed": 1}))
    for name in ("noise_key", "rest", "phrase", "taste"):
        assert (other.users[name] != world.users[name]).mean() > 0.5, name
    for name in ("taste", "quality"):
        assert (other.traits[name] != world.traits[name]).mean() > 0.5, name
    assert (other.interests.community_topics != world.interests.community_topics).any()
    assert (other.logs.slates != world.logs.slates).mean() > 0.5


def _arrays_of(value, path="public"):
    """Yields every array that can be reached from a value, and how."""
    if isinstance(value, np.ndarray):
        for name in value.dtype.names or ():
            yield from _arrays_of(value[name], f"{path}[{name}]")
        if not value.dtype.names:
            yield path, value
    elif dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            yield from _arrays_of(getattr(value, item.name), f"{path}.{item.name}")
    elif hasattr(value, "_fields"):
        for name in value._fields:
            yield from _arrays_of(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, (list, tuple, set)):
        for index, part in enumerate(value):
            if not isinstance(part, str):
                yield from _arrays_of(part, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _arrays_of(part, f"{path}[{key!r}]")
    elif hasattr(value, "__dict__") and not callable(value):
        yield from _arrays_of(vars(value), path)


def _leaks(hidden, public):
    """Says whether a public array holds the hidden numbers, of all rows or of the first ones."""
    if hidden.shape[1:] != public.shape[1:] or public.ndim == 0 or len(public) < 10:
        return False
    rows = min(len(hidden), len(public))
    return bool(np.allclose(hidden[:rows], public[:rows], atol=1e-6))


def test_public_data_tells_no_hidden_number(world):
    public, train = world.public(), world.users_of("train")
    assert world.catalog.substance is not None  # labelled: the truth is in the catalogue
    hidden = {f"traits {name}": world.traits[name] for name in world.traits.dtype.names}
    for name in {*world.users.dtype.names} - {"user_id", "step"}:
        hidden[f"users {name}"] = world.users[name][train]
    hidden["communities"] = world.interests.community_topics
    reached = dict(_arrays_of(public))
    leaks = [
        (path, name)
        for path, array in reached.items()
        for name, values in hidden.items()
        if np.ptp(values) > 0 and _leaks(values, array)
    ]
    assert leaks == []
    assert {"public.items.substance", "public.logs.slates", "public.phrase_vectors"} <= {*reached}


def test_public_records_carry_the_ids_of_training_users(world):
    public = world.public()
    records = public.records()
    assert set(np.unique(records["user"])) == set(public.users.tolist())
    user = public.users[-1]
    own = records[records["user"] == user]
    clicked = own["item"][own["event"] == "click"]
    assert np.array_equal(clicked, world.logs.items[user][world.logs.items[user] >= 0])
