"""The fixed samples of a run: the same captions and noise in every sample grid."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class FixedSamples:
    """What every sample grid of a run shows.

    Attributes:
      captions: one per row.
      noise: f32[R, N], standard normal.
      real: u8[R, S, S, 3], the images that the captions belong to.
    """

    captions: list[str]
    noise: np.ndarray
    real: np.ndarray


@dataclasses.dataclass(frozen=True)
class GeneratedSamples:
    """The generated images of one sample grid.

    Attributes:
      images: u8[R, S, S, 3], one for each row of `FixedSamples`.
      mask: u8[R, S, S], the last fusion mask, 0 to 255; zeros for a generator without masks.
    """

    images: np.ndarray
    mask: np.ndarray
