"""The documents tell the truth: commands and Python blocks run, links lead somewhere, the help is today's.

Commands that would train, download or install are read instead of run: their options must exist. Films are made by the
instant profile here (`FABULA_PROFILE`), so that this takes seconds.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer

import main
from generators.video import write_film

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
READ_ONLY = ("train", "bench")
"""Commands that are read, not run."""


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    file: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a document, in order."""
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield Block(path, text[: match.start()].count("\n") + 2, match[1], match[2])


BLOCKS = [block for path in DOCUMENTS for block in blocks(path)]
COMMANDS = [
    pytest.param(block, line, id=f"{block}:{line}")
    for block in BLOCKS
    if block.language == "bash"
    for line in block.code.replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]
SHOWN = [
    pytest.param(line, id=f"{block}:{line}")
    for block in BLOCKS
    if block.language == "text"
    for line in block.code.replace("\\\n", " ").splitlines()
    if line.startswith("python main.py ") and "…" not in line
]
"""Commands in blocks that are not run: they may take hours, or files that a reader has."""
PYTHON = [pytest.param(block, id=str(block)) for block in BLOCKS if block.language == "python"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in that looks like the checkout; the instant profile unless a command names another."""
    for name in ("examples", "main.py", "Makefile", "profiles", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FABULA_PROFILE", "instant")
    return tmp_path


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (3, 0), (1, 2), (4, 2)])
def test_make_film_accepts_a_film_with_something_unseen_and_no_failure(tmp_path: Path, code: int, ends: int) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\nexit {code}\n")
    python.chmod(0o755)
    (tmp_path / ".ready-to-film").touch()
    done = subprocess.run(["make", "film", f"VENV={tmp_path}"], cwd=ROOT, capture_output=True)
    assert done.returncode == ends, done


@pytest.mark.slow
@pytest.mark.parametrize(("block", "line"), COMMANDS)
def test_a_documented_command_works(block: Block, line: str, desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        subprocess.run(["make", "--dry-run", *words[1:]], check=True, capture_output=True)
        return
    if "|" in words or "<" in words:
        piped = line.replace("python main.py", f"{sys.executable} main.py")
        done = subprocess.run(["bash", "-c", f"set -o pipefail; {piped}"], capture_output=True)
        assert done.returncode in (0, 3), done
        return
    assert words[:2] == ["python", "main.py"], f"{block}: a command that no test knows how to run: {line}"
    arguments = words[2:]
    prepare(arguments, desk)
    if arguments[0] in READ_ONLY or {"--profile", "--attention"} & set(arguments):
        parse(arguments)
    else:
        code = main.main(arguments)
        fine = (0, 1) if arguments[0] == "doctor" else (0, 3, 5)  # the doctor may find this machine lacking
        assert code in fine, f"{line} ended with {code}: {capfd.readouterr()}"


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_that_is_only_shown_has_the_options_it_names(line: str) -> None:
    parse(shlex.split(line, comments=True)[2:])


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON)
def test_a_documented_python_block_runs(block: Block, desk: Path) -> None:
    prepare(block.code.split(), desk)
    code = compile(block.code, f"{block}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    scope: dict[str, object] = {"__name__": "documented"}
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, scope))
    else:
        exec(code, scope)


@pytest.mark.slow
def test_the_readmes_python_example_prints_what_it_says(
    desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FABULA_PROFILE", "bundled")
    readme = [block for block in BLOCKS if block.file.name == "README.md"]
    code, shown = next(pair for pair in zip(readme, readme[1:], strict=False) if "from fabula import" in pair[0].code)
    exec(compile(code.code, f"{code}", "exec"), {"__name__": "documented"})
    said, place = capsys.readouterr().out.strip().split(": ")
    documented, example = shown.code.strip().split(": ")
    assert (said, Path(place).parts[-3:]) == (documented, Path(example).parts[-3:])


@pytest.mark.slow
def test_the_commands_help_in_the_documents_is_todays(pytestconfig: pytest.Config) -> None:
    usage = ROOT / "docs" / "usage.md"
    text = usage.read_text(encoding="utf-8")
    pages = help_pages()

    def todays(match: re.Match[str]) -> str:
        return f"{match[1]}\n```text\n{pages.pop(match[2])}\n```"

    fresh = re.sub(r"(<!-- help:(.*?) -->)\n```text\n(?:.*?\n)??```", todays, text, flags=re.DOTALL)
    if pytestconfig.getoption("--write-docs"):
        usage.write_text(fresh, encoding="utf-8")
    assert fresh == usage.read_text(encoding="utf-8"), "docs/usage.md is behind; write it anew with `make docs`"
    assert pages == {}, f"docs/usage.md shows no help of {sorted(pages)}"


def test_every_link_in_the_documents_leads_to_a_file() -> None:
    broken = []
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.name}: {target}")
    assert broken == []


def test_every_yaml_and_json_block_can_be_read() -> None:
    import json

    import yaml

    for block in BLOCKS:
        if block.language == "yaml":
            assert yaml.safe_load(block.code), block
        elif block.language == "json":
            assert all(json.loads(line) for line in block.code.splitlines()), block


def help_pages() -> dict[str, str]:
    """The help of every command, as a terminal a hundred columns wide shows it; one process for all of them."""
    code = (
        "import contextlib, io, json, sys, main\n"
        "pages = {}\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        main.main([*words.split(), '--help'])\n"
        "    pages[words] = '\\n'.join(line.rstrip() for line in out.getvalue().strip('\\n').splitlines())\n"
        "print(json.dumps(pages))"
    )
    import json
    import os

    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(command_names())],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100", "TERM": "xterm", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    pages: dict[str, str] = json.loads(done.stdout)
    return pages


def command_names() -> list[str]:
    """`run`, `bench world`, … and the empty name for the whole."""
    names = [""]

    def walk(group: object, before: str) -> None:
        for name, command in sorted(getattr(group, "commands", {}).items()):
            names.append(f"{before}{name}")
            walk(command, f"{before}{name} ")

    walk(typer.main.get_command(main.app), "")
    return names


def parse(arguments: list[str]) -> None:
    """Read a command line to its last option without running it; a usage error is raised."""
    command = typer.main.get_command(main.app)
    context = command.make_context("python main.py", list(arguments), resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args] if hasattr(context, "_protected_args") else context.args
        name, command, rest = command.resolve_command(context, list(rest))
        assert command is not None
        context = command.make_context(name, rest, parent=context)


def prepare(words: list[str], desk: Path) -> None:
    """What a document may suppose: a story and a storyboard of one's own, and a first run."""
    (desk / "my-story.txt").write_text("A red fox jumps high up in the meadow.")
    (desk / "nightly.yaml").write_text("- {story: my-story.txt, profile: instant}\n")
    first = ("resume", "retry", "show", "studio.resume(1", "studio.show(1", "studio.retry(1")
    if any(word.endswith("horse.mp4") for word in words):
        write_film(desk / "horse.mp4", [np.zeros((80, 32, 32, 3), np.uint8)], 8)
    if any(word in first or word.startswith((*first[3:], "run 1 ")) for word in words):
        assert main.main(["run", "my-story.txt", "--json"]) in (0, 3)
    if "recut" in words:
        assert main.main(["run", "my-story.txt", "--out", "jump", "--json"]) in (0, 3)
    if any("storyboard.yaml" in word for word in words):
        assert main.main(["plan", "my-story.txt", "--out", "storyboard.yaml", "--json"]) == 0
