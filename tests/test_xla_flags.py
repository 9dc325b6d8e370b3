"""XLA's YNN fusions, which compute wrong numbers on the CPU, are off in every process of ours."""

import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ssagan_jax

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
    ("version", "before", "after"),
    [
        ("0.10.2", "", f"{FLAG}="),
        ("0.10.2", "--xla_dump_to=x", f"--xla_dump_to=x {FLAG}="),
        ("0.10.2", f"{FLAG}=individual_dot", f"{FLAG}=individual_dot"),
        ("0.12.0.1", "", f"{FLAG}="),
        # Versions that were not tried.
        ("0.9.2", "", ""),
        ("0.13.0", "", ""),
        ("1.0.0", "--xla_dump_to=x", "--xla_dump_to=x"),
    ],
)
def test_the_flag_is_set_for_known_versions_and_the_users_flags_are_kept(
    version, before, after, monkeypatch
):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    monkeypatch.setenv("XLA_FLAGS", before)
    importlib.reload(ssagan_jax)
    assert os.environ["XLA_FLAGS"] == after
