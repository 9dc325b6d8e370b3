"""Data sets in TFDS format: their builder, their one writer, and how they are found by name."""
