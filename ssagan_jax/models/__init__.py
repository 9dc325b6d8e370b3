"""Networks: pure functions of parameters and inputs (flax.linen), without project dependencies."""
