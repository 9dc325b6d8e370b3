"""Readers of the layouts in which people keep captioned pictures, one a module."""
