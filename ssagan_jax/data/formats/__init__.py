"""Readers of the layouts of captioned pictures on disk, one module each."""
