"""Training steps: pure functions of state and batch, and how they run on all devices."""
