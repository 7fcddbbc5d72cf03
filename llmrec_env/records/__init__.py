"""Records of what people did with items: load your own, clean them, split them by time."""

from __future__ import annotations

from llmrec_env.records.cells import MISSING
from llmrec_env.records.cleaning import Report, clean
from llmrec_env.records.loading import load_records
from llmrec_env.records.rows import RecordsError
from llmrec_env.records.splitting import Split, split_by_time
from llmrec_env.records.table import (
    BROWSE,
    CLICK,
    QUERY,
    RATING,
    UNKNOWN,
    Records,
    movielens_records,
    records_of,
)

__all__ = [
    "BROWSE",
    "CLICK",
    "MISSING",
    "QUERY",
    "RATING",
    "UNKNOWN",
    "Records",
    "RecordsError",
    "Report",
    "Split",
    "clean",
    "load_records",
    "movielens_records",
    "records_of",
    "split_by_time",
]
