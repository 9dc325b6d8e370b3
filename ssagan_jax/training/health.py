"""Measures a run's health, and warns of trouble on the terminal and in the log."""

from absl import logging

from ssagan_jax.distributed import is_primary, print_on_primary
from ssagan_jax.evaluation.health_log import Measurement, find_warnings, write_health
from ssagan_jax.steps.state import TrainState
from ssagan_jax.training.run import TrainingRun


def measure_health(run: TrainingRun, state: TrainState) -> dict[str, float]:
    """Measures a state, appends the values to health.jsonl, and warns if they ask for it.

    All processes take part; the values are those of `HealthProbe`.
    """
    step, values = int(state.step), run.health_probe(state)
    if is_primary():
        measurements = write_health(run.workdir, Measurement(step, values))
        for warning in find_warnings(measurements).get(step, []):
            logging.warning("%s", warning)
            print_on_primary(f"warning: {warning}")
    return values
