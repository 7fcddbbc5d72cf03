"""Rankers: agents that score every candidate and show the best."""
