"""HIDDEN: traits of the items of a world: taste, quality, substance, public times, creators."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llmrec_env import portable_math
from llmrec_env.config import EnvConfig
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.fusion import Channel
from llmrec_env.simulation.creators import creators_of
from llmrec_env.simulation.freshness import publication_steps
from llmrec_env.simulation.noise import draw_normals
from llmrec_env.simulation.response import TRAITS
from llmrec_env.simulation.user_record import TASTE_DIM

_PROBE_AGREEMENT = 0.86  # correlation of probe and substance where the catalogue has no labels
_SUBSTANCE_SPREAD = 0.6

Floats = npt.NDArray[np.float64]


def item_traits(
    config: EnvConfig,
    catalog: Catalog,
    probe: npt.NDArray[np.float32],
    channel: Channel | None,
    rng: np.random.Generator,
) -> npt.NDArray[np.void]:
    """Returns the traits of the items, (items,) records of TRAITS.

    Args:
        config: its effective values.
        catalog: with facets.
        probe: substance as read off the texts, standardised, (items,).
        channel: what items carry beside their texts.
        rng: of the world; draws for the channel come last.
    """
    n, substance = len(catalog), catalog.substance
    if substance is None:  # then the truth is what the probe reads, and something it misses
        missed = (1.0 - _PROBE_AGREEMENT**2) ** 0.5 * draw_normals(rng, n)
        substance = _SUBSTANCE_SPREAD * (_PROBE_AGREEMENT * probe + missed)
    traits = np.zeros(n, TRAITS)
    own_taste = draw_normals(rng, n, TASTE_DIM)
    quality = draw_normals(rng, n)
    traits["quality"] = quality if catalog.quality is None else catalog.quality
    traits["substance"] = np.clip(substance, -1.0, 1.0)
    facets = catalog.facets  # known of every item: `phrases_of` clusters what has no labels
    common_taste = draw_normals(rng, int(facets.max()) + 1, TASTE_DIM)[facets]
    shared = config.taste_shared
    taste = shared**0.5 * common_taste + (1.0 - shared) ** 0.5 * own_taste
    if channel is not None and config.taste_channel:
        taste = _with_channel(taste, channel, config.taste_channel, rng)
    traits["taste"] = taste / TASTE_DIM**0.5
    traits["published"] = publication_steps(config, n)
    traits["creator"] = creators_of(config, catalog)
    return traits


def _with_channel(taste: Floats, channel: Channel, t: float, rng: np.random.Generator) -> Floats:
    """The taste of which a share t of the variance is a linear function of the channel."""
    known = channel.lengths > 0.0
    length = channel.directions.shape[1]
    weights = draw_normals(rng, TASTE_DIM, length) / (8.0 * length**0.5)  # rows of length below 1
    told = portable_math.products(channel.directions[known], weights)
    told -= portable_math.mean(told)
    told /= np.sqrt(portable_math.mean(told**2))
    mixed = taste.copy()
    mixed[known] = (1.0 - t) ** 0.5 * taste[known] + t**0.5 * told
    return mixed
