"""A trained model as ONNX: text encoder and generator in one graph, for a batch of any size."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np

from ssagan_jax.exporting.generate_function import (
    INPUT_NAMES,
    ExportError,
    check_outputs,
    generate_function,
)
from ssagan_jax.inference.trained_model import TrainedModel
from ssagan_jax.models.generator import num_blocks

FILE = "model.onnx"
_OPSET = 21
_MAX_BYTES = 2**31 - 1  # of a protocol buffer


def check_onnx_installed() -> None:
    """Raises ExportError, with the command that installs them, if packages are missing."""
    try:
        import jax2onnx  # noqa: F401
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"--onnx and --web need packages that are not installed ({error.name}); run "
            "pip install 'ssagan_jax[onnx]', in a clone of the project pip install -e '.[onnx]'"
        ) from error


def convert_to_onnx(model: TrainedModel) -> tuple[bytes, float]:
    """Converts a model, and compares it with JAX in onnxruntime.

    Inputs are tokens i32[B, T], mask bool[B, T] and noise f32[B, N]; outputs are image
    f32[B, S, S, 3] in (-1, 1) and the fusion masks mask_4 f32[B, 4, 4, 1], mask_8 f32[B, 8, 8, 1],
    ... in (0, 1), as of `generate_function.generate`.

    Returns:
      The file's content and the largest difference.

    Raises:
      ExportError: packages are missing, it cannot be converted, or the difference is too large.
    """
    check_onnx_installed()
    import jax
    import jax2onnx
    import onnx
    import onnxruntime

    words, noise_dim = model.config.data.max_words, model.config.generator.noise_dim
    inputs = [
        jax.ShapeDtypeStruct(("B", words), np.int32),
        jax.ShapeDtypeStruct(("B", words), np.bool_),
        jax.ShapeDtypeStruct(("B", noise_dim), np.float32),
    ]
    blocks = min(model.config.generator.ssacn_blocks, num_blocks(model.config.data.image_size))
    names = ["image", *(f"mask_{4 * 2**index}" for index in range(blocks))]
    # The converter's own code promotes ranks.
    with _quiet(), jax.numpy_rank_promotion("allow"):
        converted = jax2onnx.to_onnx(
            generate_function(model),
            inputs,
            model_name="ssagan_jax",
            opset=_OPSET,
            input_names=INPUT_NAMES,
            output_names=names,
        )
    for node in converted.graph.node:
        if node.op_type == "CastLike":  # onnxruntime warns about those of constants.
            node.op_type = "Cast"
            del node.input[1:]
            node.attribute.append(onnx.helper.make_attribute("to", onnx.TensorProto.FLOAT))
    if converted.ByteSize() > _MAX_BYTES:
        raise ExportError("--onnx: the model has more than 2 GiB, which an ONNX file cannot hold")
    content = converted.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        return session.run(names, dict(zip(INPUT_NAMES, arrays, strict=True)))

    return content, check_outputs("--onnx", model, call, (1, words + 1))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the converter's progress and notes."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(level)
