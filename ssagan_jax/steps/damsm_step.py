"""Stage 1: one training step of the encoders, which DAMSM trains on real images and captions."""

from ssagan_jax.models.collectives import mean_across_devices
from ssagan_jax.steps.encoder_update import update_encoders
from ssagan_jax.steps.networks import normalize_images
from ssagan_jax.steps.state import Batch, Metrics, StepContext, TrainState, step_keys


def damsm_step(context: StepContext, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One update of both encoders (eq. 2); metrics are means over the devices."""
    batch = batch | {"image": normalize_images(batch["image"])}
    dropout_key, _ = step_keys(state)
    optimizer = context.optimizers.damsm
    state, _, metrics = update_encoders(context, optimizer, state, batch, dropout_key)
    metrics = mean_across_devices(metrics, context.axis_name)
    return state.replace(step=state.step + 1), metrics
