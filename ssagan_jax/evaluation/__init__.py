"""Scores of a trained model, in training and afterwards."""
