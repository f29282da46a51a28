from __future__ import annotations

from typing import Any

import pytest
from diffusers.pipelines.wan.pipeline_wan import prompt_clean

from generators.errors import ControlRejected
from generators.models.tiny import tiny_pipeline
from generators.tokens import TextMap, clean_prompt, find_spans, map_text

PROMPT = "A red fox jumps over the box, then the fox walks home."


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_pipeline("t2v-2.1").tokenizer


def words(text: TextMap, columns: tuple[int, ...]) -> str:
    return text.prompt[text.offsets[columns[0]][0] : text.offsets[columns[-1]][1]]


@pytest.mark.parametrize(
    "text",
    [PROMPT, "  two\n spaces\t", "&amp;lt;b&gt; caf\u00c3\u00a9 \u201cquoted\u201d", "\u4e00\u53ea\u72d0\u72f8", ""],
)
def test_prompts_are_cleaned_as_the_wan_pipeline_cleans_them(text: str) -> None:
    assert clean_prompt(text) == prompt_clean(text)


def test_a_phrase_is_the_tokens_that_overlap_it(tokenizer: Any) -> None:
    text = map_text(tokenizer, PROMPT, 512)
    assert words(text, text.columns("jumps over the box")) == "jumps over the box"


def test_columns_point_at_the_ids_the_encoder_reads(tokenizer: Any) -> None:
    text = map_text(tokenizer, PROMPT, 512)
    ids = tokenizer(clean_prompt(PROMPT)).input_ids
    assert tokenizer.decode([ids[c] for c in text.columns("walks home")]) == "walks home"
    assert text.tokens == len(ids)


def test_the_kth_occurrence_can_be_chosen(tokenizer: Any) -> None:
    text = map_text(tokenizer, PROMPT, 512)
    first, second = text.columns("fox"), text.columns("fox", occurrence=1)
    assert first[-1] < second[0]
    assert words(text, second) == "fox"
    with pytest.raises(ControlRejected, match="expected occurrence 0 to 1, got 2"):
        text.columns("fox", occurrence=2)


def test_case_matters_only_when_nothing_matches_exactly() -> None:
    assert find_spans("Fox and fox", "fox") == [(8, 11)]
    assert find_spans("Fox and Fox", "fox") == [(0, 3), (8, 11)]


def test_a_phrase_does_not_match_inside_a_word() -> None:
    assert find_spans("a delicate cat", "cat") == [(11, 14)]
    assert find_spans("he walks", "walk") == []


def test_scripts_without_word_spaces_match_anywhere() -> None:
    assert find_spans("\u4e00\u53ea\u72d0\u72f8\u8d70\u8def", "\u72d0\u72f8") == [(2, 4)]


def test_a_missing_phrase_is_refused_with_a_suggestion(tokenizer: Any) -> None:
    text = map_text(tokenizer, "the fox jumps to flatten it.", 512)
    with pytest.raises(ControlRejected, match=r"event 'flattens it'.*did you mean 'flatten it'"):
        text.columns("flattens it", what="event")


def test_a_phrase_that_the_tokenizer_cut_off_is_refused(tokenizer: Any) -> None:
    text = map_text(tokenizer, "one " * 20 + "and the fox jumps", 48)
    assert text.cut
    assert text.tokens == 48
    assert text.columns("one")
    with pytest.raises(ControlRejected, match="cuts the prompt after 48 tokens"):
        text.columns("fox jumps")


def test_a_prompt_that_just_fits_is_not_cut(tokenizer: Any) -> None:
    text = map_text(tokenizer, "fox", 4)
    assert not text.cut
    assert text.columns("fox") == (0, 1, 2)


def test_an_empty_phrase_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ControlRejected, match="got an empty text"):
        map_text(tokenizer, PROMPT, 512).columns("  ")
