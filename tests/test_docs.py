"""README, docs and the notebook: links, config keys, commands and paths in them exist."""

import argparse
import importlib
import pkgutil
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from absl import flags

import ssagan_jax.main
from ssagan_jax.config import default_config, flatten
from ssagan_jax.config.validation import validate

ROOT = Path(__file__).parents[1]
README, ARCHITECTURE = ROOT / "README.md", ROOT / "docs" / "architecture.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS, ROOT / "launch" / "colab.ipynb"]
DEFAULTS = flatten(default_config())
SECTIONS = "|".join({key.partition(".")[0] for key in DEFAULTS if "." in key})
FILE = r"\w+\.(?:md|py|json|lock|log|safetensors)\b"
KEY = rf"(?:(?:--)?config\.(?=[a-z])|(?=(?:{SECTIONS})\.))(?!{FILE})(\w+(?:\.\w+)?)"
README_LINES = 150


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken_links(text: str, folder: Path = ROOT) -> Iterator[str]:
    """Relative links to files or headings that do not exist."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        file = folder / path
        if re.match(r"https?:", target) or (path and file.exists() and not anchor):
            continue
        content = text if not path else file.read_text() if file.is_file() else ""
        headings = re.findall(r"^#+ (.+)$", content, re.MULTILINE)
        if anchor not in map(slug, headings):
            yield target


def typed(key: str, value: str) -> object:
    """The value of a config key, from its text; raises ValueError or KeyError."""
    kind = type(DEFAULTS[key])
    return {"True": True, "False": False}[value] if kind is bool else kind(value)


def with_value(config, key: str, value: str):
    section, _, name = key.rpartition(".")
    target = config[section] if section else config
    target[name] = typed(key, value)
    return config


def wrong_keys(text: str, _: Path = ROOT) -> Iterator[str]:
    """Config keys that do not exist, values that they cannot have, and wrong defaults in tables."""
    for key, value in re.findall(rf"`(?!{FILE}){KEY}(?:=([^`\s]+))?`", text):
        try:
            validate(with_value(default_config(), key, value) if value else default_config())
            assert key in DEFAULTS
        except (ValueError, KeyError, AssertionError):
            yield f"{key}={value}"
    for row in rows_with_defaults(text):
        keys = re.findall(r"`([\w.]+)`", row["key"])
        defaults = row["default"].split(", ")
        for key, default in zip(keys, defaults * (len(keys) // len(defaults)), strict=True):
            if key not in DEFAULTS or typed(key, default) != DEFAULTS[key]:
                yield f"{key}: {default}"


def rows_with_defaults(text: str) -> Iterator[dict[str, str]]:
    """Rows of the tables that have columns "key" and "default"."""
    header: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        header = (header or cells) if line.startswith("|") else []
        if {"key", "default"} <= set(header) and cells[0].strip("-") and cells != header:
            yield dict(zip(header, cells, strict=True))


def commands(text: str) -> Iterator[list[str]]:
    """Words of the shell commands in code blocks and between backticks."""
    blocks = re.findall(r"^    (.+)$", text.replace("\\\n", ""), re.MULTILINE)
    for command in [*blocks, *re.findall(r"`([^`]+)`", text)]:
        if re.match(r"(python|bash|sbatch) ", command):
            yield shlex.split(command, comments=True)


@cache
def parser_of(module: str) -> argparse.ArgumentParser:
    """The parser of a command, which is ended before it parses."""
    parsers = []

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        parsers.append(parser)
        sys.exit()

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        importlib.import_module(module).main()
    return parsers[0]


def reason_to_reject(words: list[str]) -> str:
    """Why a command of a page would not start, or ""."""
    program, *arguments = words
    if program == "python" and arguments[0] == "-m" and arguments[1] == "ssagan_jax.main":
        return reason_of_training(arguments[2:])
    if program == "python" and arguments[0] == "-m" and arguments[1].startswith("ssagan_jax."):
        try:
            parser_of(arguments[1]).parse_args(arguments[2:])
        except (SystemExit, ImportError) as error:
            return f"{type(error).__name__}: {error}"
    scripts = [word for word in arguments if re.match(r"(launch|benchmarks)/", word)]
    for script in scripts:
        if not (ROOT / script).is_file():
            return f"{script} does not exist"
        content = (ROOT / script).read_text()
        given = [word for word in arguments[arguments.index(script) + 1 :] if word[0] == "-"]
        own = {word for word in given if word.partition("=")[0] in content}
        if script.startswith("launch/"):
            own = {word for word in own if not word.startswith("--config")}
            return reason_of_training([word for word in given if word not in own])
        if not own.issuperset(given):
            return f"{script} has no {set(given) - own}"
    return ""


def reason_of_training(arguments: list[str]) -> str:
    try:
        given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
        names = {argument.partition("=")[0].removeprefix("--") for argument in arguments}
        if unknown := {name for name in names if not name.startswith("config.")} - set(flags.FLAGS):
            return f"ssagan_jax.main has no {unknown}"
        if "--config" in given:
            file, *variant = given["--config"].split(":")
            config = runpy.run_path(str(ROOT / ssagan_jax.main.find_config(file)))["get_config"](
                *variant
            )
        else:
            config = default_config()
        for name, value in given.items():
            if name.startswith("--config."):
                with_value(config, name.removeprefix("--config."), value)
        validate(config)
    except (ValueError, KeyError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def invalid_commands(text: str, _: Path = ROOT) -> Iterator[str]:
    for words in commands(text):
        if reason := reason_to_reject(words):
            yield f"{shlex.join(words)}: {reason}"


def missing_paths(text: str, _: Path = ROOT) -> Iterator[str]:
    """Files, modules and names of the project that do not exist."""
    folders = "launch|benchmarks|configs|tests|docs|ssagan_jax"
    for path in re.findall(rf"(?<![\w/~.])(?:{folders})/[\w./-]*", text):
        if not (ROOT / path.rstrip(".")).exists():
            yield path
    for script in re.findall(r"`([\w-]+\.(?:sh|sbatch|ipynb))`", text):
        if not (ROOT / "launch" / script).is_file():
            yield script
    names = re.findall(r"(?<![\w/])ssagan_jax(?:\.\w+)+", text)
    for name in [*names, *map(":".join, re.findall(r"from (ssagan_jax[\w.]*) import (\w+)", text))]:
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            yield name


CHECKS = [broken_links, wrong_keys, invalid_commands, missing_paths]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page, check):
    assert list(check(page.read_text(), page.parent)) == []


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (broken_links, "[a](docs/nothing.md)"),
        (broken_links, "[a](docs/training.md#nothing)"),
        (broken_links, "# One\n[a](#two)"),
        (wrong_keys, "`train.nothing`"),
        (wrong_keys, "`config.nothing.steps`"),
        (wrong_keys, "`--config.train.nothing=1`"),
        (wrong_keys, "`data.bad_images=nothing`"),
        (wrong_keys, "| key | default |\n| --- | --- |\n| `seed`, `train.steps` | 0, 1 |"),
        (invalid_commands, "    python -m ssagan_jax.sample --workdir=a --nothing=b"),
        (invalid_commands, "`python -m ssagan_jax.sample --num=1`"),
        (invalid_commands, "    python -m ssagan_jax.nothing --workdir=a"),
        (invalid_commands, "    python -m ssagan_jax.main --nothing"),
        (invalid_commands, "    python -m ssagan_jax.main --config=configs/nothing.py"),
        (invalid_commands, "    python -m ssagan_jax.main \\\n        --config.train.nothing=1"),
        (invalid_commands, "    bash launch/nothing.sh"),
        (invalid_commands, "    bash launch/local.sh --nothing=1"),
        (invalid_commands, "`python benchmarks/memory.py --nothing`"),
        (missing_paths, "`ssagan_jax/nothing.py`"),
        (missing_paths, "`nothing.sh`"),
        (missing_paths, "    from ssagan_jax.config import nothing"),
    ],
)
def test_errors_in_pages_are_found(check, text):
    assert len(list(check(text))) == 1


def test_the_readme_is_short_and_links_every_page():
    text = README.read_text()
    assert len(text.splitlines()) <= README_LINES
    targets = set(re.findall(r"\]\(([^)#]+)", text))
    assert {str(page.relative_to(ROOT)) for page in DOCS} <= targets


def test_flags_that_pages_name_alone_belong_to_a_command_or_script():
    known = set(flags.FLAGS)
    for command in ("prepare", "sample", "evaluate", "report", "convert", "export", "serve"):
        known |= set(re.findall(r"--(\w+)", parser_of(f"ssagan_jax.{command}").format_help()))
    folders = (ROOT / "launch", ROOT / "benchmarks")
    scripts = [
        path.read_text() for folder in folders for path in folder.iterdir() if path.is_file()
    ]
    named = {
        flag
        for page in PAGES
        for flag in re.findall(r"`--([\w-]+)", page.read_text())
        if not any(f"--{flag}" in text for text in scripts)
    }
    assert len(known) > 40 and len(named) > 10
    # `--network=host` is Docker's.
    assert named - known == {"network"}


def test_the_help_of_commands_shows_defaults():
    commands = ("sample", "evaluate", "report", "convert", "export", "serve")
    flags_of_all = [
        (command, flag)
        for command in commands
        for flag in parser_of(f"ssagan_jax.{command}")._actions
        if flag.default or flag.type is int and flag.default == 0
        if flag.default != argparse.SUPPRESS
    ]
    assert len(flags_of_all) > 12
    silent = [f"{name}: {flag.dest}" for name, flag in flags_of_all if "(default" not in flag.help]
    assert silent == []


def tree() -> set[Path]:
    """The paths in architecture.md's tree, where indentation says which folder a name is in."""
    block = re.search(r"(?:^    .+\n)+", ARCHITECTURE.read_text(), re.MULTILINE)[0]
    found, folders = set(), [ROOT]
    for indent, names in re.findall(r"^    ( *)(\S+(?: \S+)*)", block, re.MULTILINE):
        folders = folders[: len(indent) // 2 + 1]
        for name in names.split():
            found.add(folders[-1] / name)
        folders.append(folders[-1] / name)
    return found


def test_the_tree_has_every_folder_and_every_module_on_top():
    found = tree()
    assert [path for path in found if not path.exists()] == []
    package = ROOT / "ssagan_jax"
    modules = set(package.glob("*.py")) - {package / "__init__.py"}
    assert modules | {path.parent for path in package.rglob("__init__.py")} <= found


def test_files_in_the_text_of_the_architecture_exist():
    named = re.findall(r"`([\w/]+(?:\.py|/))`", ARCHITECTURE.read_text())
    roots = (ROOT, ROOT / "ssagan_jax", ROOT / "tests")
    assert len(named) > 10
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []
