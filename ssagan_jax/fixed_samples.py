"""The fixed samples of a run: the same captions and noise in every sample grid."""

import dataclasses
import os

import numpy as np

from ssagan_jax.atomic_files import atomic_path


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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an .npz file atomically."""
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            captions = np.asarray(self.captions, dtype=np.str_)
            np.savez_compressed(file, captions=captions, noise=self.noise, real=self.real)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "FixedSamples":
        """Reads what `save` wrote; raises OSError or ValueError for anything else."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["captions"].tolist(), file["noise"], file["real"])


@dataclasses.dataclass(frozen=True)
class GeneratedSamples:
    """The generated images of one sample grid.

    Attributes:
      images: u8[R, S, S, 3], one for each row of `FixedSamples`.
      mask: u8[R, S, S], the last fusion mask, 0 to 255; zeros for a generator without masks.
    """

    images: np.ndarray
    mask: np.ndarray

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an .npz file atomically."""
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, images=self.images, mask=self.mask)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "GeneratedSamples":
        """Reads what `save` wrote; raises OSError or ValueError for anything else."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["images"], file["mask"])
