"""Commands for a single agent: train, evaluate, watch, report."""
