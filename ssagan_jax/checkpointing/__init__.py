"""Checkpoints of state and data position, with checksums."""
