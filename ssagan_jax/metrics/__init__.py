"""Scores of images and captions: features to statistics to a number."""
