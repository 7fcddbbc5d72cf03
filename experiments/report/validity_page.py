"""The page that `validity` writes: each number beside what would be a bad sign."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

Measured = dict[str, dict[str, Any]]
"""What was measured, by section."""


class Line(NamedTuple):
    """One line of the report."""

    section: str
    what: str
    value: str
    bad_sign: str


def report(measured: Measured) -> list[Line]:
    """Returns the lines of the page, section by section."""
    sections = {
        "Policies": _policies(measured["policies"]),
        "Drift by itself": _drift(measured["drift"]),
        "Luck": _luck(measured["luck"]),
        "Responses": _responses(measured["responses"]),
        "Texts": _texts(measured["texts"]),
        "Sessions": _sessions(measured["sessions"]),
    }
    return [Line(name, *cells) for name, lines in sections.items() for cells in lines]


def markdown(title: str, lines: Sequence[Line]) -> str:
    """Returns the page as Markdown."""
    text = [f"# {title}: how to judge the simulator"]
    for section in dict.fromkeys(line.section for line in lines):
        text += ["", f"## {section}", "", "| measured | value | a bad sign |", "|---|---|---|"]
        text += [f"| {x.what} | {x.value} | {x.bad_sign} |" for x in lines if x.section == section]
    return "\n".join([*text, ""])


def print_report(lines: Sequence[Line]) -> None:
    """Prints the page."""
    table = Table(box=box.SIMPLE, padding=(0, 1))
    for name in ("measured", "value", "a bad sign"):
        table.add_column(name, justify="left")
    for section in dict.fromkeys(line.section for line in lines):
        table.add_row(f"[bold]{section}[/bold]")
        for line in (line for line in lines if line.section == section):
            table.add_row(*map(escape, line[1:]))
        table.add_section()
    Console().print(table)


_Cells = list[tuple[str, str, str]]
_LADDER = "not above that of the line before"


def _policies(found: Mapping[str, Any]) -> _Cells:
    signs = {
        "random": "near that of content: any slate will do",
        "drift-aware over content": "interval holds 0: following drift does not pay",
        "oracle-myopic over drift-aware": "interval holds 0: there is nothing left to learn",
        "oracle-planning over oracle-myopic": "interval holds 0: looking ahead does not pay",
    }
    lines = []
    for name, value in found.items():
        if " over " in name:
            lines.append((f"gain of {name}", _gain(value), signs[name]))
        else:
            mean, low, high = value
            text = f"{mean:.2f} [{low:.2f}, {high:.2f}]"
            lines.append((f"return of {name}", text, signs.get(name, _LADDER)))
    return lines


def _drift(found: Mapping[str, Any]) -> _Cells:
    two, half = found["two users"], found["half-life"]
    tracking_errors = ", ".join(
        f"{x:.0f} after {lag}" for lag, x in found["tracking_errors"].items()
    )
    events = ", ".join(f"{x:.1f} {name.removesuffix('_to')}" for name, x in found["events"].items())
    return [
        (
            "angle to the first interests, degrees, by steps",
            f"{tracking_errors}; {two:.0f} to another user",
            "0: static users; that of another user soon: no user to know",
        ),
        (
            "half-life of the interests, steps",
            str(half or f"none in {found['watched']}"),
            "none: nothing to follow; a few steps: nothing can follow",
        ),
        ("interests in 100 steps, drift-aware", events, "all 0 while drift is on"),
    ]


def _luck(found: Mapping[str, Any]) -> _Cells:
    step, of_return = found["reward of a step"], found["return"]
    paired, unpaired = found["users to see 5 %"], found["users to see 5 % unpaired"]
    return [
        (
            "variance of a step's reward",
            f"users {step['users']:.0%}, sessions of a user {step['sessions']:.0%}, "
            f"steps of a session {step['steps']:.0%}",
            "users and sessions 0 %: what happened tells nothing of what comes",
        ),
        (
            "variance of the return",
            f"users {of_return['users']:.0%}, luck {of_return['luck']:.0%}",
            "users 0 %: all alike; luck 0 %: a session repeats itself",
        ),
        (
            "correlation of two agents' returns in the same sessions",
            f"{found['correlation']:.2f}",
            "0 or less: common luck does not pair sessions",
        ),
        (
            "users at which a gain of 5 % over content shows",
            f"{paired or '-'} paired, {unpaired or '-'} unpaired",
            "more than you can play",
        ),
    ]


def _responses(found: Mapping[str, Any]) -> _Cells:
    lines = []
    for name, what in (
        ("choice", "chosen slot"),
        ("nothing chosen", "nothing chosen"),
        ("satisfaction", "satisfied if consumed"),
    ):
        error, chance = found[name]["error"], found[name]["chance"]
        lines.append(
            (
                f"calibration error, {what}",
                f"{error:.4f}; {chance:.4f} by chance alone",
                "several times that of chance: users do not follow their model",
            )
        )
    shares = ", ".join(f"{x:.0%}" for x in found["clicks by slot"])
    lines.append(("clicks by slot, random slates", shares, "flat while position bias is on"))
    exponent, spread = found["position exponent"], found["position exponent error"]
    value = "not defined"
    if not math.isnan(exponent):
        value = f"{exponent:.2f}, standard error {spread:.2f}; predicted "
        value += f"{found['position exponent predicted']:.2f}, set {found['position bias']:.2f}"
    sign = "several errors from what is predicted"
    return [*lines, ("exponent of clicks by slot", value, sign)]


def _texts(found: Mapping[str, Any]) -> _Cells:
    same, topic, other = (found[f"phrase_{x}"] for x in ("facet", "topic", "other"))
    lines = [
        (
            "cosine of interest and item: same facet, same topic, other topic",
            f"{same:.2f}, {topic:.2f}, {other:.2f}",
            "not falling, or the last far from 0: any item is relevant",
        ),
        (
            "cosine of items: same facet, random pair",
            f"{found['item_facet']:.2f}, {found['random']:.2f}",
            "close to one another: texts do not tell items apart",
        ),
        ("variance kept by d components", f"{found['kept variance']:.1%}", "little: raise dim"),
        ("s_f, cosine of a phrase to its best item", f"{found['scale']:.2f}", "low: no item fits"),
    ]
    if "substance" in found:
        value = f"{found['substance']:.2f}"
        lines.append(("correlation of substance and its probe", value, "0: clickbait is invisible"))
    return lines


def _sessions(found: Mapping[str, Any]) -> _Cells:
    lines = []
    for agent, (survive, steps, ctr, satisfied) in found["agents"].items():
        rate = "-" if satisfied is None else f"{satisfied:.0%}"
        value = f"{survive:.0%} stay, {steps:.0f} steps, {ctr:.0%} consume, {rate} satisfied"
        lines.append((f"sessions of {agent}", value, "the same for every agent"))
    for name, quantiles in found["states"].items():
        value = " / ".join(f"{x:.2f}" for x in quantiles)
        lines.append((f"{name}, 5 / 50 / 95 % of steps", value, "one value: it does not move"))
    return lines


def _gain(gain: Sequence[float] | None) -> str:
    if gain is None:
        return "not defined"
    value, low, high = gain
    return f"{value:+.1%} [{low:+.1%}, {high:+.1%}]"
