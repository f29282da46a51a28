"""From a model's text to a checked answer: find the JSON, validate its shape, check what a schema cannot, ask again.

A wrong answer goes back with what is wrong with it, a bounded number of times; then ModelRefused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from agents.brains import LanguageModel, Question, Remembering, Reply, Turn
from agents.errors import ModelRefused

CHARS_A_TOKEN = 3
"""Fewer than any common text has, so that tokens are over-estimated; a sign of three bytes counts as one token."""
IMAGE_TOKENS = 1000
"""Of a picture at low detail: a round guess, which most models stay under and some do not."""
REPAIRS = 2
"""How often a wrong answer is sent back."""
_MOST_PROBLEMS = 8

A = TypeVar("A", bound=BaseModel)
Check = Callable[[A], Sequence[str]]
"""What is wrong with a well-formed answer, as sentences that a model can act on."""


async def ask(
    model: LanguageModel,
    question: Question,
    shape: type[A],
    check: Check[A] | None = None,
    repairs: int = REPAIRS,
) -> A:
    """Put the question until the answer holds, at most `1 + repairs` times.

    Raises ModelRefused with the last problems when it never does, and what the model itself raises.
    """
    problems: Sequence[str] = ()
    asked: list[Question] = []
    for _ in range(1 + repairs):
        asked.append(question)
        reply = await model.complete(question)
        answer, problems = read(reply, shape, check)
        if answer is not None:
            return answer
        question = replace(question, turns=(*question.turns, Turn(answer=reply.text, objection=_objection(problems))))
    if isinstance(model, Remembering):
        for wrong in asked:  # a resumed run asks anew instead of reading the same wrong answers
            model.reject(wrong, "; ".join(problems))
    raise ModelRefused(
        f"Model {model.name!r} gave no valid answer to {question.prompt.name!r} in {1 + repairs} tries; "
        f"last: {'; '.join(problems)}. Resume the run to ask again, or use a stronger model"
    )


def read(reply: Reply, shape: type[A], check: Check[A] | None = None) -> tuple[A | None, Sequence[str]]:
    """The answer, or None and what is wrong with it."""
    try:
        answer = shape.model_validate(extract_json(reply.text))
    except ValidationError as error:
        return None, [_sentence(e["loc"], e["msg"], e["input"]) for e in error.errors()]
    except ValueError as error:
        cut = " (it was cut off at the token limit: answer shorter)" if reply.cut_off else ""
        return None, [f"{error}{cut}"]
    problems = check(answer) if check else ()
    return (None, problems) if problems else (answer, ())


def extract_json(text: str) -> object:
    """The first JSON object in a model's text, be it bare, fenced, or after thoughts. Raises ValueError without one."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL).strip()
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", text):
        try:
            return decoder.raw_decode(text, match.start())[0]
        except json.JSONDecodeError as error:
            if not text[match.start() + 1 :].strip().startswith(('"', "}")):
                continue  # a brace in prose, not the start of an object
            raise ValueError(f"the JSON object breaks off or is malformed: {error}") from error
    raise ValueError(f"expected one JSON object, got {text[:120]!r}")


def read_at_most(question: Question) -> int:
    """The most tokens that a model reads for the question, estimated upwards from the text's length."""
    turns = (turn.answer + turn.objection for turn in question.turns)
    texts = "".join((question.prompt.system, question.prompt.user, schema_text(question.shape), *turns))
    return len(texts.encode()) // CHARS_A_TOKEN + IMAGE_TOKENS * len(question.images)


def schema_text(shape: type[BaseModel]) -> str:
    """The shape in words, for servers that take no schema: an outline, which small models copy where they parrot a
    JSON schema."""
    schema = shape.model_json_schema()
    outline = _outline(schema, schema.get("$defs", {}))
    return (
        "Answer with exactly one JSON object and nothing else. It has exactly these keys; where an outline says "
        f'"a | b", write one of the words, and "…" goes on with as many as are needed:\n{outline}'
    )


def _outline(schema: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """A JSON schema as the JSON it asks for."""
    if "$ref" in schema:
        return _outline(known[str(schema["$ref"]).rsplit("/", 1)[-1]], known)
    if "anyOf" in schema:
        return " or ".join(_outline(option, known) for option in schema["anyOf"])
    if words := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return json.dumps(" | ".join(map(str, words)), ensure_ascii=False)
    match schema.get("type"):
        case "object":
            keys = (f"{json.dumps(name)}: {_outline(of, known)}" for name, of in schema.get("properties", {}).items())
            return "{" + ", ".join(keys) + "}"
        case "array":
            return f"[{_outline(schema.get('items', {}), known)}, …]"
        case "null":
            return "null"
        case other:
            return {"integer": "1", "number": "0.5", "boolean": "true"}.get(str(other), '"text"')


def _objection(problems: Sequence[str]) -> str:
    listed = "\n".join(f"- {problem}" for problem in problems[:_MOST_PROBLEMS])
    return f"That answer cannot be used:\n{listed}\nAnswer again, whole, with these things put right."


def _sentence(where: tuple[int | str, ...], message: str, got: object) -> str:
    path = ".".join(str(part) for part in where) or "the answer"
    return f"{path}: {message}, got {str(got)[:120]!r}"
