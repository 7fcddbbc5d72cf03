"""Stable-Baselines3 and sb3-contrib as agents, and policies that fit slates."""

from __future__ import annotations

from agents.rl.sb3.adapter import StableBaselines
from agents.rl.sb3.modes import BLOCKS
from agents.rl.sb3_specs import ALGORITHMS, Algorithm

__all__ = ["ALGORITHMS", "BLOCKS", "Algorithm", "StableBaselines"]
