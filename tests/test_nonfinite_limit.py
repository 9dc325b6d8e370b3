"""Steps that are not finite are reported; too many in a row end the run."""

import math

import pytest

from ssagan_jax.errors import TrainingError
from ssagan_jax.training.nonfinite_limit import NonFiniteLimit

FINITE = {"discriminator/magp": 0.5, "nonfinite/discriminator": 0.0}
NONFINITE = {"discriminator/magp": math.nan, "nonfinite/discriminator": 1.0}
GRADIENT = {"discriminator/magp": 0.5, "nonfinite/generator": 1.0}


def test_a_nonfinite_step_is_reported_with_its_terms(capsys):
    nonfinite_limit = NonFiniteLimit(3, "gan")
    nonfinite_limit.check(8, FINITE)
    assert capsys.readouterr().out == ""
    nonfinite_limit.check(9, NONFINITE)
    assert capsys.readouterr().out == (
        "step 9: discriminator/magp is nan; skipped the update of discriminator (1 in a row, "
        "config.train.max_nonfinite_steps=3)\n"
    )
    nonfinite_limit.check(10, GRADIENT)
    assert (
        "step 10: a gradient is not finite; skipped the update of generator (2"
        in capsys.readouterr().out
    )


def test_too_many_in_a_row_end_the_run():
    nonfinite_limit = NonFiniteLimit(2, "gan")
    for step, metrics in enumerate((NONFINITE, FINITE, NONFINITE, FINITE)):
        nonfinite_limit.check(step, metrics)
    nonfinite_limit.check(4, NONFINITE)
    with pytest.raises(TrainingError, match=r"step 5: .* \(2 in a row.*checkpoint is intact"):
        nonfinite_limit.check(5, NONFINITE)


def test_a_term_of_every_third_step_alone_can_end_the_run():
    nonfinite_limit = NonFiniteLimit(3, "gan", period=3)
    values = [NONFINITE if step % 3 == 1 else FINITE for step in range(9)]
    for step, metrics in enumerate(values[:7]):
        nonfinite_limit.check(step, metrics)
    with pytest.raises(TrainingError, match=r"step 7: .* \(3 in a row"):
        nonfinite_limit.check(7, values[7])


def test_what_to_do_depends_on_the_stage():
    """In stage 1 no checkpoint may have been saved, and none can be continued as a GAN."""
    with pytest.raises(TrainingError, match=r"lower config\.damsm\.learning_rate and start again"):
        NonFiniteLimit(1, "encoders").check(1, NONFINITE)
