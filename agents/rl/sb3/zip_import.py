"""SB3 import: models that Stable-Baselines3 saved itself, as agents."""

from __future__ import annotations

import warnings
from pathlib import Path

from agents.rl.sb3.adapter import StableBaselines
from agents.rl.sb3.construction import algorithm_class


def import_sb3_zip(
    path: Path, name: str, trust: bool = False, action: str | None = None
) -> StableBaselines:
    """Returns an agent that acts as the model in a zip file of SB3 does; `save` makes it safe.

    The file does not hold what VecNormalize knew: a model that saw normalised observations cannot
    be imported.

    Args:
        path: what `model.save` wrote, of a model with `vector` observations.
        name: of the agent that has the model's algorithm.
        trust: whether code that the file may hold can run.
        action: mode that the model acts in; None: the first of its algorithm.

    Raises:
        ValueError: the file is not trusted, or the model cannot be this agent's.
    """
    if not trust:
        raise ValueError(
            f"{path} is a zip file of Stable-Baselines3, and loading one can run code that it "
            "holds; if you made it yourself or trust who did, pass trust=True."
        )
    warnings.warn(
        f"{path}: loading a zip file of Stable-Baselines3 can run code that it holds; save the "
        "agent, and keep that instead.",
        stacklevel=2,
    )
    agent = StableBaselines(name, action=action)
    kind = algorithm_class(agent.algorithm.module, agent.algorithm.class_name)
    agent.adopt(kind.load(path, device="cpu"))
    return agent
