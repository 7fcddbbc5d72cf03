"""Online reinforcement learning agents."""
