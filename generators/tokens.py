"""Which token columns of a prompt belong to a phrase.

Works on text as a family's pipeline tokenises it, cleaned or as it was written, and on the offsets of a fast
tokenizer. Knows nothing of embeddings or attention. A phrase that cannot be found, or that the tokenizer cut off, is
refused with a suggestion.
"""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ftfy

from generators.errors import ControlRejected

Span = tuple[int, int]


def clean_prompt(text: str) -> str:
    """The text as Wan's pipelines tokenise it: ftfy, html entities twice, white space collapsed."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", text).strip()


def find_spans(prompt: str, phrase: str) -> list[Span]:
    """Character spans of every whole-word occurrence: exact ones, or when there are none, in any case."""
    return _whole_words(prompt, phrase, re.NOFLAG) or find_mentions(prompt, phrase)


def find_mentions(prompt: str, phrase: str) -> list[Span]:
    """Character spans of every whole-word occurrence, in any case."""
    return _whole_words(prompt, phrase, re.IGNORECASE)


def find_letters(prompt: str, phrase: str) -> list[Span]:
    """Character spans of every place where these letters stand, in their case, also inside other words."""
    return [found.span() for found in re.finditer(re.escape(phrase), prompt)] if phrase else []


def _whole_words(prompt: str, phrase: str, flags: re.RegexFlag) -> list[Span]:
    spans = [found.span() for found in re.finditer(re.escape(phrase), prompt, flags)] if phrase else []
    return [span for span in spans if not _cuts_word(prompt, *span)]


def _cuts_word(text: str, start: int, end: int) -> bool:
    """Whether an edge of the span falls inside a word. Scripts without letter case have no such edges."""

    def in_word(at: int) -> bool:
        return 0 < at < len(text) and all(c.isdigit() or c.lower() != c.upper() for c in text[at - 1 : at + 1])

    return in_word(start) or in_word(end)


def suggest(prompt: str, phrase: str) -> str | None:
    """The run of the prompt's words that looks most like the phrase."""
    words, length = prompt.split(), len(phrase.split())
    sizes = range(max(1, length - 1), length + 2)
    runs = [" ".join(words[i : i + n]) for n in sizes for i in range(len(words) - n + 1)]
    close = difflib.get_close_matches(phrase, runs, n=1, cutoff=0.5)
    return close[0].strip(".,;:!?") if close else None


@dataclass(frozen=True, kw_only=True)
class TextMap:
    """One tokenised prompt: where each token stands in it, and how much of it the encoder sees."""

    prompt: str
    """As it is tokenised."""
    offsets: tuple[Span, ...]
    """Character span of each token, before any cut; special tokens have empty spans."""
    length: int
    """Columns of the model's text, padding included."""
    clean: bool = True
    """Whether the prompt was cleaned before it was tokenised."""
    ids: tuple[int, ...] = ()
    """Each token's id, before any cut."""
    tokenise: Callable[[str], tuple[int, ...]] | None = field(default=None, repr=False, compare=False)
    """Ids of a text on its own, without special tokens."""

    @property
    def tokens(self) -> int:
        """Columns that are not padding."""
        return min(len(self.offsets), self.length)

    @property
    def cut(self) -> bool:
        """Whether the tokenizer cut the prompt off."""
        return len(self.offsets) > self.length

    def written(self, phrase: str) -> str:
        """The phrase as this prompt would hold it: cleaned where the prompt was.

        In a prompt that was not, word for word, or cleaned where only that stands in it.
        """
        cleaned, bare = clean_prompt(phrase), phrase.strip()
        if self.clean or (not find_spans(self.prompt, bare) and find_spans(self.prompt, cleaned)):
            return cleaned
        return bare

    def columns(self, phrase: str, *, occurrence: int = 0, what: str = "phrase") -> tuple[int, ...]:
        """Token columns of the k-th occurrence of a phrase.

        Raises ControlRejected, naming it as `what`, when the prompt lacks it or the tokenizer cut it off.
        """
        phrase = self._words(phrase, what)
        return self._covering(self._span(phrase, occurrence, what), phrase, what)

    def mentions(self, phrase: str, *, what: str = "phrase") -> tuple[int, ...]:
        """Token columns of every mention of a phrase, in any case. Raises as `columns` does, also for one cut off."""
        phrase = self._words(phrase, what)
        spans = find_mentions(self.prompt, phrase)
        if not spans:
            raise ControlRejected(self._missing(phrase, 0, 0, what))
        return self._union(spans, phrase, what)

    def letters(self, phrase: str, *, what: str = "phrase") -> tuple[int, ...]:
        """Token columns of every place where a phrase's letters stand, in their case, also inside other words.

        What released code does in place of `mentions`. Raises as it does.
        """
        phrase = self._words(phrase, what)
        spans = find_letters(self.prompt, phrase)
        if not spans and find_mentions(self.prompt, phrase):
            raise ControlRejected(f"{what} {phrase!r}: expected the prompt's own case, got {self.prompt!r}")
        if not spans:
            raise ControlRejected(self._missing(phrase, 0, 0, what))
        return self._union(spans, phrase, what)

    def _union(self, spans: Sequence[Span], phrase: str, what: str) -> tuple[int, ...]:
        return tuple(sorted({column for span in spans for column in self._covering(span, phrase, what)}))

    def _span(self, phrase: str, occurrence: int, what: str) -> Span:
        spans = find_spans(self.prompt, phrase)
        if not 0 <= occurrence < len(spans):
            raise ControlRejected(self._missing(phrase, occurrence, len(spans), what))
        return spans[occurrence]

    def _covering(self, span: Span, phrase: str, what: str) -> tuple[int, ...]:
        start, end = span
        columns = tuple(i for i, (a, b) in enumerate(self.offsets) if a < end and b > start)
        # a cut text keeps its first length - 1 tokens and the end mark
        if not columns or (self.cut and columns[-1] >= self.length - 1):
            raise ControlRejected(
                f"{what} {phrase!r}: the tokenizer cuts the prompt after {self.length} tokens, before the end of this "
                "phrase; shorten the prompt"
            )
        return columns

    def choose(
        self, phrases: Sequence[str], occurrences: Sequence[int | None] = (), *, what: str = "phrase"
    ) -> list[int]:
        """Which occurrence each of several phrases is, told in order: the first place that no other one has.

        Longer phrases choose first, so that "walks" does not take the place of "walks home"; phrases that read the same
        take their places in order, the last place is shared. `occurrences` says which place a phrase must have (None:
        its own choice). Raises ControlRejected, naming it as `what`, for a place that the prompt lacks.
        """
        wanted = [*occurrences, *[None] * (len(phrases) - len(occurrences))]
        words = [self._words(phrase, what) for phrase in phrases]
        found: dict[int, int] = {}
        taken: list[Span] = []
        for i in sorted(range(len(words)), key=lambda i: (wanted[i] is None, -len(words[i]))):
            k = wanted[i]
            if k is None:
                spans = find_spans(self.prompt, words[i])
                free = (n for n, (a, b) in enumerate(spans) if all(b <= c or a >= d for c, d in taken))
                k = next(free, max(len(spans) - 1, 0))
            taken.append(self._span(words[i], k, what))
            found[i] = k
        return [found[i] for i in range(len(words))]

    def place(
        self, phrases: Sequence[str], occurrences: Sequence[int | None] = (), *, what: str = "phrase"
    ) -> list[tuple[int, ...]]:
        """Token columns of several phrases, each where `choose` puts it. Raises as `columns` does."""
        chosen = self.choose(phrases, occurrences, what=what)
        return [self.columns(phrase, occurrence=k, what=what) for phrase, k in zip(phrases, chosen, strict=True)]

    def search(self, phrase: str, *, what: str = "phrase") -> tuple[int, ...]:
        """Columns of every place where the ids of the phrase, tokenised alone, stand in a row.

        What released code does in place of `columns`: a word's ids can differ with what stands before it, so a phrase
        that is there may be missed. Raises ControlRejected then.
        """
        if self.tokenise is None:
            raise ControlRejected(f"{what} {phrase!r}: this text was mapped without token ids; search for its words")
        ids, here = self.tokenise(phrase), self.ids[: self.tokens - self.cut]  # a cut text ends with the end mark
        starts = [i for i in range(len(here) - len(ids) + 1) if ids and here[i : i + len(ids)] == ids]
        if not starts:
            like = suggest(self.prompt, phrase)
            raise ControlRejected(
                f"{what} {phrase!r}: its {len(ids)} token ids stand nowhere in a row in the prompt {self.prompt!r}"
                + (f"; did you mean {like!r}?" if like else "")
            )
        return tuple(sorted({i + n for i in starts for n in range(len(ids))}))

    def _words(self, phrase: str, what: str) -> str:
        """The phrase as the prompt would hold it. Raises ControlRejected when nothing is left."""
        written = self.written(phrase)
        if not written:
            raise ControlRejected(f"{what}: expected words of the prompt, got an empty text")
        return written

    def _missing(self, phrase: str, occurrence: int, found: int, what: str) -> str:
        if found:
            return f"{what} {phrase!r}: expected occurrence 0 to {found - 1}, got {occurrence}"
        like = suggest(self.prompt, phrase)
        hint = f"; did you mean {like!r}?" if like else ""
        return f"{what} {phrase!r} does not stand in the prompt {self.prompt!r}{hint}"


def map_text(tokenizer: Any, prompt: str, length: int, *, clean: bool = True) -> TextMap:
    """Tokenise a prompt with offsets; `length` is the model's number of text columns.

    `clean` says whether the family's pipeline cleans prompts, as Wan's do. Raises ControlRejected for a tokenizer that
    cannot tell offsets.
    """
    prompt = clean_prompt(prompt) if clean else prompt
    if not getattr(tokenizer, "is_fast", False):
        raise ControlRejected(f"tokenizer: expected a fast one that tells offsets, got {type(tokenizer).__name__}")
    encoded = tokenizer(
        prompt,
        truncation=False,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    pairs = zip(encoded["special_tokens_mask"], encoded["offset_mapping"], strict=True)
    offsets = tuple((0, 0) if special else (a, b) for special, (a, b) in pairs)

    def tokenise(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])

    ids = tuple(encoded["input_ids"])
    return TextMap(prompt=prompt, offsets=offsets, length=length, clean=clean, ids=ids, tokenise=tokenise)
