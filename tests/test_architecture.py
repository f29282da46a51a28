"""Who may import whom, read from the import statements. The picture is in docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ARROWS: dict[str, set[str]] = {
    "main": {"fabula", "screen", "watch", "commands"},
    "commands": {"commands", "fabula", "screen", "watch"},
    "screen": {"fabula"},
    "watch": {"fabula"},
    "fabula": {"agents", "generators", "storage", "prompts", "evals", "workshop"},
    "workshop": {"workshop", "agents", "generators", "storage", "prompts", "evals"},
    "agents": {"agents", "generators", "storage", "prompts"},
    "evals": {"evals", "agents", "generators", "storage", "prompts"},
    "generators": {"generators"},
    "storage": {"storage"},
    "prompts": {"prompts"},
}
"""What each package may import of ours."""

HOMES: dict[str, set[str]] = {
    "langgraph": {"agents"},
    "openai": {"agents"},
    "tenacity": {"agents"},
    "sqlmodel": {"storage"},
    "sqlalchemy": {"storage"},
    "alembic": {"storage"},
    "torch": {"generators", "evals"},
    "diffusers": {"generators", "evals"},
    "transformers": {"generators", "evals"},
    "av": {"generators"},
    "ffmpeg": {"generators"},
    "typer": {"main", "commands"},
    "rich": {"screen", "watch"},
}
"""One big library, one home."""

HEAVY = ("torch", "diffusers", "transformers", "langgraph", "openai", "sqlmodel", "alembic", "av")
"""What a person who only asks for help must not wait for."""


def sources() -> list[Path]:
    """Every Python file of the program, tests and examples left out."""
    folders = ("agents", "commands", "evals", "generators", "storage", "prompts", "workshop")
    return [
        *(ROOT / f"{name}.py" for name in ("main", "screen", "watch", "fabula")),
        *(p for f in folders for p in sorted((ROOT / f).rglob("*.py"))),
    ]


def owner(path: Path) -> str:
    """The package a file belongs to; `main` and `fabula` are packages of one file."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Top-level names that a file imports, with the line; also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the package's name"
            yield (node.module or "").split(".")[0], node.lineno


def strays(rules: dict[str, set[str]], allowed_when: str) -> list[str]:
    """Imports that break a rule: `rules[name]` lists importers (`homes`) or `rules[importer]` names (`arrows`)."""
    found = []
    for path in sources():
        package = owner(path)
        for name, line in imported(path):
            if allowed_when == "arrows":
                fine = name not in ARROWS or name in rules[package]
            else:
                fine = name not in rules or package in rules[name]
            if not fine:
                found.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    return found


@pytest.mark.slow
def test_packages_import_only_along_the_arrows() -> None:
    assert strays(ARROWS, "arrows") == []


def test_every_file_of_the_program_has_an_owner_with_arrows() -> None:
    assert {owner(path) for path in sources()} == set(ARROWS)
    outside = [path.name for path in ROOT.glob("*.py") if owner(path) not in ARROWS]
    assert outside == []


@pytest.mark.slow
def test_nothing_is_composed_but_by_the_sdk() -> None:
    """`fabula.py` and its second room: whatever else needed the evaluation would be a third place that composes."""
    importers = {owner(path) for path in sources() if "evals" in {name for name, _ in imported(path)}}
    assert importers - {"evals"} <= {"fabula", "workshop"}


@pytest.mark.slow
def test_every_big_library_has_one_home() -> None:
    assert strays(HOMES, "homes") == []


def test_the_arrows_test_sees_an_import_inside_a_function(tmp_path: Path) -> None:
    file = tmp_path / "stray.py"
    file.write_text("def f() -> None:\n    from storage.tables import Run\n")
    assert list(imported(file)) == [("storage", 2)]


@pytest.mark.slow
def test_only_the_outer_files_read_the_environment() -> None:
    found = []
    for path in sources():
        if owner(path) in ("main", "fabula"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_tests_have_no_package_files() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_nothing_of_ours_would_enter_a_wheel() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert "packages = []" in text


@pytest.mark.parametrize(
    "module", ["fabula", "main", "agents", "generators", "generators.clip", "storage", "evals", "workshop"]
)
def test_importing_the_outside_does_not_load_heavy_libraries(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
