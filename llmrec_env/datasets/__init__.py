"""Records of what people did with items, and worlds of own items and logs."""

from __future__ import annotations

from llmrec_env.datasets.cleaning import Report, clean
from llmrec_env.datasets.loading import load_records
from llmrec_env.datasets.own_world import OwnWorld, make_world
from llmrec_env.datasets.records import (
    BROWSE,
    CLICK,
    MISSING,
    QUERY,
    RATING,
    UNKNOWN,
    Records,
    RecordsError,
    movielens_records,
    records_of,
)
from llmrec_env.datasets.splitting import Split, split_by_time

__all__ = [
    "BROWSE",
    "CLICK",
    "MISSING",
    "QUERY",
    "RATING",
    "UNKNOWN",
    "OwnWorld",
    "Records",
    "RecordsError",
    "Report",
    "Split",
    "clean",
    "load_records",
    "make_world",
    "movielens_records",
    "records_of",
    "split_by_time",
]
