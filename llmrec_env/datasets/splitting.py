"""Split of records by time, so that nothing is learnt from the future."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.config import ConfigError, unknown
from llmrec_env.datasets.cleaning import Report, first_of_run
from llmrec_env.datasets.records import QUERY, Records, RecordsError

_ROUNDING = 1e-9  # 0.29 * 100 is a little less than 29


class Split(NamedTuple):
    """Records in order of time, their users and items numbered alike."""

    train: Records
    validation: Records
    test: Records
    report: Report
    """What is unseen in training: dropped, or noted."""


def split_by_time(
    records: Records,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    per: str = "user",
    unseen: str = "keep",
) -> Split:
    """Returns earlier records for training, later ones for validation, the latest for the test.

    Records of one time stay together, in the earlier part: a part can be smaller than its share.

    Args:
        records: clean, with times.
        test_share: of the records.
        validation_share: of the records.
        per: `user` splits the records of each user, so that all are in training; what one does in
            the test may then be earlier than what another does in training. `global` cuts all
            records at the same two times.
        unseen: `keep` or `drop` the records of validation and test whose user or item is not in
            training; the report counts them either way.

    Raises:
        ConfigError: an argument is out of range.
        RecordsError: records lack a time, or are not clean.
    """
    _check_arguments(test_share, validation_share, per, unseen)
    records.require_complete()
    timestamp = records.timestamp
    if timestamp is None or not np.isfinite(timestamp).all():
        raise RecordsError("some records lack a time; load them with timestamp=COLUMN, and clean.")
    group = records.user if per == "user" else np.zeros_like(records.user)
    part = _parts(group, timestamp, test_share, validation_share)
    order = np.argsort(timestamp, kind="stable")
    train, validation, test = (records.take(order[part[order] == number]) for number in range(3))
    report = Report(len(records))
    validation = _report_unseen(train, validation, "validation", unseen == "drop", report)
    test = _report_unseen(train, test, "test", unseen == "drop", report)
    return Split(train, validation, test, report)


def _check_arguments(test_share: float, validation_share: float, per: str, unseen: str) -> None:
    if not (test_share >= 0 and validation_share >= 0 and test_share + validation_share < 1):
        raise ConfigError(
            f"test_share={test_share} and validation_share={validation_share} leave nothing for "
            "training, or are negative; give shares from 0 that add up to less than 1."
        )
    for name, value, allowed in (
        ("per", per, ["global", "user"]),
        ("unseen", unseen, ["drop", "keep"]),
    ):
        if value not in allowed:
            raise ConfigError(unknown(name, value, allowed))


def _parts(
    group: npt.NDArray[np.int64],
    timestamp: npt.NDArray[np.float64],
    test_share: float,
    validation_share: float,
) -> npt.NDArray[np.int8]:
    """0 for training, 1 for validation, 2 for test, (M,)."""
    order = np.lexsort((timestamp, group))
    group, timestamp = group[order], timestamp[order]
    first = first_of_run([group])
    count = np.bincount(group)[group] if len(group) else group
    left = count - (np.arange(len(group)) - first)  # of the group, this record included
    part = np.zeros(len(group), np.int8)
    part[left <= count * (test_share + validation_share) + _ROUNDING] = 1
    part[left <= count * test_share + _ROUNDING] = 2
    parts = np.empty_like(part)
    parts[order] = part[first_of_run([group, timestamp])]  # of one time, all go with the first
    return parts


def _report_unseen(
    train: Records, later: Records, name: str, drop: bool, report: Report
) -> Records:
    known_user = np.isin(later.user, train.user)
    known_item = np.isin(later.item, train.item[train.event != QUERY]) | (later.event == QUERY)
    reasons = {
        f"{name}: user not in training": ~known_user,
        f"{name}: item not in training": known_user & ~known_item,
    }
    for reason, bad in reasons.items():
        number = int(np.count_nonzero(bad))
        if drop:
            report.dropped[reason] = number
        elif number:
            report.notes.append(f"{name}, {number:,} records: {reason.split(': ')[1]}, kept")
    return later.take(known_user & known_item) if drop else later
