"""The reference learner: a user model that is learnt online, and decomposed values of slates."""

from __future__ import annotations

from agents.slateq.agent import PrivilegedSlateQ, SlateQ

__all__ = ["PrivilegedSlateQ", "SlateQ"]
