from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from experiments import plots
from experiments.leaderboard import LADDER, group, leaderboard
from experiments.results import CurvePoint, Episode, LearningPoint
from experiments.statistics import Resampling

AGENTS = LADDER
FAST = Resampling(resamples=200)


def play() -> list[Episode]:
    generator = np.random.default_rng(0)
    return [
        Episode("t", agent, 0, 0, user, float(i + generator.gamma(2.0)), 9, 3, 2, 40.0, True)
        for i, agent in enumerate(AGENTS)
        for user in range(40)
    ]


def curves() -> list[CurvePoint]:
    """Nobody is left of the first agent from step 5 on."""
    return [
        CurvePoint(
            "t", agent, step, *((np.nan, 0.0, np.nan) if not i and step > 4 else (i, 1.0, 40.0 + i))
        )
        for i, agent in enumerate(AGENTS)
        for step in range(12)
    ]


LEARNING = [
    LearningPoint("t", "ppo", seed, 1000 * k, k + seed) for seed in range(2) for k in range(5)
]
FIGURES: dict[str, Callable[[], Figure]] = {
    "leaderboard": lambda: plots.leaderboard(leaderboard(play(), how=FAST)),
    "dynamics": lambda: plots.dynamics(curves()),
    "distribution": lambda: plots.distribution(group(play())["t"]),
    "improvement": lambda: plots.improvement(group(play())["t"], FAST),
    "learning": lambda: plots.learning(LEARNING, {"drift-aware": 3.0}),
}


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    for axes in figure.axes:
        found += [label.get_text() for label in axes.get_yticklabels()]
        legend = axes.get_legend()
        found += [text.get_text() for text in legend.get_texts()] if legend else []
    return found


@pytest.mark.parametrize("name", FIGURES)
def test_files_are_complete_and_the_same_every_time(tmp_path: Path, name: str) -> None:
    once = plots.save(FIGURES[name](), tmp_path / "a" / "figure.one")
    again = plots.save(FIGURES[name](), tmp_path / "b" / "figure.one")
    assert [path.name for path in once] == ["figure.one.png", "figure.one.svg", "figure.one.pdf"]
    for path, other in zip(once, again, strict=True):
        assert path.read_bytes() == other.read_bytes()
    assert once[0].read_bytes().startswith(b"\x89PNG")
    assert once[2].read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", ["leaderboard", "dynamics", "distribution", "improvement"])
def test_every_agent_is_named(name: str) -> None:
    assert set(AGENTS) <= set(texts(FIGURES[name]()))


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_cut_off(name: str) -> None:
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    page = figure.bbox
    for axes in figure.axes:
        for text in axes.texts:
            box = text.get_window_extent()
            assert page.x0 <= box.x0 <= box.x1 <= page.x1 + 1, text.get_text()
            assert page.y0 <= box.y0 <= box.y1 <= page.y1 + 1, text.get_text()


def test_labels_of_one_panel_do_not_overlap() -> None:
    figure = FIGURES["dynamics"]()
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
        assert len(boxes) == len(AGENTS)
        middles = [(box.y0 + box.y1) / 2 for box in boxes]
        assert np.diff(middles).min() > 0.7 * boxes[0].height


def test_labels_stand_as_near_to_their_ends_as_they_can() -> None:
    apart = plots._apart(np.array([0.1, 0.5, 0.5, 0.9]), 0.1)
    assert apart == pytest.approx([0.1, 0.45, 0.55, 0.9])
    assert plots._apart(np.array([0.98, 0.99, 1.2]), 0.1) == pytest.approx([0.8, 0.9, 1.0])
    assert plots._apart(np.array([-0.5]), 0.1) == pytest.approx([0.0])


def test_colours_depend_on_the_name_alone_and_differ_in_the_ladder() -> None:
    assert len({plots.colour_of(agent) for agent in LADDER}) == len(LADDER)
    assert plots.colour_of("my-agent") == plots.colour_of("my-agent")
    assert plots.colour_of("my-agent") not in plots.COLOURS.values()


def test_gains_that_cannot_be_told_from_zero_are_in_brackets() -> None:
    episodes = [episode for episode in play() if episode.agent in ("random", "oracle-planning")]
    generator = np.random.default_rng(1)
    for user, old in enumerate(group(play())["t"]["oracle-planning"]):
        ret = old.ret + float(generator.normal())
        episodes.append(Episode("t", "ppo", 0, 0, user, ret, 9, 3, 2, 40.0, True))
    shown = texts(plots.leaderboard(leaderboard(episodes, how=FAST)))
    gains = [text for text in shown if "%" in text]
    assert not gains[0].startswith("(")
    assert gains[1].startswith("(")


def test_the_matrix_holds_the_probabilities() -> None:
    figure = FIGURES["improvement"]()
    (image,) = [child for child in figure.axes[0].get_children() if isinstance(child, AxesImage)]
    shares = np.ma.filled(image.get_array(), np.nan)  # type: ignore[arg-type]
    returns = [[x.ret for x in own] for own in group(play())["t"].values()]
    assert shares[3, 1] == pytest.approx(np.mean(np.array(returns[3]) > np.array(returns[1])))
    off = ~np.eye(len(AGENTS), dtype=bool)
    assert (shares + shares.T)[off] == pytest.approx(1.0)


def test_the_profile_is_the_share_of_sessions_above() -> None:
    sessions = [Episode("t", "ppo", 0, 0, i, float(i), 9, 3, 2, 40.0, True) for i in range(100)]
    (line,) = plots.distribution({"ppo": sessions}).axes[0].get_lines()
    x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
    at = np.searchsorted(x, 75.5)
    assert y[at] == pytest.approx(0.24, abs=0.01)
    assert (np.diff(y) <= 0).all()


def test_smoothing_keeps_the_level_and_the_gaps() -> None:
    values = np.array([2.0, 2.0, 2.0, 2.0, 2.0, 2.0, np.nan, np.nan])
    assert np.array_equal(plots._smooth(values), values, equal_nan=True)
    assert plots._smooth(np.array([0.0, 0, 5, 0, 0]))[2] == pytest.approx(1.0)
    assert plots._smooth(np.array([3.0])) == pytest.approx([3.0])


def test_figures_of_all_tasks_are_written(tmp_path: Path) -> None:
    rows = leaderboard(play(), how=FAST)
    written = plots.write_figures(tmp_path, rows, play(), curves(), LEARNING)
    assert set(written) == {("t", name) for name in FIGURES}
    assert len(list((tmp_path / "figures").iterdir())) == 15
    assert all(path.suffix == ".svg" and path.exists() for path in written.values())
    assert ("t", "learning") not in plots.write_figures(tmp_path, rows, play(), curves())
