"""The tables of a report: leaderboard, every other metric, and one column a world."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from experiments.statistics.leaderboard import improvement_of
from experiments.store import Metric, Row, WorldRow

_NONE = "–"  # noqa: RUF001
_COLUMNS = (
    "agent",
    "return [95 %]",
    "IQM [95 %]",
    "gain over the row above [95 %]",
    "beats the row above",
    "normalised",
    "stays to the end",
    "steps",
    "consumes",
    "satisfied",
    "tracking_error",
    "seeds",
    "user-steps of training",
)
# How a metric is written, and what it says; one without an entry is written plainly.
METRICS: dict[str, tuple[str, str]] = {
    "reward per step": ("{:.3f}", "Return divided by steps: how good a session is while it lasts."),
    "regret to myopic": ("{:.2f}", "Return that oracle-myopic earns more in the same sessions."),
    "regret to planning": (
        "{:.2f}",
        "Return that oracle-planning earns more in the same sessions.",
    ),
    "diversity": ("{:.3f}", "1 - mean cosine between two items of a slate: 0 is all alike."),
    "effective topics": ("{:.2f}", "Topics consumed, counted by entropy: 3 for three equal parts."),
    "novelty": ("{:.2f}", "Of what was consumed, in bits: how seldom others clicked it."),
    "recall ceiling": (
        "{:.0%}",
        "What the candidates allow of the best slate in the whole catalogue; the rest is lost "
        "before an agent acts.",
    ),
    "tracking error of the pooled history": (
        "{:.1f}°",
        "Between estimated and true interests; 0° is known exactly.",
    ),
    "tracking error of the belief": (
        "{:.1f}°",
        "The same of what the agent believes, where it holds a belief.",
    ),
    "preference shift": (
        "{:.1f}°",
        "Between the interests at the end, and those the same user would have had alone.",
    ),
    "discovered": ("{:.2f}", "Interests active at the end that were not at the start."),
    "lost": ("{:.2f}", "Interests active at the start that are not at the end."),
    "goodwill": ("{:+.3f}", "At the end: clickbait lowers it, in-depth items raise it."),
    "coverage": ("{:.0%}", "Share of the catalogue that was shown to anybody."),
    "gini": ("{:.2f}", "How unequally items were shown: 0 all alike, 1 always the same ones."),
    "ndcg@10": (
        "{:.3f}",
        "Offline, from logs: how high ten recommendations rank the next satisfying clicks. A good "
        "rank there need not earn a good return.",
    ),
    "recall@10": ("{:.3f}", "Offline, from logs: share of those clicks among the ten."),
}


def leaderboard_table(rows: Sequence[Row]) -> str:
    """Returns the leaderboard of a task."""
    task = rows[0].task
    caption = (
        f"Leaderboard of {task}, in the order of the ladder. Grey gains: the interval holds 0."
    )
    body = [(row.agent, _cells(row)) for row in rows]
    return _table(f"Leaderboard of {task}", caption, _COLUMNS, body)


def metrics_table(agents: Sequence[str], metrics: Sequence[Metric]) -> str:
    """Returns every other metric of a task with what it says, or nothing where none is defined."""
    found = {(x.agent, x.metric): x for x in metrics if x.value is not None}
    names = [x for x in dict.fromkeys(m.metric for m in metrics) if any(x == n for _, n in found)]
    if not names:
        return ""
    task = metrics[0].task
    caption = f"Other metrics of {task}, with 95 % intervals over users where there are any."
    body = [
        (agent, [(_measured(name, found.get((agent, name))), "") for name in names])
        for agent in agents
    ]
    terms = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(METRICS[name][1])}</dd></div>\n"
        for name in names
        if name in METRICS
    )
    table = _table(f"Metrics of {task}", caption, ("agent", *names), body)
    meaning = "<details><summary>What these metrics say</summary>\n"
    return f'{table}{meaning}<dl class="terms">{terms}</dl></details>\n'


def worlds_table(agents: Sequence[str], rows: Sequence[WorldRow]) -> str:
    """Returns returns and gains world by world, or nothing where there is one world only."""
    worlds = sorted({row.world for row in rows})
    if len(worlds) < 2:
        return ""
    found, task = {(row.agent, row.world): row for row in rows}, rows[0].task
    caption = f"Return of {task} in each world, and the gain over the row above. Worlds differ in"
    caption += (
        " users, in what they like, and in what the logs show. Grey gains: the interval holds 0."
    )
    body = [(agent, [_in_world(found.get((agent, world))) for world in worlds]) for agent in agents]
    head = ("agent", *(f"world {world}" for world in worlds))
    return _table(f"Worlds of {task}", caption, head, body)


# --- cells: text, and the class of the cell

_Cell = tuple[str, str]


def _cells(row: Row) -> list[_Cell]:
    gain = improvement_of(row)
    unclear = "" if gain is None or gain.is_clear else "unclear"
    numbers: list[tuple[float | None, str]] = [
        *((x, "{:.0%}") for x in (row.p_improve, row.normalised, row.survive)),
        (row.steps, "{:.1f}"),
        *((x, "{:.0%}") for x in (row.ctr, row.satisfaction_rate)),
        (row.tracking_error, "{:.1f}°"),
        *((x, "{:,}") for x in (row.seeds, row.train_steps)),
    ]
    return [
        (_spread(row.mean, row.ci_low, row.ci_high, "{:.2f}"), ""),
        (_spread(row.iqm, row.iqm_low, row.iqm_high, "{:.2f}"), ""),
        (_gain(row), unclear),
        *((_number(value, form), "") for value, form in numbers),
    ]


def _gain(row: Row | WorldRow) -> str:
    return (
        ""
        if row.improvement is None
        else _spread(row.improvement, row.improvement_low, row.improvement_high, "{:+.1%}")
    )


def _in_world(row: WorldRow | None) -> _Cell:
    if row is None:
        return _NONE, ""
    clear = (
        row.improvement_low is None
        or row.improvement_high is None
        or row.improvement_low * row.improvement_high > 0.0
    )
    gain = _gain(row) if clear else f'<span class="unclear">{_gain(row)}</span>'
    return f"{_spread(row.mean, row.ci_low, row.ci_high, '{:.2f}')}<br>{gain}", ""


def _measured(name: str, metric: Metric | None) -> str:
    form = METRICS.get(name, ("{:.3g}", ""))[0]
    if metric is None or metric.value is None:
        return _NONE
    if metric.low is None or metric.high is None:
        return form.format(metric.value)
    return _spread(metric.value, metric.low, metric.high, form)


def _spread(value: float, low: float | None, high: float | None, form: str) -> str:
    return f"{form.format(value)} <small>[{_number(low, form)}, {_number(high, form)}]</small>"


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else form.format(value)


def _table(
    name: str, caption: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[_Cell]]]
) -> str:
    """A table that scrolls by itself; the cells are markup, everything else is text."""
    escape: Callable[[Any], str] = html.escape
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(agent)}</th>'
        + "".join(f'<td class="{kind}">{x}</td>' if kind else f"<td>{x}</td>" for x, kind in cells)
        + "</tr>\n"
        for agent, cells in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{escape(name)}" tabindex="0">\n'
        f"<table><caption><span>{escape(caption)}</span></caption>\n<thead><tr>{head}</tr></thead>"
        f"\n<tbody>\n{body}</tbody></table></div>\n"
    )
