"""What a compiled step holds in the memory of each device, by XLA's own analysis."""

import jax


def step_memory(compiled: jax.stages.Compiled) -> dict[str, int] | None:
    """Bytes on each device while a compiled function runs; None where the backend does not tell.

    Returns:
      "arguments" and "outputs"; "aliased", the outputs that take the place of donated arguments;
      "temporary", what is held on the way; and "total", their sum with the aliased counted once.
    """
    found = compiled.memory_analysis()
    if found is None:
        return None
    sizes = {
        "arguments": found.argument_size_in_bytes,
        "outputs": found.output_size_in_bytes,
        "aliased": found.alias_size_in_bytes,
        "temporary": found.temp_size_in_bytes,
    }
    total = sizes["arguments"] + sizes["outputs"] - sizes["aliased"] + sizes["temporary"]
    return sizes | {"total": total}


def format_memory(compiled: jax.stages.Compiled) -> str:
    """One line for the terminal: what a compiled step takes on each device, in GiB."""
    sizes = step_memory(compiled)
    if sizes is None:
        return "a step's memory is not known: this backend has no analysis of it"
    total, given = sizes["total"], sizes["arguments"]
    unit, name = (2**30, "GiB") if total >= 2**30 else (2**20, "MiB")
    return (
        f"a step takes {total / unit:.1f} {name} on each device ({given / unit:.1f} state and "
        f"batch, {(total - given) / unit:.1f} working memory)"
    )
