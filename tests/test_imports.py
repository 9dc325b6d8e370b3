"""Imports go down only, and generating images needs no TensorFlow."""

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "ssagan_jax"
# From the top down. A module may import from its own layer and those below it.
LAYERS = (
    {"__main__", "main"},
    {"sample", "evaluate", "report", "prepare", "convert", "export", "serve"},
    {"exporting", "serving"},
    {"training", "reporting"},
    {"evaluation"},
    {"inference", "metrics"},
    {"pytorch", "checkpointing"},
    {"steps", "workdir"},
    {"data"},
    {"models"},
)
# Below every layer but the models, which know nothing of the project.
GROUND = {
    "": set(),
    "errors": set(),
    "atomic_files": {"errors"},
    "compilation_cache": {"errors"},
    "fixed_samples": set(),
    "progress": set(),
    "config": {"config", "errors"},
    "distributed": {"errors"},
    "untrusted": {"untrusted", "errors"},
}


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def part(module):
    """ "models" for "ssagan_jax.models.layers"."""
    return module.split(".")[1] if "." in module else ""


def imports(path):
    """Modules of the project that a file imports, inside functions too but not for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES else node.module)
    return {name for name in found if name.partition(".")[0] == PACKAGE}


GRAPH = {module: imports(path) for module, path in MODULES.items()}


def layer(module):
    (index,) = (index for index, names in enumerate(LAYERS) if part(module) in names)
    return index


def may_import(module, imported):
    if part(module) in GROUND:
        return part(imported) in GROUND[part(module)]
    if part(imported) in GROUND:
        return part(module) != "models"
    return layer(imported) >= layer(module)


def test_imports_go_down_and_the_package_itself_imports_nothing():
    edges = [(module, imported) for module in GRAPH for imported in GRAPH[module]]
    assert {imported for _, imported in edges} <= GRAPH.keys()
    assert [edge for edge in edges if not may_import(*edge)] == []


def test_imports_have_no_cycle():
    assert len(list(graphlib.TopologicalSorter(GRAPH).static_order())) == len(MODULES)


def test_models_training_and_sampling_import_no_tensorflow_and_no_torch():
    rooms = ("models", "steps", "checkpointing", "pytorch", "inference", "exporting")
    rooms += ("sample", "convert", "export", "serve")
    modules = [name for name in MODULES if part(name) in rooms]
    assert len(modules) > 15
    program = (
        f"import {', '.join(modules)}, sys\n"
        "print([name for name in ('tensorflow', 'torch') if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
