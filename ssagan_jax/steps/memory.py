"""Memory that a compiled step needs on each device, according to XLA's analysis."""

import jax


def step_memory(compiled: jax.stages.Compiled) -> dict[str, int] | None:
    """Bytes on each device while a compiled function runs; None if the backend has no analysis.

    Returns:
      "arguments" and "outputs"; "aliased", the outputs stored in donated arguments; "temporary",
      intermediate results; and "total", the sum of these with aliased outputs counted once.
    """
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    sizes = {
        "arguments": analysis.argument_size_in_bytes,
        "outputs": analysis.output_size_in_bytes,
        "aliased": analysis.alias_size_in_bytes,
        "temporary": analysis.temp_size_in_bytes,
    }
    total = sizes["arguments"] + sizes["outputs"] - sizes["aliased"] + sizes["temporary"]
    return sizes | {"total": total}


def format_memory(compiled: jax.stages.Compiled) -> str:
    """One line for the terminal: the memory of a compiled step on each device."""
    sizes = step_memory(compiled)
    if sizes is None:
        return "memory of a step: unknown, this backend does not report it"
    total, arguments = sizes["total"], sizes["arguments"]
    unit, name = (2**30, "GiB") if total >= 2**30 else (2**20, "MiB")
    return (
        f"memory of a step: {total / unit:.1f} {name} on each device ({arguments / unit:.1f} for "
        f"state and batch, {(total - arguments) / unit:.1f} for intermediate results)"
    )
