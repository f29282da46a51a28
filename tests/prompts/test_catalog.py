"""Prompt files: shape, digests, rendering, and text that others wrote kept behind its fence."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.catalog import PromptError, load, names, parse, untrusted

GOOD = """---
name: greet
version: 2
variables: [who]
---
You greet.
---
Greet {{ who | untrusted("who") }}.
"""


def test_every_prompt_of_the_library_loads_under_its_own_name() -> None:
    assert names() == (
        "caption",
        "describe",
        "plan",
        "plan_world",
        "reword",
        "score",
        "segment",
        "storyeval_describe",
        "storyeval_score",
        "synopsis",
    )
    for name in names():
        prompt = load(name)
        assert prompt.name == name
        assert re.fullmatch("[0-9a-f]{64}", prompt.digest)


def test_a_prompt_renders_its_parts_with_its_variables() -> None:
    prompt = parse(GOOD, "greet.md")
    rendered = prompt.render(who="Ann")
    assert rendered.system == "You greet."
    assert re.fullmatch(r"Greet <who (\w{8})>\nAnn\n</who \1>\.", rendered.user)
    assert (rendered.name, rendered.digest, prompt.version) == ("greet", prompt.digest, 2)


def test_other_wording_has_another_digest_and_the_same_wording_the_same() -> None:
    assert parse(GOOD, "a").digest == parse(GOOD, "b").digest
    assert parse(GOOD, "a").digest != parse(GOOD.replace("You", "They"), "a").digest


@pytest.mark.parametrize("values", [{}, {"who": "Ann", "what": "x"}, {"whom": "Ann"}])
def test_missing_and_unknown_variables_are_refused_by_name(values: dict[str, str]) -> None:
    with pytest.raises(PromptError, match=r"'greet' takes the variables \['who'\]"):
        parse(GOOD, "greet.md").render(**values)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (GOOD.replace("[who]", "[who, why]"), "declares"),
        (GOOD.replace("You greet.\n---\n", ""), "expected front matter"),
        (GOOD.replace("version: 2\n", ""), "exactly name, version"),
        (GOOD.replace("[who]", "who"), "list of names"),
        (GOOD.replace("[who]", "["), "not YAML"),
        (GOOD.replace("}}", ""), "greet.md"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(broken: str, said: str) -> None:
    with pytest.raises(PromptError, match=said) as caught:
        parse(broken, "greet.md")
    assert "greet.md" in str(caught.value)


def test_an_unknown_prompt_names_those_there_are() -> None:
    with pytest.raises(PromptError, match="plan_world"):
        load("nothing")


def test_templates_cannot_reach_into_python() -> None:
    text = GOOD.replace('who | untrusted("who")', "who.__class__.__mro__")
    with pytest.raises(PromptError, match="unsafe"):
        parse(text, "greet.md").render(who="Ann")


@given(st.text())
def test_fenced_text_can_neither_close_its_fence_nor_open_another(text: str) -> None:
    fenced = untrusted(text, "story")
    lines = fenced.split("\n")
    opening, closing = lines[0], lines[-1]
    assert opening[1:] == closing[2:]
    assert closing not in "\n".join(lines[1:-1])


def test_jinja_in_a_story_stays_text() -> None:
    rendered = parse(GOOD, "greet.md").render(who="{{ 7 * 7 }} {% raw %}")
    assert "{{ 7 * 7 }} {% raw %}" in rendered.user
