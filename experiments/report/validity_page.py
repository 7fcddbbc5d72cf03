"""Validity page: each number measured of the simulator beside what would be a bad sign."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import text_tables
from experiments.report.text_tables import Table, number, percent
from experiments.statistics.intervals import Interval

Measured = dict[str, dict[str, Any]]
"""What was measured, by section."""


_COLUMNS = ("measured", "value", "a bad sign")


def validity_tables(measured: Measured) -> list[Table]:
    """Returns the page, a table a section."""
    sections = {
        "Policies": _policies(measured["policies"]),
        "Drift by itself": _drift(measured["drift"]),
        "Randomness": _randomness(measured["randomness"]),
        "Responses": _responses(measured["responses"]),
        "Texts": _texts(measured["texts"]),
        "Sessions": _sessions(measured["sessions"]),
    }
    return [Table(_COLUMNS, rows, name, labels=3) for name, rows in sections.items()]


_Cells = list[tuple[str, str, str]]
_LADDER = "not above that of the line before"


def _policies(measured: Mapping[str, Any]) -> _Cells:
    signs = {
        "random": "near that of content: any slate will do",
        "drift-aware over content": "interval holds 0: following drift does not pay",
        "oracle-myopic over drift-aware": "interval holds 0: there is nothing left to learn",
        "oracle-planning over oracle-myopic": "interval holds 0: looking ahead does not pay",
    }
    lines = []
    for name, value in measured.items():
        if " over " in name:
            lines.append((f"improvement of {name}", _improvement(value), signs[name]))
        else:
            text = number(*value).text
            lines.append((f"return of {name}", text, signs.get(name, _LADDER)))
    return lines


def _drift(measured: Mapping[str, Any]) -> _Cells:
    two, half = measured["two users"], measured["half-life"]
    angles = ", ".join(f"{x:.0f} after {lag}" for lag, x in measured["angles"].items())
    events = ", ".join(
        f"{x:.1f} {name.removesuffix('_to')}" for name, x in measured["events"].items()
    )
    return [
        (
            "angle to the first interests, degrees, by steps",
            f"{angles}; {two:.0f} to another user",
            "0: static users; that of another user soon: no user to know",
        ),
        (
            "half-life of the interests, steps",
            str(half or f"none in {measured['watched']}"),
            "none: nothing to follow; a few steps: nothing can follow",
        ),
        ("interests in 100 steps, drift-aware", events, "all 0 while drift is on"),
    ]


def _randomness(measured: Mapping[str, Any]) -> _Cells:
    step, of_return = measured["reward of a step"], measured["return"]
    paired, unpaired = measured["users to see 5 %"], measured["users to see 5 % unpaired"]
    return [
        (
            "variance of a step's reward",
            f"users {_percent(step['users'])}, sessions of a user {_percent(step['sessions'])}, "
            f"steps of a session {_percent(step['steps'])}",
            "users and sessions 0 %: what happened tells nothing of what comes",
        ),
        (
            "variance of the return",
            f"users {_percent(of_return['users'])}, randomness {_percent(of_return['randomness'])}",
            "users 0 %: all alike; randomness 0 %: a session repeats itself",
        ),
        (
            "correlation of two agents' returns in the same sessions",
            f"{measured['correlation']:.2f}",
            "0 or less: common random numbers do not pair sessions",
        ),
        (
            "users at which an improvement of 5 % over content shows",
            f"{paired or '-'} paired, {unpaired or '-'} unpaired",
            "more than you can play",
        ),
    ]


def _responses(measured: Mapping[str, Any]) -> _Cells:
    lines = []
    for name, what in (
        ("choice", "chosen slot"),
        ("nothing chosen", "nothing chosen"),
        ("satisfaction", "satisfied if consumed"),
    ):
        error, chance = measured[name]["error"], measured[name]["chance"]
        lines.append(
            (
                f"calibration error, {what}",
                f"{error:.4f}; {chance:.4f} by chance alone",
                "several times that of chance: users do not follow their model",
            )
        )
    shares = ", ".join(f"{_percent(x)}" for x in measured["clicks by slot"])
    lines.append(("clicks by slot, random slates", shares, "flat while position bias is on"))
    exponent, spread = measured["position exponent"], measured["position exponent error"]
    value = "not defined"
    if not math.isnan(exponent):
        value = f"{exponent:.2f}, standard error {spread:.2f}; predicted "
        value += (
            f"{measured['position exponent predicted']:.2f}, set {measured['position bias']:.2f}"
        )
    sign = "several errors from what is predicted"
    return [*lines, ("exponent of clicks by slot", value, sign)]


def _texts(measured: Mapping[str, Any]) -> _Cells:
    same, topic, other = (measured[f"phrase_{x}"] for x in ("facet", "topic", "other"))
    lines = [
        (
            "cosine of interest and item: same facet, same topic, other topic",
            f"{same:.2f}, {topic:.2f}, {other:.2f}",
            "not falling, or the last far from 0: any item is relevant",
        ),
        (
            "cosine of items: same facet, random pair",
            f"{measured['item_facet']:.2f}, {measured['random']:.2f}",
            "close to one another: texts do not tell items apart",
        ),
        (
            "variance kept by d components",
            _percent(measured["kept variance"], 1),
            "little: raise dim",
        ),
        (
            "s_f, cosine of a phrase to its best item",
            f"{measured['scale']:.2f}",
            "low: no item fits",
        ),
    ]
    if "substance" in measured:
        value = f"{measured['substance']:.2f}"
        lines.append(("correlation of substance and its probe", value, "0: clickbait is invisible"))
    return lines


def _sessions(measured: Mapping[str, Any]) -> _Cells:
    lines = []
    for agent, (survive, steps, ctr, satisfied) in measured["agents"].items():
        values = [
            f"{_percent(survive)} stay",
            f"{steps:.0f} steps",
            f"{_percent(ctr)} consume",
            f"{'-' if satisfied is None else _percent(satisfied)} satisfied",
        ]
        lines.append((f"sessions of {agent}", ", ".join(values), "the same for every agent"))
    for name, quantiles in measured["states"].items():
        value = " / ".join(f"{x:.2f}" for x in quantiles)
        lines.append((f"{name}, 5 / 50 / 95 % of steps", value, "one value: it does not move"))
    return lines


def _improvement(share: Sequence[float] | None) -> str:
    return "not defined" if share is None else text_tables.improvement(Interval(*share)).text


def _percent(share: float, decimals: int = 0) -> str:
    return percent(share, decimals=decimals).text
