"""Text-to-image GANs with semantic-spatial aware blocks, in JAX."""

__version__ = "0.1.0"
