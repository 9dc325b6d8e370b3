"""Scores of a trained model, during training and afterwards."""
