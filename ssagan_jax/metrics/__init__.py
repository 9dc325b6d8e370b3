"""Scores of pictures and captions."""
