"""Steps that are not finite are told; too many in a row end the run."""

import jax.numpy as jnp
import pytest

from ssagan_jax.bad_steps import BadSteps
from ssagan_jax.failures import TrainingError

GOOD = {"discriminator/magp": jnp.asarray(0.5), "bad/discriminator": jnp.asarray(0.0)}
BAD = {"discriminator/magp": jnp.asarray(jnp.nan), "bad/discriminator": jnp.asarray(1.0)}
GRADIENT = {"discriminator/magp": jnp.asarray(0.5), "bad/generator": jnp.asarray(1.0)}


def test_a_bad_step_is_told_with_its_term(capsys):
    bad_steps = BadSteps(3)
    bad_steps.look(7, None)
    bad_steps.look(8, GOOD)
    assert capsys.readouterr().out == ""
    bad_steps.look(9, BAD)
    assert capsys.readouterr().out == (
        "step 9: discriminator/magp is nan; no update of discriminator (1 in a row, "
        "config.train.max_bad_steps=3)\n"
    )
    bad_steps.look(10, GRADIENT)
    assert "step 10: a gradient is not finite; no update of generator (2" in capsys.readouterr().out


def test_too_many_in_a_row_end_the_run():
    bad_steps = BadSteps(2)
    for step, metrics in enumerate((BAD, GOOD, BAD, GOOD)):
        bad_steps.look(step, metrics)
    bad_steps.look(4, BAD)
    with pytest.raises(TrainingError, match=r"step 5: .* \(2 in a row.*checkpoint is whole"):
        bad_steps.look(5, BAD)
