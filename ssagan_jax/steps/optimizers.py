"""The optimizers of a run."""

import dataclasses

import optax
from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Optimizers:
    """Adam for each network, and for the encoders in each stage."""

    damsm: optax.GradientTransformation
    encoders: optax.GradientTransformation
    generator: optax.GradientTransformation
    discriminator: optax.GradientTransformation


def build_optimizers(config: ConfigDict, damsm_steps: int) -> Optimizers:
    """Adam as in the paper; stage 1 warms up and falls along a cosine to stage 2's rate."""
    train, damsm = config.train, config.damsm

    def adam(rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        return optax.adam(rate, b1=train.b1, b2=train.b2)

    warmup = min(damsm.warmup_steps, damsm_steps // 2)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, damsm.learning_rate, warmup, max(damsm_steps, 1), train.encoder_learning_rate
    )
    # In form like stage 1's, so that the optimizer's state looks alike in both stages.
    constant = optax.constant_schedule(train.encoder_learning_rate)
    clip = optax.clip_by_global_norm(damsm.clip_norm)
    return Optimizers(
        damsm=optax.chain(clip, optax.adam(rate, b1=damsm.b1, b2=damsm.b2)),
        encoders=optax.chain(optax.identity(), adam(constant)),
        generator=adam(config.generator.learning_rate),
        discriminator=adam(config.discriminator.learning_rate),
    )
