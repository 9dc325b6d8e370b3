"""How many steps a run takes, and in which of its two stages a step lies."""

from typing import NamedTuple

from ml_collections import ConfigDict

from ssagan_jax.configuration import donor_of, steps_of


class Stages(NamedTuple):
    """Steps of a run.

    Attributes:
      per_epoch: steps in which every training picture comes up once.
      damsm: of stage 1.
      total: of both stages.
    """

    per_epoch: int
    damsm: int
    total: int

    def has_generator(self, step: int) -> bool:
        """Whether the generator was trained at a step; a converted one is from step 0 on."""
        return step > self.damsm or not self.damsm

    def epoch(self, step: int) -> float:
        """Epochs of the GAN's training done at a step."""
        return max(step - self.damsm, 0) / self.per_epoch


def stages_of(config: ConfigDict, num_pictures: int) -> Stages:
    """The stages of a run on so many training pictures; trained encoders need no stage 1."""
    per_epoch = num_pictures // config.train.batch_size
    damsm = 0 if donor_of(config) else steps_of(config.damsm, per_epoch)
    return Stages(per_epoch, damsm, damsm + steps_of(config.train, per_epoch))
