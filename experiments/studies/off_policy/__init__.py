"""Off-policy evaluation: what policies would earn, from logs of another."""
