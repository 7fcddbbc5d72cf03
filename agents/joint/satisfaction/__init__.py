"""Classifier of satisfaction: reads a user's texts and an item's text."""
