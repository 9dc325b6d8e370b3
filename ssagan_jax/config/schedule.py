"""How many steps each of the two training stages takes."""

import dataclasses

from ml_collections import ConfigDict

from ssagan_jax.config import ConfigError, warm_start_dir


@dataclasses.dataclass(frozen=True)
class Stage:
    """One of the two training stages.

    Attributes:
      name: "encoders" or "gan".
      first: number of steps before the stage.
      last: number of steps at its end.
    """

    name: str
    first: int
    last: int


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The steps of a run, counted over both stages.

    Attributes:
      steps_per_epoch: steps in which every training image is seen once.
      damsm_steps: steps of stage 1, which trains the encoders.
      total_steps: steps of both stages.
    """

    steps_per_epoch: int
    damsm_steps: int
    total_steps: int

    @property
    def damsm_stage(self) -> Stage:
        """Stage 1."""
        return Stage("encoders", 0, self.damsm_steps)

    @property
    def gan_stage(self) -> Stage:
        """Stage 2."""
        return Stage("gan", self.damsm_steps, self.total_steps)

    def is_generator_trained(self, step: int) -> bool:
        """Whether the generator has been trained at a step; a converted one has from step 0 on."""
        return step > self.damsm_steps or not self.damsm_steps

    def check_can_resume(self, step: int, saved: "Schedule") -> None:
        """Checks that a run may go on from a step with this schedule.

        Args:
          step: of the checkpoint.
          saved: the run's schedule so far.

        Raises:
          ConfigError: epochs or stage 1 have other lengths, since the data set has changed, or the
            step is after the last one.
        """
        if (self.steps_per_epoch, self.damsm_steps) != (saved.steps_per_epoch, saved.damsm_steps):
            raise ConfigError(
                f"an epoch of this run has {saved.steps_per_epoch} steps, but now the data set has "
                f"images for {self.steps_per_epoch}; prepare the former data again, or choose "
                "another --workdir and set config.train.checkpoint to this one to start from it"
            )
        if step > self.total_steps:
            raise ConfigError(
                f"this run has taken {max(step - self.damsm_steps, 0)} steps of stage 2 already, "
                f"but config.train.steps or config.train.epochs allow only "
                f"{self.total_steps - self.damsm_steps}; raise them"
            )

    def gan_epoch(self, step: int) -> float:
        """Epochs of stage 2 completed at a step."""
        return max(step - self.damsm_steps, 0) / self.steps_per_epoch


def batches_per_damsm_step(config: ConfigDict) -> int:
    """Batches of `config.train.batch_size` images in a step of stage 1."""
    return (config.damsm.batch_size or config.train.batch_size) // config.train.batch_size


def make_schedule(config: ConfigDict, num_train_images: int) -> Schedule:
    """The schedule of a run; with trained encoders (`warm_start_dir`) there is no stage 1."""
    steps_per_epoch = num_train_images // config.train.batch_size
    damsm_steps_per_epoch = max(1, steps_per_epoch // batches_per_damsm_step(config))
    damsm_steps = config.damsm.steps or config.damsm.epochs * damsm_steps_per_epoch
    gan_steps = config.train.steps or config.train.epochs * steps_per_epoch
    if warm_start_dir(config):
        damsm_steps = 0
    return Schedule(steps_per_epoch, damsm_steps, damsm_steps + gan_steps)
