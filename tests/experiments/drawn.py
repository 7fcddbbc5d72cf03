"""A session to draw, and what a figure says."""

import numpy as np
from matplotlib.figure import Figure

from experiments.report.run_results import Session, Texts

TEXTS = Texts(
    [f"Item {i}: a title of <b>several</b> words for $5, no less" for i in range(9)],
    [f"interest number {i}" for i in range(8)],
    np.eye(9, dtype=np.float32),
    np.eye(8, 9, dtype=np.float32),
)


def session(agent: str = "ppo", num_steps: int = 30) -> Session:
    """Interest 1 is replaced by interest 2 in step 10; interest 3 is faint all the time."""
    steps = [
        {
            "interests": [[0, 1.0], [1 if t < 10 else 2, 0.8], [3, 0.01]],
            "slate": [(t + k) % 9 for k in range(5)],
            "choice": t % 6 - 1,
            "satisfied": t % 2,
            "goodwill": 0.1,
            "patience": 9.0,
            "tracking_error": None,
            "belief_error": None,
            "reward": 0.5,
            "query": -1,
            "events": [["died", 1], ["born", 2]] if t == 9 else [],
        }
        for t in range(num_steps)
    ]
    about = {"label": "t", "task": "llmrec/Drift-v1", "env": {}, "agent": agent, "world": 0}
    return about | {"seed": 0, "user": 9, "survived": False, "steps": steps}


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    labels = [text for axes in figure.axes for text in (*axes.texts, *axes.get_yticklabels())]
    legends = [legend for axes in figure.axes if (legend := axes.get_legend())]
    labels += [text for legend in legends for text in legend.get_texts()]
    return [label.get_text() for label in labels]
