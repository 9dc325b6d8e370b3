"""Imports go down only, and painting needs no tensorflow."""

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "ssagan_jax"
# From the top down. A module may import from its own layer and those below it.
LAYERS = (
    {"main"},
    {"sample", "evaluate", "report", "prepare", "convert"},
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
    "atomic_files": set(),
    "fixed_samples": {"atomic_files"},
    "config": {"errors"},
    "config_validation": {"config", "errors"},
    "schedule": {"config"},
    "distributed": {"errors"},
}


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


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
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return {name for name in found if name.partition(".")[0] == PACKAGE}


def part(module):
    """ "models" for "ssagan_jax.models.layers"."""
    return module.split(".")[1] if "." in module else ""


def layer(module):
    (index,) = (index for index, names in enumerate(LAYERS) if part(module) in names)
    return index


@pytest.mark.parametrize("module", [name for name in MODULES if part(name)])
def test_imports_go_down(module):
    for imported in imports(MODULES[module]):
        assert imported in MODULES
        if part(module) in GROUND:
            assert part(imported) in GROUND[part(module)]
        elif part(imported) in GROUND:
            assert part(module) != "models", f"{module} imports {imported}"
        else:
            assert layer(imported) >= layer(module), f"{module} imports {imported}"


def test_the_package_itself_imports_nothing():
    assert imports(MODULES[PACKAGE]) == set()


def test_no_imports_go_round():
    graph = {module: imports(path) for module, path in MODULES.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


def test_models_training_and_sampling_import_no_tensorflow_and_no_torch():
    rooms = ("models", "steps", "checkpointing", "pytorch", "inference", "sample", "convert")
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
