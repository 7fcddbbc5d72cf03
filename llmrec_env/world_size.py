"""How many items a configuration can use up, and what a small catalogue allows."""

from __future__ import annotations

import dataclasses

from llmrec_env.config import EnvConfig
from llmrec_env.interface.history import consumable

_ITEMS_A_SLOT = 12  # of a slate, so that it leaves something to choose


def needed_items(config: EnvConfig) -> int:
    """Returns how many items a catalogue needs, so that candidates never run out."""
    shown = config.impression_cap * config.slate_size
    return config.candidates + shown + consumable(config) + config.slate_size


def fitting_sizes(num_items: int, config: EnvConfig | None = None) -> dict[str, int]:
    """Returns fields that make a configuration fit a catalogue; none where it fits as it is.

    All sizes shrink in proportion; what is left over are candidates.

    Args:
        num_items: of the catalogue, at least 20.
        config: what is to fit; None: the defaults.
    """
    config = config or EnvConfig()
    needed = needed_items(config)
    if num_items >= needed:
        return {}
    share = num_items / needed
    slate_size = min(config.slate_size, max(num_items // _ITEMS_A_SLOT, 2))
    fields = {
        "slate_size": slate_size,
        "horizon": max(int(share * config.horizon), 3),
        "warmup_slates": max(int(share * config.warmup_slates), 1),
        "impression_cap": int(share * config.impression_cap),
        "candidates": min(slate_size, config.candidates),
    }
    spare = num_items - needed_items(dataclasses.replace(config, **fields))
    if spare < 0:
        fields["horizon"] = max(fields["horizon"] + spare, 1)
    elif config.candidates:
        fields["candidates"] = min(slate_size + spare, config.candidates)
    return {name: value for name, value in fields.items() if value != getattr(config, name)}
