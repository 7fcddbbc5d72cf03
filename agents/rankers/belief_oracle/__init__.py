"""Belief oracle: knows the world and its dynamics, but of a user only the public history."""
