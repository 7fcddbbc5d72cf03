"""Agents under one protocol, by name."""

from agents.base import Agent, Privileged
from agents.registry import AGENTS, make_agent

__all__ = ["AGENTS", "Agent", "Privileged", "make_agent"]
