"""BOUNDARY: what agents observe and how they act, computed from public history alone."""
