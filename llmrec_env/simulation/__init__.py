"""HIDDEN: the simulated users, compiled: who they are, what they choose, how they change."""
