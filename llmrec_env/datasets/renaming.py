"""Columns of own tables: which one has which role, under the names that people gave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmrec_env.config import ConfigError, unknown
from llmrec_env.content.table_problems import nearest_column

ITEM_ROLES = ("item", "text", "topic", "title", "substance")
LOG_ROLES = ("user", "item", "event", "value", "timestamp")
ROLES = tuple(dict.fromkeys([*ITEM_ROLES, *LOG_ROLES]))


def check_renaming(rename: Mapping[str, str], headers: Sequence[Sequence[str]]) -> None:
    """Raises ConfigError for a role that there is not, or a column that no table has."""
    columns = list(dict.fromkeys(name for header in headers for name in header))
    for column, role in rename.items():
        if role not in ROLES:
            raise ConfigError(unknown(f"role in rename {column}=", role, list(ROLES)))
        if column not in columns:
            near = nearest_column(role, column, columns)
            hint = f" Did you mean {near!r}?" if near else ""
            raise ConfigError(
                f"rename {column}={role}: no table has a column {column!r}.{hint} Write "
                "COLUMN=ROLE with the name that stands in the header."
            )


def columns_of(
    header: Sequence[str], roles: Sequence[str], rename: Mapping[str, str]
) -> dict[str, str]:
    """Returns the column of each role in a table: the renamed one, or that of the role's name.

    Raises:
        ConfigError: two columns of the table have one role.
    """
    names = {role: role for role in roles}
    renamed: dict[str, str] = {}
    for column, role in rename.items():
        if column not in header or role not in names:
            continue
        if role in renamed:
            raise ConfigError(
                f"rename gives two columns of one table the role {role!r}: {renamed[role]!r} and "
                f"{column!r}; keep one of them."
            )
        renamed[role] = column
    return names | renamed
