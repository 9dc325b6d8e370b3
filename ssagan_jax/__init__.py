"""Text-to-image GANs with semantic-spatial aware blocks, in JAX.

    import ssagan_jax

    model = ssagan_jax.load_model("runs/quickstart")
    images = model.paint("a red pickup truck on the beach", num=4, seed=3)

The names below are imported when they are first used, since JAX takes seconds.
"""

import importlib
import importlib.metadata
import logging
import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssagan_jax.errors import InputError
    from ssagan_jax.inference.model_loading import load_model
    from ssagan_jax.inference.trained_model import TrainedModel

__version__ = "0.1.0"
__all__ = ["InputError", "TrainedModel", "load_model"]

_MODULES = {
    "InputError": "ssagan_jax.errors",
    "TrainedModel": "ssagan_jax.inference.trained_model",
    "load_model": "ssagan_jax.inference.model_loading",
}


def __getattr__(name: str) -> Any:
    """Imports a public name (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    handlers = logging.root.handlers[:]
    module = importlib.import_module(_MODULES[name])
    # Orbax logs while it is imported, after which logging.basicConfig would do nothing.
    logging.root.handlers[:] = handlers
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def _disable_ynn_fusions() -> None:
    """Disables XLA's YNN fusions on the CPU, unless XLA_FLAGS says otherwise.

    With them jaxlib 0.10.2 to 0.11 compute wrong numbers or crash (jax issues 39103, 39257, 40412),
    and a training step takes 5 to 10 % longer. XLA reads the variable when its backend starts, and
    aborts at a flag that it does not know, so versions that were not tried are left alone.
    """
    flag = "--xla_cpu_experimental_ynn_fusion_type"
    flags = os.environ.get("XLA_FLAGS", "")
    version = re.match(r"(\d+)\.(\d+)", importlib.metadata.version("jaxlib"))
    if (0, 10) <= tuple(map(int, version.groups())) <= (0, 12) and flag not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}=".strip()


_disable_ynn_fusions()
