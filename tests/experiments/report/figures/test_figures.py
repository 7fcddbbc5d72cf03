import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import TEXTS, session, texts
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from experiments.report import figures
from experiments.report.figures import style
from experiments.report.run_results import RunResults
from experiments.statistics.intervals import Resampling
from experiments.statistics.leaderboard import LADDER, group, leaderboard
from experiments.store import (
    AdaptationPoint,
    CurvePoint,
    Episode,
    LearningPoint,
    Metric,
    Row,
    WorldRow,
)

AGENTS = LADDER
FAST = Resampling(resamples=200)


def rollout() -> list[Episode]:
    generator = np.random.default_rng(0)
    return [
        Episode("t", agent, 0, 0, user, float(i + generator.gamma(2.0)), 9, 3, 2, 40.0, True)
        for i, agent in enumerate(AGENTS)
        for user in range(40)
    ]


def curves() -> list[CurvePoint]:
    """Nobody is left of the first agent from step 5 on; the last two hold no belief."""
    points = []
    for i, agent in enumerate(AGENTS):
        belief = 30.0 + i if i < len(AGENTS) - 2 else np.nan
        for step in range(12):
            gone = not i and step > 4
            values = (np.nan, 0.0, np.nan, np.nan) if gone else (i, 1.0, 40.0 + i, belief)
            points.append(CurvePoint("t", agent, step, *values))
    return points


LEARNING = [
    LearningPoint("t", "ppo", world, seed, 1000 * k, k + seed + 10.0 * world)
    for world in range(2)
    for seed in range(2)
    for k in range(5)
]


def adaptations() -> list[AdaptationPoint]:
    """Too few users are left of the first agent from lag 6 on."""
    return [
        AdaptationPoint("t", agent, lag, np.nan if not i and lag > 5 else 0.1 * i + 0.01 * lag, 30)
        for i, agent in enumerate(AGENTS)
        for lag in range(9)
    ]


def diversities(rows: list[Row]) -> list[Metric]:
    """All agents lie close together."""
    values = [0.9 + 0.001 * i for i in range(len(rows))]
    return [
        Metric("t", row.agent, "diversity", value, value - 0.01, value + 0.01)
        for row, value in zip(rows, values, strict=True)
    ]


def world_table() -> list[WorldRow]:
    """The gain of the second agent is clear in the first world only."""
    return [
        WorldRow("t", agent, world, 2.0, 1.0, 3.0, gain, gain - 0.3, gain + 0.3, "above", 1, 40)
        for agent in AGENTS[1:]
        for world, gain in enumerate((0.5, 0.1))
    ]


def results(folder: Path = Path(), **tables: Any) -> RunResults:
    """A run with every table but those that are told otherwise."""
    rows = leaderboard(rollout(), resampling=FAST)
    every = {
        "learning": LEARNING,
        "adaptation": adaptations(),
        "worlds": world_table(),
        "metrics": diversities(rows),
        "sessions": [session()],
    }
    return RunResults(folder, rows, rollout(), curves(), **(every | tables))


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    """The figures of all tables, drawn once."""
    return figures.task_figures(results(), TEXTS)


@pytest.fixture(scope="module")
def drawn_again() -> dict[str, Figure]:
    return figures.task_figures(results(), TEXTS)


FIGURES = (
    "leaderboard",
    "distribution",
    "improvement",
    "dynamics",
    "adaptation",
    "diversity",
    "worlds",
    "learning",
    "streamgraph",
)


@pytest.mark.parametrize("name", FIGURES)
def test_files_are_complete_and_the_same_every_time(
    tmp_path: Path, drawn: dict[str, Figure], drawn_again: dict[str, Figure], name: str
) -> None:
    once = figures.save(drawn[name], tmp_path / "a" / "figure.one")
    again = figures.save(drawn_again[name], tmp_path / "b" / "figure.one")
    assert [path.name for path in once] == ["figure.one.png", "figure.one.svg", "figure.one.pdf"]
    for path, other in zip(once, again, strict=True):
        assert path.read_bytes() == other.read_bytes()
    assert once[0].read_bytes().startswith(b"\x89PNG")
    assert once[2].read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    "name", ["leaderboard", "dynamics", "adaptation", "distribution", "improvement", "diversity"]
)
def test_every_agent_is_named(drawn: dict[str, Figure], name: str) -> None:
    assert set(AGENTS) <= set(texts(drawn[name]))


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_cut_off(drawn: dict[str, Figure], name: str) -> None:
    figure = drawn[name]
    figure.draw_without_rendering()
    page = figure.bbox
    for axes in figure.axes:
        for text in axes.texts:
            box = text.get_window_extent()
            assert page.x0 <= box.x0 <= box.x1 <= page.x1 + 1, text.get_text()
            assert page.y0 <= box.y0 <= box.y1 <= page.y1 + 1, text.get_text()


@pytest.mark.parametrize("name", ["dynamics", "adaptation"])
def test_labels_of_one_panel_do_not_overlap(drawn: dict[str, Figure], name: str) -> None:
    drawn[name].draw_without_rendering()
    for axes in drawn[name].axes:
        named = [text for text in axes.texts if text.get_text() in AGENTS]
        boxes = sorted((text.get_window_extent() for text in named), key=lambda box: box.y0)
        assert len(boxes) == len(AGENTS) - 2 * ("belief" in axes.get_title("left"))
        middles = [(box.y0 + box.y1) / 2 for box in boxes]
        assert np.diff(middles).min() > 0.7 * boxes[0].height


def test_labels_stand_as_near_to_their_ends_as_they_can() -> None:
    apart = style.apart(np.array([0.1, 0.5, 0.5, 0.9]), 0.1)
    assert apart == pytest.approx([0.1, 0.45, 0.55, 0.9])
    assert style.apart(np.array([0.98, 0.99, 1.2]), 0.1) == pytest.approx([0.8, 0.9, 1.0])
    assert style.apart(np.array([-0.5]), 0.1) == pytest.approx([0.0])


def test_colours_depend_on_the_name_alone_and_differ_in_the_ladder() -> None:
    assert len({figures.colour_of(agent) for agent in LADDER}) == len(LADDER)
    assert figures.colour_of("my-agent") == figures.colour_of("my-agent")
    assert figures.colour_of("my-agent") not in figures.COLOURS.values()


def test_improvements_that_cannot_be_told_from_zero_are_in_brackets() -> None:
    episodes = [episode for episode in rollout() if episode.agent in ("random", "oracle-planning")]
    generator = np.random.default_rng(1)
    for user, old in enumerate(group(rollout())["t"]["oracle-planning"]):
        ret = old.ret + float(generator.normal())
        episodes.append(Episode("t", "ppo", 0, 0, user, ret, 9, 3, 2, 40.0, True))
    shown = texts(figures.leaderboard(leaderboard(episodes, resampling=FAST)))
    gains = [text for text in shown if "%" in text]
    assert not gains[0].startswith("(")
    assert gains[1].startswith("(")


def test_the_matrix_holds_the_probabilities(drawn: dict[str, Figure]) -> None:
    axes = drawn["improvement"].axes[0]
    (image,) = [child for child in axes.get_children() if isinstance(child, AxesImage)]
    shares = np.ma.filled(image.get_array(), np.nan)  # type: ignore[arg-type]
    returns = [[x.ret for x in own] for own in group(rollout())["t"].values()]
    assert shares[3, 1] == pytest.approx(np.mean(np.array(returns[3]) > np.array(returns[1])))
    off = ~np.eye(len(AGENTS), dtype=bool)
    assert (shares + shares.T)[off] == pytest.approx(1.0)


def test_the_profile_is_the_share_of_sessions_above() -> None:
    sessions = [Episode("t", "ppo", 0, 0, i, float(i), 9, 3, 2, 40.0, True) for i in range(100)]
    figure = figures.distribution({"ppo": sessions}, FAST)
    (line,) = figure.axes[0].get_lines()
    x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
    at = np.searchsorted(x, 75.5)
    assert y[at] == pytest.approx(np.mean(np.arange(100) > x[at]))
    assert (np.diff(y) <= 0).all()
    (band,) = figure.axes[0].collections
    (path,) = band.get_paths()
    heights = path.vertices[np.isclose(path.vertices[:, 0], x[at]), 1]
    assert heights.min() < y[at] < heights.max()


def lines_of(figure: Figure) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The longest line of each colour."""
    longest: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for line in figure.axes[0].get_lines():
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        colour = str(line.get_color())
        if len(x) > len(longest.get(colour, ((),))[0]):
            longest[colour] = x, y
    return longest


def test_adaptation_does_not_smooth_over_the_switch_and_ends_where_users_are_few(
    drawn: dict[str, Figure],
) -> None:
    lines = lines_of(drawn["adaptation"])
    _, first = lines[style.colour_of(AGENTS[0])]
    assert np.isfinite(first[:6]).all()
    assert np.isnan(first[6:]).all()
    _, other = lines[style.colour_of(AGENTS[2])]
    assert other[0] == pytest.approx(0.2)
    jump = [AdaptationPoint("t", "ppo", lag, 9.0 if not lag else 1.0, 30) for lag in range(9)]
    figure = figures.adaptation(jump)
    assert figure
    _, values = lines_of(figure)[style.colour_of("ppo")]
    assert values == pytest.approx([9.0, *[1.0] * 8])


def test_adaptation_is_a_share_of_what_who_knows_the_switch_earns() -> None:
    lags = range(6)
    oracle = [AdaptationPoint("t", "oracle-myopic", lag, 0.5 + 0.1 * lag, 30) for lag in lags]
    half = [AdaptationPoint("t", "ppo", lag, 0.25 + 0.05 * lag, 30) for lag in lags]
    figure = figures.adaptation([*half, *oracle])
    assert figure
    _, values = lines_of(figure)[style.colour_of("ppo")]
    assert values == pytest.approx([0.5] * 6)
    assert "oracle-myopic" in figure.axes[0].get_ylabel()
    alone = figures.adaptation(oracle)  # nobody to compare with: the reward itself
    assert alone and alone.axes[0].get_ylabel() == "reward per step"


def test_where_nothing_switches_nobody_adapts() -> None:
    assert (
        figures.adaptation([AdaptationPoint("t", "ppo", lag, np.nan, 0) for lag in range(9)])
        is None
    )


def test_learning_averages_worlds_and_shows_the_range_over_seeds(drawn: dict[str, Figure]) -> None:
    figure = drawn["learning"]
    x, y = lines_of(figure)[style.colour_of("ppo")]
    assert x == pytest.approx([0, 1000, 2000, 3000, 4000])
    assert y == pytest.approx(np.arange(5) + 5.5)  # seeds are 1 apart, worlds 10
    (path,) = figure.axes[0].collections[0].get_paths()
    heights = path.vertices[np.isclose(path.vertices[:, 0], 2000.0), 1]
    assert (heights.min(), heights.max()) == pytest.approx((7.0, 8.0))
    assert "drift-aware (test users)" in texts(figure)


def test_labels_of_points_that_lie_close_do_not_cover_each_other(
    drawn: dict[str, Figure],
) -> None:
    drawn["diversity"].draw_without_rendering()
    boxes = [text.get_window_extent() for text in drawn["diversity"].axes[0].texts]
    assert len(boxes) == len(AGENTS)
    covered = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert not covered


def test_diversity_needs_slates_and_worlds_need_more_than_one() -> None:
    rows = leaderboard(rollout(), resampling=FAST)
    none = [Metric("t", row.agent, "diversity", None, None, None) for row in rows]
    assert figures.diversity(rows, none) is None
    assert figures.worlds([row for row in world_table() if row.world == 0]) is None


def test_improvements_in_a_world_that_may_be_none_are_hollow(drawn: dict[str, Figure]) -> None:
    marks = [line for line in drawn["worlds"].axes[0].get_lines() if line.get_marker() == "o"]
    hollow = [line.get_markerfacecolor() == "white" for line in marks]
    assert hollow == [False, True] * (len(AGENTS) - 1)
    assert float(np.asarray(marks[0].get_xdata())[0]) == pytest.approx(1.5)


def test_smoothing_keeps_the_level_and_the_gaps() -> None:
    values = np.array([2.0, 2.0, 2.0, 2.0, 2.0, 2.0, np.nan, np.nan])
    assert np.array_equal(style.smooth(values, 5), values, equal_nan=True)
    assert style.smooth(np.array([0.0, 0, 5, 0, 0]), 5)[2] == pytest.approx(1.0)
    assert style.smooth(np.array([3.0]), 5) == pytest.approx([3.0])


def test_beliefs_have_a_panel_of_their_own_where_an_agent_holds_one(
    drawn: dict[str, Figure],
) -> None:
    own, pooled, *_ = drawn["dynamics"].axes
    assert "agent's belief" in own.get_title("left")
    assert "pooled history" in pooled.get_title("left")
    assert "oracle-planning" not in {text.get_text() for text in own.texts}
    plain = [dataclasses.replace(point, belief_error=np.nan) for point in curves()]
    assert len(figures.dynamics(plain).axes) == 3


def test_figures_of_all_tasks_are_written(tmp_path: Path) -> None:
    paths = figures.write_figures(results(tmp_path), {"t": TEXTS})
    assert set(paths) == {("t", name) for name in FIGURES}
    assert len(list((tmp_path / "figures").iterdir())) == 3 * len(FIGURES)
    assert all(path.suffix == ".svg" and path.exists() for path in paths.values())


def test_figures_of_tables_that_are_not_there_are_left_out() -> None:
    nothing = {"learning": [], "adaptation": [], "worlds": [], "metrics": [], "sessions": []}
    own = figures.task_figures(results(**nothing), TEXTS)
    assert set(own) == {"leaderboard", "dynamics", "distribution", "improvement"}
    assert "streamgraph" not in figures.task_figures(results())
