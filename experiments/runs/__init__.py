"""Runs of an experiment: specification, training, evaluation, and sweeps that survive."""
