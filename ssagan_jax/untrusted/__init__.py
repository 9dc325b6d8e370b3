"""Readers of files of unknown origin: bounded by `limits`, and building nothing but plain data."""
