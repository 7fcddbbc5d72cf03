"""The reference learner: a user model that is learnt online, and decomposed values of slates."""

from __future__ import annotations

from agents.rl.slateq.learner import PrivilegedSlateQ, SlateQ

__all__ = ["PrivilegedSlateQ", "SlateQ"]
