"""Recommenders on real logs: what users like later, in records held out by time."""
