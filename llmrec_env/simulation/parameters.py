"""HIDDEN: parameters of the dynamics, as the record that compiled functions read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig, world_numbers

MAX_SLATE = 20

PARAMETERS = np.dtype(
    [
        *((name, np.float64) for name in world_numbers()),  # by their names in EnvConfig
        ("examined", np.float64, (MAX_SLATE,)),  # exam_k = k^-gamma
        ("rank_penalty", np.float64, (MAX_SLATE,)),  # gamma ln k
        ("scale", np.float64),  # s_f
    ]
)
"""The parameters the compiled dynamics read: one record."""


def parameters(config: EnvConfig, scale: float) -> npt.NDArray[np.void]:
    """Returns the effective parameters as an array of one record, (1,)."""
    effective = config.effective()
    params = np.zeros(1, PARAMETERS)
    for name in world_numbers():
        params[name] = getattr(effective, name)
    ranks = np.arange(1, MAX_SLATE + 1)
    params["examined"] = ranks**-effective.position_bias
    params["rank_penalty"] = effective.position_bias * np.log(ranks)
    params["scale"] = scale
    return params
