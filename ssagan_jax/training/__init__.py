"""Training with its side effects: the loop, checkpoints, progress, signals, warm starts."""
