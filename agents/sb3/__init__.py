"""Stable-Baselines3 and sb3-contrib as agents, and policies that fit slates."""

from __future__ import annotations

from agents.sb3.agent import BLOCKS, StableBaselines
from agents.sb3.algorithms import ALGORITHMS, Algorithm

__all__ = ["ALGORITHMS", "BLOCKS", "Algorithm", "StableBaselines"]
