"""Bundled catalogues: generated videos and MovieLens films."""
