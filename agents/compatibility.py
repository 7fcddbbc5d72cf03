"""Compatibility of a saved agent with an environment: the same interface, and the same world.

What it depends on is kept with it as plain data, numbers and digests, never a text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from llmrec_env.config import EnvConfig
from llmrec_env.envs.vector import RecVectorEnv

_SAME = ("action", "observation", "history", "slate_size", "candidates", "dim")
"""Fields that an agent depends on; the others are dynamics, users and randomness."""
_CASCADE = "observation recent_feedback"
_TOLERANCE = 1e-3
"""Rounding of 1e-5 a number moves a sketch by less than a tenth of this; another text by more."""

Traits = dict[str, Any]


def traits_of(env: RecVectorEnv) -> Traits:
    """Returns what an agent depends on in an environment, as plain data."""
    public = env.public_data()
    traits = {name: getattr(env.config, name) for name in _SAME}
    traits["num_items"] = len(public.catalog)
    traits["action_space"] = str(env.single_action_space)
    traits["observation_space"] = _shapes(env.single_observation_space)
    traits["item_texts"] = _digest(public.catalog.texts)
    traits["phrase_texts"] = _digest(public.phrases.texts)
    return traits | {"item_vectors": sketch(public.items.vectors)}


def sketch(vectors: npt.NDArray[np.float32]) -> list[float]:
    """Returns eight numbers that tell item vectors, (N, d), from others.

    They change with every text, its place and the encoder, but hardly with the rounding of the
    machine, as a digest of the bits would.
    """
    waves = np.sqrt(np.array([2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0]))
    rows, columns = (np.cos(np.outer(np.arange(size), waves)) for size in vectors.shape)
    sums = ((vectors @ columns) * rows).sum(axis=0) / len(vectors) ** 0.5
    return [round(float(x), 6) for x in sums]


def _digest(texts: Sequence[str]) -> str:
    """Of texts in their order: tells them from others, and not what they say."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _shapes(space: spaces.Space[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {name: _shapes(part) for name, part in space.items()}
    return list(space.shape or ())


def interface_differences(then: Traits, now: Traits) -> list[str]:
    """Returns what to say of the observations and actions in which two environments differ."""
    differences = [
        f"{name} is {then.get(name)!r} there, {now[name]!r} here"
        for name in (*_SAME, "action_space")
        if then.get(name) != now[name]
    ]
    old_shapes = _shapes_by_name(then.get("observation_space"))
    new_shapes = _shapes_by_name(now["observation_space"])
    return differences + [
        f"{name} has shape {old_shapes.get(name)} there, {new_shapes.get(name)} here"
        for name in sorted(old_shapes | new_shapes)
        if old_shapes.get(name) != new_shapes.get(name)
    ]


def world_differences(
    then: Traits, now: Traits, old: EnvConfig, new: EnvConfig, by_id: bool
) -> dict[str, str]:
    """Returns what to say of the worlds in which two environments of one interface differ.

    Args:
        then: traits of the one that an agent was made for.
        now: of the one that it is to act in.
        old: configuration of the former.
        new: of the latter.
        by_id: whether the agent knows items by their ids: then phrases and world seed count too.

    Returns:
        A sentence for each of `items`, `encoder`, `phrases` and `world` that differs.
    """
    moved, texts = {}, then.get("item_texts")  # older records have none
    read = (
        f"the items are of another catalogue or encoder: {old.catalog!r} read by "
        f"{old.encoder!r} there, {new.catalog!r} read by {new.encoder!r} here"
    )
    if then.get("num_items") != now["num_items"]:
        moved["items"] = f"num_items is {then.get('num_items')!r} there, {now['num_items']!r} here"
    elif texts not in (None, now["item_texts"]):
        moved["items"] = read
    elif not _same_vectors(then.get("item_vectors"), now["item_vectors"]):
        moved["items" if texts is None else "encoder"] = read
    if by_id and then.get("phrase_texts") not in (None, now["phrase_texts"]):
        moved["phrases"] = "the interest phrases are others, which it knows by their ids"
    if by_id and old.world_seed != new.world_seed:
        moved["world"] = (
            f"it knows the items of world {old.world_seed}, and this is world {new.world_seed}, "
            "where they are another matter beside their texts"
        )
    return moved


def _same_vectors(then: Any, now: list[float]) -> bool:
    """Whether two sketches are of the same items, whatever the first one is."""
    numbers = isinstance(then, list) and all(type(x) in (int, float) for x in then)
    return numbers and len(then) == len(now) and np.allclose(then, now, rtol=0.0, atol=_TOLERANCE)


def _shapes_by_name(space: Any) -> dict[str, Any]:
    """Shapes by name of a `dict` observation, or of a `vector` as one block.

    What only `cascade` tells is left out: every agent does with it and without.
    """
    named = space if isinstance(space, dict) else {"": space}
    shapes = {f"observation {name}".strip(): shape for name, shape in named.items()}
    return {name: shape for name, shape in shapes.items() if name != _CASCADE}
