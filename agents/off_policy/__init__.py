"""Logs of a policy whose probabilities are known, and their export."""

from agents.off_policy.recording import Session, record_sessions
from agents.off_policy.slot_mixture import SlotMixture

__all__ = ["Session", "SlotMixture", "record_sessions"]
