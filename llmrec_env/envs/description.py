"""HIDDEN state of a user in words, and what a step changed: templates alone, no model is called.

Like the rest of `info` it is truth for evaluation and for people who study the simulation: an agent
that reads it knows what no recommender can know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.content.phrases import Phrases
from llmrec_env.interface.instructions import instruction_text
from llmrec_env.interface.text_prompt import one_line
from llmrec_env.simulation.profile_writer import (
    active_and_dormant,
    most_tiring,
    topic_satiation,
)
from llmrec_env.simulation.response import INSTRUCTION
from llmrec_env.simulation.simulator import Simulator
from llmrec_env.simulation.users import MAX_ACTIVE, NOT_CLOSE
from llmrec_env.world import World

_NOTABLE = 0.05  # goodwill that changes the odds of satisfaction by less is not told


def describe(world: World, user: np.void, instructions: npt.ArrayLike = ()) -> str:
    """Returns who a user is at this moment, as plain sentences.

    What the user is into, with weights relative to the strongest interest; what the user was or
    may come to be into; topics of which the user is tired, with the mean satiation of their items,
    0 to 1; goodwill and patience, and what they mean. Text-free taste has no words.

    Args:
        world: of the user.
        user: hidden state, a record of `world.users` (before the first session) or of
            `simulator.users` (now).
        instructions: kind, phrase and wording of the newest steps, newest first, (m, 3).
    """
    active, dormant = active_and_dormant(user)
    texts = world.phrases
    into = [f"{quoted(phrase, texts)} ({weight:.2f})" for phrase, weight in active]
    lines = [f"User {user['user_id']} is into {_listed(into)}."]
    if dormant:
        lines.append(f"Dormant: {_listed([quoted(phrase, texts) for phrase in dormant])}.")
    tired = [f"{one_line(name)} ({value:.2f})" for name, value in tired_of(world, user)]
    lines.append(f"Tired of {_listed(tired)}." if tired else "Tired of no topic.")
    lines += [_goodwill(world, user), _patience(world, user)]
    told = [step for step in np.asarray(instructions).tolist() if step[0] >= 0]
    if told:
        lines.append(f"Said last: {_quoted_instruction(told[0], world)}.")
    return " ".join(lines)


def tired_of(world: World, user: np.void) -> list[tuple[str, float]]:
    """Returns the topics a user is most tired of, and the mean of sat(y) over their items.

    At most three, from .15 on, most tired first.
    """
    (satiation,) = topic_satiation(world, np.array([user]))
    names = world.catalog.topic_names
    return [(names[topic], float(satiation[topic])) for topic in most_tiring(satiation)]


def event_sentences(response: np.void, world: World, step: int = -1) -> list[str]:
    """Returns what happened to a user's interests at a step and why, one sentence an event.

    Args:
        response: of the step, a record of `response_dtype`. Of several switches at one step, as in
            a burst, it keeps the last.
        world: where it happened.
        step: steps of the session so far, this one included; it tells a burst.
    """
    names = ("died", "born", "woken", "slept", "refined_from", "refined_to", "query")
    ids = {name: int(response[name]) for name in names}
    named = {name: quoted(phrase, world.phrases) for name, phrase in ids.items() if phrase >= 0}
    sentences = []
    if "died" in named and "born" in named:
        several = "in a burst, of which this is the last: " if _is_burst(world, step) else ""
        sentences.append(f"{several}switched from {named['died']} to {named['born']}, unprompted")
    if "woken" in named:
        sentences.append(f"took up {named['woken']} {_cause(response, world)}")
    if "slept" in named:
        sentences.append(f"dropped {named['slept']}: more than {MAX_ACTIVE} interests at once")
    if "refined_to" in named:
        refined = f"{named['refined_from']} to its neighbour {named['refined_to']}"
        sentences.append(f"moved from {refined}, unprompted")
    if "query" in named:
        sentences.append(f"typed the query {named['query']}")
    if response["instruction"] >= 0:
        told = [int(response[name]) for name in INSTRUCTION]
        sentences.append(f"typed the instruction {_quoted_instruction(told, world)}")
    return sentences


def text_of_session(simulator: Simulator, session: int) -> dict[str, str]:
    """Returns `description` of a session's user and `events` of its last step, a line each."""
    world, user = simulator.world, simulator.users[session]
    sentences = event_sentences(simulator.responses[session], world, int(user["step"]))
    events = [f"step {user['step']}: {sentence}" for sentence in sentences]
    told = simulator.buffers.instructions[session]
    return {"description": describe(world, user, told), "events": "\n".join(events)}


def texts_of_sessions(simulator: Simulator, sessions: Any) -> dict[str, npt.NDArray[Any]]:
    """Returns the same of several sessions, (n,) objects, None for the others."""
    columns = {name: np.full(simulator.n, None, object) for name in ("description", "events")}
    for session in np.arange(simulator.n)[sessions]:
        for name, text in text_of_session(simulator, int(session)).items():
            columns[name][session] = text
    return columns


def quoted(phrase: int, phrases: Phrases) -> str:
    """Returns the text of a phrase in quotation marks."""
    return f'"{one_line(phrases.texts[phrase])}"'


def _quoted_instruction(instruction: Sequence[int], world: World) -> str:
    return f'"{one_line(instruction_text(instruction, world.phrases.texts))}"'


def _goodwill(world: World, user: np.void) -> str:
    goodwill = float(user["goodwill"])
    odds = math.exp(float(world.params["goodwill_satisfaction"][0]) * goodwill)
    if abs(odds - 1.0) < _NOTABLE:
        return f"Goodwill {goodwill:+.2f}: expects neither much nor little."
    learnt = "depth has built trust" if goodwill > 0 else "clickbait has worn trust down"
    return f"Goodwill {goodwill:+.2f}: {learnt}, the odds of satisfaction times {odds:.2f}."


def _patience(world: World, user: np.void) -> str:
    params, patience = world.params[0], float(user["patience"])
    said = f"Patience {max(patience, 0.0):.1f} of {params['patience_max']:g}"
    if patience <= 0.0:
        return f"{said}: has left."
    if params["patience_ignored"] <= 0.0:
        return f"{said}."
    steps = math.ceil(patience / params["patience_ignored"])
    return f"{said}: would leave after {steps} slates from which nothing is chosen."


def _cause(response: np.void, world: World) -> str:
    """What called the interest that woke: the item that added most to the call."""
    slate = response["slate"][: int(response["examined"])]
    phrase = world.interests.vectors[int(response["woken"])]
    nearness = np.maximum(world.text_vectors[slate] @ phrase - NOT_CLOSE, 0.0)
    consumed = response["feedback"][: len(slate)] >= 0
    examined = world.params["examined"][0][: len(slate)]
    slot = int(np.argmax(nearness * (examined / (1.0 - NOT_CLOSE) + 0.5 * consumed)))
    names = world.catalog.titles or world.catalog.texts
    verb = "consuming" if consumed[slot] else "being shown"
    return f'after {verb} "{one_line(names[slate[slot]])}"'


def _is_burst(world: World, step: int) -> bool:
    at = int(world.params["burst_step"][0])
    return at > 0 and step == at + 1


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
