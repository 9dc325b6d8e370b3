"""Data sources, tokenizers and the input pipeline."""
