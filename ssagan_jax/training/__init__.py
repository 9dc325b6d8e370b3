"""State, losses and the data-parallel training steps."""
