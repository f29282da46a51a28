from __future__ import annotations

from typing import Any

import pytest
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers
from transformers import CLIPTokenizer, T5Tokenizer

from generators.errors import ControlRejected
from generators.models.tiny import tiny_pipeline
from generators.tokens import TextMap, clean_prompt, find_letters, find_mentions, find_spans, map_text

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


def test_mentions_are_in_any_case_and_letters_in_their_own_also_inside_words() -> None:
    assert find_mentions("Fox and fox, firefox", "fox") == [(0, 3), (8, 11)]
    assert find_letters("Fox and fox, firefox", "fox") == [(8, 11), (17, 20)]
    assert find_mentions("a fox", "") == find_letters("a fox", "") == []


def test_all_mentions_have_one_set_of_columns_whatever_their_case(tokenizer: Any) -> None:
    text = map_text(tokenizer, "The fox jumps, then the fox walks. Foxes!", 512)
    both = (*text.columns("The fox"), *text.columns("the fox"))
    assert text.mentions("the fox") == text.mentions("THE FOX") == both
    assert text.letters("fox") == (*text.columns("fox"), *text.columns("fox", occurrence=1))
    assert text.letters("Fox") == tuple(range(35, 38))
    with pytest.raises(ControlRejected, match=r"word 'foxs' does not stand .* did you mean 'fox'"):
        text.mentions("foxs", what="word")
    with pytest.raises(ControlRejected, match="word 'FOX': expected the prompt's own case"):
        text.letters("FOX", what="word")
    with pytest.raises(ControlRejected, match="got an empty text"):
        text.letters("&nbsp;")


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


@pytest.mark.parametrize("every", [TextMap.mentions, TextMap.letters])
def test_one_mention_that_is_cut_off_is_refused_with_all_of_them(tokenizer: Any, every: Any) -> None:
    kept, cut = (map_text(tokenizer, f"A fox, {'x' * more} fox and on", 48) for more in (36, 37))
    assert every(kept, "fox") == (2, 3, 4, 44, 45, 46)  # 47 letters and the end mark
    with pytest.raises(ControlRejected, match="phrase 'fox': the tokenizer cuts the prompt after 48 tokens"):
        every(cut, "fox")


def test_a_prompt_that_just_fits_is_not_cut(tokenizer: Any) -> None:
    text = map_text(tokenizer, "fox", 4)
    assert not text.cut
    assert text.columns("fox") == (0, 1, 2)


def test_an_empty_phrase_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ControlRejected, match="got an empty text"):
        map_text(tokenizer, PROMPT, 512).columns("  ")
    with pytest.raises(ControlRejected, match="got an empty text"):
        map_text(tokenizer, PROMPT, 512, clean=False).place(["fox", "\n"])


# ── several phrases ──


def test_places_are_chosen_by_number_and_those_that_are_not_there_refused(tokenizer: Any) -> None:
    text = map_text(tokenizer, "He walks home, then he walks and walks.", 512)
    assert text.choose(["walks", "walks home", "walks", "walks"], [None, None, 1]) == [2, 0, 1, 2]
    with pytest.raises(ControlRejected, match="event 'walks': expected occurrence 0 to 2, got 7"):
        text.choose(["walks"], [7], what="event")
    with pytest.raises(ControlRejected, match=r"event 'walk home' does not stand .* did you mean 'walks home'"):
        text.choose(["walk home"], what="event")


def test_phrases_take_the_first_place_that_no_other_one_has(tokenizer: Any) -> None:
    text = map_text(tokenizer, "He walks home, then he walks, walks on and stops.", 512)
    home, walks, again, last = text.place(["walks home", "walks", "walks", "walks"])
    assert [words(text, home), words(text, walks)] == ["walks home", "walks"]
    assert home == text.columns("walks home")
    assert walks == text.columns("walks", occurrence=1)
    assert again == last == text.columns("walks", occurrence=2)


def test_a_chosen_place_is_kept_and_the_others_go_round_it(tokenizer: Any) -> None:
    text = map_text(tokenizer, "fox and fox and fox", 512)
    places = text.place(["fox", "fox", "fox"], [None, 0, None])
    assert places == [text.columns("fox", occurrence=k) for k in (1, 0, 2)]


RAW = "A  red fox jumps,\nthen the fox\u2019s tail &amp; ears move."


@pytest.mark.parametrize("phrase", ["fox\u2019s tail", "A  red fox", "jumps,\nthen", "tail &amp; ears"])
def test_a_prompt_that_is_not_cleaned_holds_its_phrases_word_for_word(tokenizer: Any, phrase: str) -> None:
    text = map_text(tokenizer, RAW, 512, clean=False)
    assert text.prompt == RAW
    assert len(find_spans(text.prompt, phrase)) == 1
    assert words(text, text.columns(phrase)) == phrase
    assert text.place([phrase]) == [text.columns(f" {phrase}\n")]


@pytest.mark.parametrize("phrase", ["fox\u2019s tail", "A  red fox", "jumps,\nthen", "tail &amp; ears"])
def test_a_cleaned_prompt_holds_the_same_phrases_cleaned(tokenizer: Any, phrase: str) -> None:
    text = map_text(tokenizer, RAW, 512)
    assert words(text, text.columns(phrase)) == clean_prompt(phrase) != phrase


def test_a_phrase_is_cleaned_in_a_raw_prompt_only_where_that_stands_in_it(tokenizer: Any) -> None:
    text = map_text(tokenizer, RAW, 512, clean=False)
    assert words(text, text.columns("red\nfox")) == "red fox"
    with pytest.raises(ControlRejected, match="phrase \"fox's tail\" does not stand .* did you mean 'fox\u2019s tail'"):
        text.columns("fox's tail")


@pytest.mark.slow
@given(st.lists(st.sampled_from(["red fox", "fox", "jumps", "jumps over", "the box", "walks home"]), max_size=8))
def test_phrases_never_share_a_token_while_there_are_places(phrases: list[str]) -> None:
    text = map_text(tiny_pipeline("t2v-2.1").tokenizer, "the red fox jumps over the box and the fox walks home", 512)
    placed = text.place(phrases)
    assert [words(text, columns) for columns in placed] == phrases
    room = {"fox": 2} | {name: 1 for name in phrases if name != "fox"}
    free = all(phrases.count(name) <= count for name, count in room.items())
    nested = "jumps over" in phrases and "jumps" in phrases
    crowded = phrases.count("fox") + phrases.count("red fox") > 2
    if free and not nested and not crowded:
        used = [column for columns in placed for column in columns]
        assert len(used) == len(set(used))


def test_ids_are_found_at_every_place_where_they_stand_in_a_row(tokenizer: Any) -> None:
    text = map_text(tokenizer, PROMPT, 512)
    assert text.search("fox") == (*text.columns("fox"), *text.columns("fox", occurrence=1))


def test_ids_that_stand_nowhere_are_refused_with_a_suggestion(tokenizer: Any) -> None:
    text = map_text(tokenizer, PROMPT, 512)
    with pytest.raises(ControlRejected, match=r"event 'walked home': its 11 token ids .* did you mean 'walks home'"):
        text.search("walked home", what="event")
    with pytest.raises(ControlRejected, match="stand nowhere"):
        map_text(tokenizer, "one " * 20 + "fox", 48).search("fox")


def test_a_search_by_ids_leaves_the_end_mark_of_a_cut_text_alone(tokenizer: Any) -> None:
    assert map_text(tokenizer, "a fox, fox fox", 11).search("fox") == (2, 3, 4, 7, 8, 9)
    assert map_text(tokenizer, "a fox, fox fox", 10).search("fox") == (2, 3, 4)


def test_a_text_mapped_without_ids_says_so() -> None:
    with pytest.raises(ControlRejected, match="mapped without token ids"):
        TextMap(prompt="a fox", offsets=((0, 1), (2, 5)), length=8).search("fox")


# ── tokenizers whose pieces are of several letters ──


def unigram() -> Any:
    """T5's own class with a few pieces; its normalizer does what a checkpoint's table does: NFKC."""
    words = ("", "A", "red", "fo", "fox", "jump", "over", "the", "box", "box,", "then", "walks", "home.", "fire")
    pieces = [*(f"▁{word}" for word in words), "s", "x"]
    letters = [letter for letter in "abcdefghijklmnopqrstuvwxyzA.,()" if letter not in pieces]
    marks = [(mark, 0.0) for mark in ("<pad>", "</s>", "<unk>")]
    vocab = marks + [(piece, -2.0) for piece in pieces] + [(letter, -8.0) for letter in letters]
    made = T5Tokenizer(vocab=vocab, extra_ids=0)
    made.backend_tokenizer.normalizer = normalizers.NFKC()
    return made


def clip() -> Any:
    """CLIP's own class with a few merges: a mark in front, lower case, ends of words."""
    words = (["f", "o", "x"], ["j", "u", "m", "p", "s"], ["r", "e", "d"], ["w", "a", "l", "k", "s"])
    merges: list[tuple[str, str]] = []
    for *begun, last in words:
        merges += [("".join(begun[:i]), begun[i]) for i in range(1, len(begun))]
        merges.append(("".join(begun), f"{last}</w>"))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    made += ["".join(pair) for pair in merges]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(made)}, merges=merges)


PIECES = {"unigram": unigram, "clip": clip}
PHRASES = ("red fox", "fox", "jumps over the box", "box", "the box, then", "walks home", "home", "A red")


@pytest.mark.parametrize(
    ("kind", "golden"),
    [
        (
            "unigram",  # A red fox jump s over the box, then the fox walks home. </s>
            {"fox": (2,), "jumps": (3, 4), "over the box": (5, 6, 7), "box": (7,), "walks home": (11, 12)},
        ),
        (
            "clip",  # <s> a red fox jumps o v e r t h e b o x , t h e n t h e fox walks h o m e . </s>
            {"A": (1,), "fox": (3,), "jumps": (4,), "box": (12, 13, 14), "walks home": (24, 25, 26, 27, 28)},
        ),
    ],
)
def test_pieces_of_several_letters_are_a_phrases_when_they_reach_into_it(
    kind: str, golden: dict[str, tuple[int, ...]]
) -> None:
    text = map_text(PIECES[kind](), PROMPT, 512)
    assert {phrase: text.columns(phrase) for phrase in golden} == golden


@pytest.mark.parametrize("kind", PIECES)
def test_any_tokenizers_columns_are_those_of_the_phrases_letters(kind: str) -> None:
    text = map_text(PIECES[kind](), PROMPT, 512)
    for phrase in PHRASES:
        start = PROMPT.index(phrase)
        letters = set(range(start, start + len(phrase)))
        assert text.columns(phrase) == tuple(i for i, span in enumerate(text.offsets) if letters & set(range(*span)))
    assert text.place(["fox", "walks home", "fox"]) == [
        text.columns("fox"), text.columns("walks home"), text.columns("fox", occurrence=1)
    ]  # fmt: skip


@pytest.mark.parametrize("kind", PIECES)
def test_any_tokenizers_cut_is_where_its_own_truncation_cuts(kind: str) -> None:
    tokenizer = PIECES[kind]()
    whole = tokenizer(PROMPT)["input_ids"]
    where = map_text(tokenizer, PROMPT, 512)
    for length in range(3, len(whole) + 2):
        text = map_text(tokenizer, PROMPT, length)
        kept = tokenizer(PROMPT, truncation=True, max_length=length)["input_ids"]
        assert (text.tokens, text.cut) == (len(kept), len(kept) < len(whole))
        for phrase in PHRASES:
            columns = where.columns(phrase)
            if text.cut and columns[-1] >= len(kept) - 1:  # the end mark is the last one kept
                with pytest.raises(ControlRejected, match=f"cuts the prompt after {length} tokens"):
                    text.columns(phrase)
            else:
                assert [kept[i] for i in text.columns(phrase)] == [whole[i] for i in columns]


def test_a_piece_that_straddles_a_phrases_edge_hides_it_from_a_search_by_ids() -> None:
    text = map_text(unigram(), PROMPT, 512)
    assert text.search("fox") == (2, 10)
    assert text.search("walks") == (11,)
    for phrase in ("home", "box"):  # the prompt has "home." and "box," as one piece each
        assert text.columns(phrase)
        with pytest.raises(ControlRejected, match="stand nowhere in a row"):
            text.search(phrase)


def test_a_search_by_ids_reads_case_as_the_tokenizer_does() -> None:
    text = map_text(clip(), "A fox and a FOX", 77)
    assert text.search("Fox") == (*text.columns("fox"), *text.columns("FOX"))


def test_letters_that_a_tokenizer_rewrites_keep_their_places() -> None:
    text = map_text(unigram(), "A \ufb01re  fox", 512, clean=False)
    assert (text.columns("\ufb01re"), text.columns("fox")) == ((1,), (2,))
