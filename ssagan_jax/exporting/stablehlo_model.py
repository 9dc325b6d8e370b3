"""A trained model as StableHLO, which other JAX programs call without this project."""

import jax
import numpy as np

from ssagan_jax.exporting.generate_function import check_outputs, generate_function
from ssagan_jax.inference.trained_model import TrainedModel

FILE = "model.stablehlo"
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def convert_to_stablehlo(model: TrainedModel) -> tuple[bytes, float]:
    """Serializes a model by `jax.export` for a batch of any size, and compares it with JAX.

    `jax.export.deserialize(content).call(tokens, mask, noise)` returns images and masks, with
    shapes as of `generate_function.generate`.

    Returns:
      The file's content and the largest difference.

    Raises:
      ExportError: the difference is too large.
    """
    words, noise_dim = model.config.data.max_words, model.config.generator.noise_dim
    (batch,) = jax.export.symbolic_shape("B")
    exported = jax.export.export(jax.jit(generate_function(model)), platforms=_PLATFORMS)(
        jax.ShapeDtypeStruct((batch, words), np.int32),
        jax.ShapeDtypeStruct((batch, words), np.bool_),
        jax.ShapeDtypeStruct((batch, noise_dim), np.float32),
    )
    content = bytes(exported.serialize())
    call = jax.export.deserialize(bytearray(content)).call

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(output) for output in call(*arrays)]

    return content, check_outputs("--stablehlo", model, run, (1, words + 1))
