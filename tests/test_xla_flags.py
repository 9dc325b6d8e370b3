"""XLA's YNN fusions, which compute wrong numbers on the CPU, are off in every process of ours."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLAG = "--xla_cpu_experimental_ynn_fusion_type"
# https://github.com/jax-ml/jax/issues/39103
PROGRAM = """
import jax
import jax.numpy as jnp

def last_squared_norm(count):
    first = jnp.arange(count, dtype=jnp.float32)
    rows = jnp.stack((first, jnp.zeros_like(first), jnp.zeros_like(first)), axis=1)
    identity = jnp.eye(3, dtype=jnp.float32)
    return jax.jit(jax.vmap(lambda row: jnp.sum((identity @ row) ** 2)))(rows)[-1]

print(float(last_squared_norm(32_769)))
"""


def run(program, **variables):
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | variables
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("flags", ["", "--xla_cpu_enable_fast_math=false"])
def test_a_sum_after_a_product_is_right_in_a_process_that_imports_the_package(flags):
    assert run("import ssagan_jax" + PROGRAM, XLA_FLAGS=flags) == "1073741824.0"


@pytest.mark.skipif(
    importlib.metadata.version("jaxlib") != "0.10.2", reason="only jaxlib 0.10.2 shows it here"
)
def test_the_same_sum_is_wrong_without_the_package():
    assert run(PROGRAM) != "1073741824.0"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{FLAG}="),
        ("--xla_dump_to=x", f"--xla_dump_to=x {FLAG}="),
        (
            f"{FLAG}=individual_dot --xla_dump_to=x",
            f"{FLAG}=individual_dot --xla_dump_to=x",
        ),
    ],
)
@pytest.mark.parametrize("module", ["ssagan_jax", "ssagan_jax.errors"])
def test_flags_of_the_user_are_kept(before, after, module):
    program = f"import os, {module}; print(os.environ['XLA_FLAGS'])"
    assert run(program, XLA_FLAGS=before) == after


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        *(("0.9.2", ""), ("0.10.2", f"{FLAG}="), ("0.12.0.1", f"{FLAG}="), ("0.13.0", "")),
        ("1.0.0", ""),
    ],
)
def test_versions_of_jaxlib_that_were_not_tried_are_left_alone(version, expected):
    program = (
        "import importlib.metadata as metadata, os\n"
        f"metadata.version = lambda name: {version!r}\n"
        "import ssagan_jax; print(os.environ.get('XLA_FLAGS', ''))"
    )
    assert run(program) == expected
