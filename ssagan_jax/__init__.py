"""Text-to-image GANs with semantic-spatial aware blocks, in JAX."""

import importlib.metadata
import os
import re

__version__ = "0.1.0"


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
