"""Ablation of the joint recommender: its losses, users and items of whom little is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report import text_tables
from experiments.report.figures import study_figures
from experiments.report.figures.style import save
from experiments.report.text_tables import Cell, Table, number, percent
from experiments.runs.runner import RunOptions, run_sweep
from experiments.runs.spec import RunSpec
from experiments.statistics.intervals import Interval, bootstrap_interval
from experiments.statistics.leaderboard import scores_of
from experiments.store import Episode
from experiments.studies import study
from experiments.studies.cold_start import cold_items, cold_users
from experiments.studies.user_groups import improvements_by_group

REFERENCES = ("content", "ease", "collaborative", "drift-aware")
DEFAULT = "joint"
"""Label of the joint recommender as it is."""
COMPARED = ("content", "ease", "drift-aware", DEFAULT)
"""What improvements are over."""
WEIGHTS: tuple[dict[str, Any], ...] = (
    {"click": 0.0},
    {"text": 0.0},
    {"text": 0.3},
    {"click": 0.3},
)
HALVES: dict[str, dict[str, Any]] = {
    "collaborative half": {"click": 0.0},
    "text half": {"text": 0.0},
}
"""Of WEIGHTS, those in which a half is missing, by its name."""
GRID = (0.0, 0.1, 0.3, 1.0, 3.0)
"""Of λ1 and of λ2; they are not 0 together."""
PARTS: tuple[dict[str, Any], ...] = (
    {"rank": 0},  # both losses, texts and biases alone
    {"text_map": 0.0},
    {"curiosity": 0.0},
    {"slates": "top-k"},
)
_SCALE = study.Scale(worlds=1)
_OPTIONS = RunOptions(output=Path("runs/joint-ablation"))

Part = Literal["weights", "parts", "users", "items", "grid"]


def run(
    parts: tuple[Part, ...] = ("weights", "parts", "users", "items"),
    task: str = "llmrec/Drift-v1",
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = _SCALE,
    options: study.RunFlags = _OPTIONS,
) -> dict[str, Any]:
    """Plays variants of the joint recommender, and it and others with cold users and cold items.

    Every variant meets the same users and random numbers. Writes the tables of a benchmark,
    `joint.json`, `joint.md` and a figure.

    Args:
        parts: `weights` changes λ1 and λ2, and tells what each half adds to users of weak and of
            strong taste, of clear and of unclear texts; `parts` takes parts away; `users` hides
            the past of the users played; `items` hides all clicks on a fifth of the items from
            training. These two train one seed. `grid` tries every pair of λ1 and λ2, for a heat
            map.
        task: a registered id.

    Returns:
        `variants`, `groups`, `users`, `items` and `grid`, as in the file.
    """
    base = RunSpec(task, DEFAULT, 0, users=scale.users, env=given_fields(env))
    specs = _plan(base, parts, scale)
    settings = {"task": task, "parts": parts}
    study.do_runs(specs, options, scale, base.env, **settings)
    done = run_sweep(specs, options.output)  # all there: nothing runs again
    sessions, seconds = study.sessions_by(done, _name)
    variants = _variants(sessions, seconds)
    grid = _grid_of(variants) if "grid" in parts else {}
    if "weights" not in parts:  # the heat map says it
        tried = {label_of(x) for x in _on_grid().values() if x}
        variants = {name: x for name, x in variants.items() if name not in tried}
    results: dict[str, Any] = {"variants": variants, "groups": {}, "users": {}, "items": {}}
    results["grid"] = grid
    if "weights" in parts:
        halves = {name: sessions[label_of(x)] for name, x in HALVES.items()}
        results["groups"] = improvements_by_group(base, sessions[DEFAULT], halves)
    if "users" in parts:
        results["users"] = cold_users(base, scale.worlds)
    if "items" in parts:
        results["items"] = cold_items(base, scale.worlds)
    shares = {name: x[DEFAULT] for name, x in variants.items() if x[DEFAULT] is not None}
    returns = returns_known(results["users"])
    figure = study_figures.variants_and_known(shares, DEFAULT, returns)
    study.publish("joint", options.output, tables_of(results), figure, content=results)
    if grid:
        _draw(grid, options.output)
    return results


def _draw(grid: Mapping[float, Mapping[float, Interval]], folder: Path) -> None:
    values = {click: {text: x.value for text, x in row.items()} for click, row in grid.items()}
    heat_map = study_figures.heat_map(values, "return", "λ1, choices", "λ2, satisfaction")
    save(heat_map, folder / "figures" / "joint-grid")


# --- variants


def label_of(settings: Mapping[str, Any]) -> str:
    """Returns what a variant is called: what differs from the default."""
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in settings.items()
    )


def _on_grid() -> dict[tuple[float, float], dict[str, Any]]:
    """Settings that differ from the default, by λ1 and λ2."""
    return {
        (click, text): {name: x for name, x in (("click", click), ("text", text)) if x != 1.0}
        for click in GRID
        for text in GRID
        if click or text
    }


def _grid_of(variants: Mapping[str, Mapping[str, Any]]) -> dict[float, dict[float, Interval]]:
    """Returns by λ1, and by λ2."""
    grid: dict[float, dict[float, Interval]] = {click: {} for click in GRID}
    for (click, text), settings in _on_grid().items():
        grid[click][text] = variants[label_of(settings) or DEFAULT]["return"]
    return grid


def _plan(base: RunSpec, parts: Sequence[str], scale: study.Scale) -> list[RunSpec]:
    """Runs, world by world, so that each world is built once."""
    variants: dict[str, tuple[str, dict[str, Any]]] = {DEFAULT: (DEFAULT, base.settings)}
    for part, changes in (("weights", WEIGHTS), ("parts", PARTS)):
        if part in parts:
            variants |= {label_of(x): (DEFAULT, x | base.settings) for x in changes}
    if "grid" in parts:
        changed = [x for x in _on_grid().values() if x]
        variants |= {label_of(x): (DEFAULT, x | base.settings) for x in changed}
    specs = study.plan_runs((base.task,), REFERENCES, scale, base.env, label="references")
    for label, (agent, settings) in variants.items():
        specs += study.plan_runs(
            (base.task,), (agent,), scale, base.env, label=label, settings=settings
        )
    return sorted(specs, key=lambda spec: spec.world)


def _name(spec: RunSpec) -> str:
    return spec.agent if spec.agent in REFERENCES else spec.label


def _variants(
    sessions: Mapping[str, Sequence[Episode]], seconds: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Return, improvements and seconds of training of each variant; pairs share random numbers."""
    variants = {}
    for name, own in sessions.items():
        row: dict[str, Any] = {"return": bootstrap_interval(scores_of(own))}
        for other in COMPARED:
            row[other] = None if other == name else study.improvement_of(own, sessions[other])
        variants[name] = row | {"seconds": seconds[name]}
    return variants


def returns_known(users: Mapping[str, Any]) -> dict[str, dict[int, Interval]]:
    """Returns the return by number of logged slates that are known, by agent."""
    return {
        agent: {slates: x["return"] for slates, x in points.items()}
        for agent, points in users.items()
    }


# --- tables to read


def tables_of(results: Mapping[str, Any]) -> list[Table]:
    """Returns the variants, and what came of cold users and cold items where they were played."""
    returns = returns_known(results["users"])
    slates = next(iter(returns.values()), {})
    tables = [
        _table(
            "joint recommender: variants",
            results["variants"],
            {"return": "return [95 %]"}
            | {x: f"improvement over {x}" for x in COMPARED}
            | {"seconds": "training, s"},
        ),
        _table(
            "what each half adds, by thirds of the users",
            results["groups"],
            {name: f"{name} [95 %]" for name in HALVES},
        ),
        _table("return, by logged slates known of a user", returns, {x: str(x) for x in slates}),
        _table(
            "cold items: nobody's clicks on them are known",
            results["items"],
            {
                "return": "return [95 %]",
                "return_cold": "from cold items [95 %]",
                "shown": "of what is shown",
                "consumed": "of consumption",
                "satisfied": "satisfied",
                "satisfied_others": "satisfied, other items",
            },
        ),
    ]
    if results["grid"]:
        tables.append(_grid_table(results["grid"]))
    return [table for table in tables if table.rows]


def _grid_table(grid: Mapping[float, Mapping[float, Interval]]) -> Table:
    rows = [
        [f"λ1 = {click:g}", *(number(*row[x]) if x in row else "" for x in GRID)]
        for click, row in grid.items()
    ]
    return Table(["", *(f"λ2 = {x:g}" for x in GRID)], rows, "return by the weights of the losses")


def _table(title: str, rows: Mapping[str, Mapping[Any, Any]], heads: Mapping[Any, str]) -> Table:
    cells = [[name, *(_cell(key, row[key]) for key in heads)] for name, row in rows.items()]
    return Table(["", *heads.values()], cells, title)


def _cell(key: Any, value: Any) -> Cell:
    if value is None or key in COMPARED or key in HALVES:
        return text_tables.improvement(value)
    if key == "seconds":
        return number(value, decimals=1)
    return number(*value) if isinstance(value, tuple) else percent(value)
