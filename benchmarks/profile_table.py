"""Which operations of a step take the time: a trace, summed by network, layer and kind."""

import collections
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from direct_step import DirectStep

_INSTRUCTION = re.compile(r'%?([\w.-]+) = .*?metadata=\{[^}]*op_name="([^"]*)"')
_NETWORKS = {
    "LstmTextEncoder": "text encoder",
    "BertTextEncoder": "text encoder",
    "CnnImageEncoder": "image encoder",
    "Generator": "generator",
    "Discriminator": "discriminator",
}


def operation_names(hlo: str) -> dict[str, str]:
    """JAX's name of each instruction of an optimized program that has one."""
    return dict(_INSTRUCTION.findall(hlo))


def layer_and_kind(name: str) -> tuple[str, str]:
    """ "generator block3", "backward conv_general_dilated" of a name that JAX gives."""
    scopes, kind = re.split(r"[/()]+", name), name.rpartition("/")[2].rstrip(")")
    network = next((label for scope, label in _NETWORKS.items() if scope in scopes), "other")
    block = next((s for s in scopes if re.fullmatch(r"(block|mask|blocks_|Conv_)\d+", s)), "")
    direction = "backward " if "transpose(" in name else ""
    return f"{network} {block}".strip(), direction + kind


def profile_table(step: "DirectStep", steps: int = 3, rows: int = 25) -> str:
    """A Markdown table of the operations that take most of some steps, which it runs."""
    names = operation_names(step.compiled.as_text())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            step.run(steps)
        (file,) = Path(folder).rglob("*.xplane.pb")
        seconds = _seconds_by_instruction(jax.profiler.ProfileData.from_file(str(file)), names)
    if not seconds:
        return "no operation of the step is in the trace\n"
    grouped: dict[tuple[str, str], float] = collections.defaultdict(float)
    for instruction, duration in seconds.items():
        grouped[layer_and_kind(names[instruction])] += duration
    total = sum(grouped.values())
    lines = ["| layer | operation | ms per step | share |", "| --- | --- | --- | --- |"]
    ordered = sorted(grouped.items(), key=lambda item: -item[1])
    for (layer, kind), duration in ordered[:rows]:
        lines.append(
            f"| {layer} | {kind} | {duration / steps * 1e3:.2f} | {duration / total:.1%} |"
        )
    return "\n".join(lines) + "\n"


def _seconds_by_instruction(profile: Any, names: dict[str, str]) -> dict[str, float]:
    """Seconds in each instruction with a name, over all threads or streams of the devices."""
    seconds: dict[str, float] = collections.defaultdict(float)
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                instruction = event.name
                if instruction not in names:
                    instruction = str(dict(event.stats).get("hlo_op", ""))
                if instruction in names:
                    seconds[instruction] += event.duration_ns / 1e9
    return seconds
