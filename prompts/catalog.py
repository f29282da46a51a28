"""Prompts as files: `library/NAME.md` holds a front matter, a system part and a user part.

Loads, checks and renders them. Knows nothing of models, stories or answers: those are the agents'.

    ---
    name: plan
    version: 1
    variables: [story]
    ---
    You write storyboards.
    ---
    {{ story | untrusted("story") }}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import SandboxedEnvironment

LIBRARY = Path(__file__).parent / "library"


class PromptError(Exception):
    """A prompt file is broken, or was rendered with the wrong variables; the message names the file."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A prompt with its variables filled in, ready to be sent."""

    name: str
    digest: str
    """sha256 of the prompt file, not of the filled-in text: it says which wording was used."""
    system: str
    user: str


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A versioned text for a language model, with named variables."""

    name: str
    version: int
    variables: frozenset[str]
    digest: str
    system: Template
    user: Template

    def render(self, **values: object) -> Rendered:
        """Fill the variables in. Raises PromptError when one is missing or unknown."""
        if set(values) != self.variables:
            raise PromptError(
                f"Prompt {self.name!r} takes the variables {sorted(self.variables)}, got {sorted(values)}"
            )
        try:
            system, user = self.system.render(values), self.user.render(values)
        except TemplateError as error:
            raise PromptError(f"Prompt {self.name!r} could not be rendered: {error}") from error
        return Rendered(name=self.name, digest=self.digest, system=system.strip(), user=user.strip())


@cache
def load(name: str) -> Prompt:
    """The prompt of this name from the library. Raises PromptError when there is none or it is broken."""
    path = LIBRARY / f"{name}.md"
    if not path.is_file():
        raise PromptError(f"No prompt {name!r}; the library has {', '.join(names())}")
    return parse(path.read_text(encoding="utf-8"), str(path.name))


def names() -> tuple[str, ...]:
    """Names of all prompts in the library, sorted."""
    return tuple(sorted(path.stem for path in LIBRARY.glob("*.md")))


def parse(text: str, source: str) -> Prompt:
    """Read one prompt file. Raises PromptError naming `source` and what is wrong."""
    parts = ("\n" + text.lstrip()).split("\n---\n")
    if len(parts) != 4 or parts[0].strip():
        raise PromptError(f"{source}: expected front matter, system part and user part, each after a line '---'")
    _, front, system, user = parts
    fields = _front_matter(front, source)
    variables = frozenset(_strings(fields["variables"], source))
    try:
        used = meta.find_undeclared_variables(_ENVIRONMENT.parse(system + user))
        templates = _ENVIRONMENT.from_string(system), _ENVIRONMENT.from_string(user)
    except TemplateError as error:
        raise PromptError(f"{source}: {error}") from error
    if used != variables:
        raise PromptError(f"{source}: declares the variables {sorted(variables)} but uses {sorted(used)}")
    return Prompt(
        name=str(fields["name"]),
        version=int(str(fields["version"])),
        variables=variables,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        system=templates[0],
        user=templates[1],
    )


def untrusted(text: str, label: str) -> str:
    """Fence text that others wrote: the fence carries the text's own digest, so the text cannot close it."""
    clean = "".join(c for c in text if c.isprintable() or c in "\n\t")
    mark = hashlib.sha256(clean.encode()).hexdigest()[:8]
    return f"<{label} {mark}>\n{clean}\n</{label} {mark}>"


def _front_matter(text: str, source: str) -> Mapping[str, object]:
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PromptError(f"{source}: the front matter is not YAML: {error}") from error
    if not isinstance(fields, dict) or set(fields) != {"name", "version", "variables"}:
        raise PromptError(f"{source}: the front matter must have exactly name, version and variables")
    return fields


def _strings(value: object, source: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise PromptError(f"{source}: variables must be a list of names, got {value!r}")
    return value


def _environment() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["untrusted"] = untrusted
    return environment


_ENVIRONMENT = _environment()
