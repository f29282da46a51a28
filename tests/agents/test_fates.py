"""What becomes of every sentence: filmed, or named with the reason; and notes that speak of nothing else."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents import lexicon
from agents.brains import Brief
from agents.clauses import clauses_of
from agents.errors import UnfilmableStory
from agents.fates import MOST_NAMED, listed
from agents.offline import world_plan
from agents.reading import Reader
from agents.sentences import Sentence, quoted, split_sentences
from agents.titles import split_title
from agents.worldplan import WorldPlan, actors_of
from generators.world.words import HUES, PLACES, PROPS, VERBS

BRIEF = Brief(shot_seconds=(4.0, 8.0), max_shots=12)

KNOWN = (
    lexicon.kinds(),
    lexicon.bases(),
    lexicon.DETERMINERS,
    lexicon.PRONOUNS,
    lexicon.JOINERS,
    lexicon.flat("places"),
)
OTHERS = "polished theorem silver cheese Ember Oro blorf by in on to over with not wanted 7 , “ ” ; –"
WORDS = st.sampled_from(sorted({*(word for table in KNOWN for word in table), *HUES, *OTHERS.split(" ")}))
SENTENCES = st.tuples(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), st.sampled_from([".", "!", "?", ".”"]))
STORIES = st.lists(SENTENCES.map("".join), min_size=1, max_size=3).map(" ".join)
"""So short that no note has to count what it could name."""


def read(story: str, max_shots: int = 12) -> WorldPlan:
    return world_plan(story, Brief(shot_seconds=(4.0, 8.0), max_shots=max_shots))


def told(story: str) -> tuple[set[str], str]:
    """Sentences that a shot tells, and everything the planner says beside them."""
    try:
        plan = read(story)
    except UnfilmableStory as error:
        return set(), str(error)
    return {shot.sentence for shot in plan.shots}, "\n".join(plan.notes)


@given(STORIES)
@example("Once upon a time there was a castle on the moon. The fox jumped.")
@example("The moon rose. “Run!” said the fox. The fox danced.")
@example("The fox jumped. 123. And then.")
@example("The fox was pushed. Has the fox jumped? The fox jumped.")
def test_every_sentence_is_in_the_storyboard_or_named_in_a_note(story: str) -> None:
    filmed, said = told(story)
    _, body = split_title(story)
    for sentence in split_sentences(body):
        assert sentence.text in filmed or quoted(sentence.text) in said, sentence


@given(st.text(max_size=200))
def test_every_sentence_of_any_text_is_accounted_for(story: str) -> None:
    if not story.strip():
        return
    filmed, said = told(story)
    _, body = split_title(story)
    sentences = [sentence.text for sentence in split_sentences(body)]
    if len(sentences) <= 3:
        assert all(text in filmed or quoted(text) in said for text in sentences)


@given(STORIES)
def test_notes_speak_only_of_what_is_in_the_storyboard_or_left_out(story: str) -> None:
    try:
        plan = read(story)
    except UnfilmableStory:
        return
    events = [event for shot in plan.shots for event in shot.events]
    names = set(actors_of(events))
    assert {subject.name for subject in plan.cast} == names
    shown = {f"the {shot.place}" for shot in plan.shots} | {f"a {event.prop}" for event in events}
    shown |= {repr(event.verb.replace("_", " ")) for event in events} | set(map(repr, names))
    for note in plan.notes:
        if match := re.search(r"(?:is|are) filmed as (.*)$", note):
            assert match[1] in shown, note
        if match := re.search(r"plays '(.*)'$", note):
            assert match[1] in names, note
        assert note.startswith("Characters that no shot shows") is False or not names & set(
            re.findall(r"'(\w+)'", note)
        )


@given(STORIES)
def test_every_word_of_a_sentence_belongs_to_a_part_or_joins_two(story: str) -> None:
    for sentence in split_sentences(story):
        rest = sentence.text
        for clause in clauses_of(sentence.text):
            rest = rest.replace(clause.text, " ", 1)
        assert set(re.findall(r"[^\W\d_]+", rest.lower())) <= lexicon.JOINERS
        spans = [(part.start, part.end) for part in Reader().read(sentence)]
        assert spans == sorted(spans)


@pytest.mark.parametrize(
    ("story", "notes"),
    [
        (
            "Once upon a time there was a castle on the moon. A red fox danced in the castle.",
            [
                "'castle' is filmed as the city",
                "Places that no shot shows: 'moon'",
                "Not filmed, it only says how things are: 'Once upon a time there was a castle on the moon.'",
            ],
        ),
        (
            "The fox sang and played on the moon.",
            ["'sing' and 'play' are filmed as 'dance'", "'moon' is filmed as the desert"],
        ),
        (
            "The fox jumped. The castle burned down. Nobody saw a wolf.",
            [
                "Places that no shot shows: 'castle'",
                "Characters that no shot shows: 'wolf'",
                "Not filmed, no act in it that the world can show: 'The castle burned down.' and 'Nobody saw a wolf.'",
            ],
        ),
        (
            "The fox jumped and polished the silver bell.",
            ["Not filmed, no act in it that the world can show: 'polished the silver bell'"],
        ),
        (
            "The fox was pushed. The moon vanished. The fox jumped.",
            ["Not filmed, nobody does it whom a puppet could play: 'The fox was pushed.' and 'The moon vanished.'"],
        ),
        (
            "The cat wanted to fly. No bird danced. Did the fox spin? The fox jumped.",
            [
                "Characters that no shot shows: 'cat' and 'bird'",
                "Not filmed, it does not happen, it is denied, asked or wished: 'The cat wanted to fly.', "
                "'No bird danced.' and 'Did the fox spin?'",
            ],
        ),
        (
            'The fox jumped. "Run to the castle!" cried the cat.',
            [
                "Characters that no shot shows: 'cat'",
                "Not filmed, it is said, not done: 'Run to the castle!' and 'cried the cat.'",
            ],
        ),
        ("The fox lifts a golden apple.", ["'apple' is filmed as a ball"]),
        ("An egg is taken away by the fox.", ["'egg' is filmed as a ball"]),
        (
            "The fox pulled and pulled.",
            [
                "The thing in 'The fox pulled' and the thing in 'pulled' are filmed as a box",
                "'pull' is filmed as 'push'",
            ],
        ),
        (
            "The fox hugged the tree.",
            ["'hug' without anybody to do it to is filmed as 'walk'", "'tree' is filmed as the forest"],
        ),
        (
            "The fox jumps. The cat hugs.",
            ["The other one in 'The cat hugs' is filmed as 'fox'", "'hug' is filmed as 'approach'"],
        ),
        (
            "The dogs bark and dance.",
            [
                "There is no dog in the puppet world: a fox plays 'dog'",
                "One puppet plays all 'dogs'",
                "Not filmed, no act in it that the world can show: 'The dogs bark'",
            ],
        ),
        ("The fox jumped\nThe cat danced.", ["The first line is taken for the title and not filmed: 'The fox jumped'"]),
    ],
)
def test_what_is_changed_or_left_out_is_said(story: str, notes: list[str]) -> None:
    assert sorted(read(story).notes) == sorted(notes)


def test_a_puppet_that_stands_in_for_somebody_who_never_acts_is_not_named() -> None:
    notes = read("A dragon slept by the sea. The wolf thought of the king. The fox jumped.").notes
    assert "There is no dragon in the puppet world: a bird plays 'dragon'" in notes
    assert not any("wolf in the puppet world" in note or "king in the puppet world" in note for note in notes)


def test_of_many_sentences_the_first_are_named_and_the_rest_counted() -> None:
    lost = [f"The {word} theorem was explained." for word in lexicon.HUE_WORDS] + ["It rained."] * 200
    plan = read(" ".join(["The fox jumped.", *lost, *(f"The professor polished bell {n}." for n in range(90))]))
    (spoken,) = (note for note in plan.notes if "said" in note)
    assert all(quoted(text) in spoken for text in lost[:8])
    (unknown,) = (note for note in plan.notes if "no act in it" in note)
    assert unknown.count("polished bell") == MOST_NAMED - 1
    assert unknown.endswith(f"and {90 - MOST_NAMED + 1} more")


def test_a_list_names_each_text_once_and_counts_what_it_does_not_name() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "a"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "c", "d"], most=2) == "a, b and 3 more"


def test_notes_of_two_hundred_pages_are_few_lines() -> None:
    page = (
        "Ember the dragon guarded a castle on the moon. “Who is there?” asked the knight. The ship sailed away. "
        "The queen wept in the library. Nobody knew why the stars fell asleep, and the wolf was never seen again. "
    ) * 10
    begun = time.process_time()
    plan = read(page * 200, max_shots=1000)
    assert time.process_time() - begun < 60
    assert len(plan.notes) < 30
    assert max(map(len, plan.notes)) < 1200


def test_nothing_said_or_asked_is_read_for_acts() -> None:
    assert not any(part.acts for part in Reader().read(Sentence(text="The fox jumps.", spoken=True)))
    assert not any(part.acts for part in Reader().read(Sentence(text="The fox jumps?")))


def test_the_worlds_own_words_are_no_swaps() -> None:
    assert lexicon.own("places") >= set(PLACES)
    assert lexicon.own("props") >= set(PROPS)
    assert lexicon.own("verbs") >= {verb.replace("_", " ") for verb in VERBS}


@pytest.mark.parametrize(
    ("story", "acts"),
    [
        ("Mia the fox and Tom the cat live in the forest. Mia and Tom dance.", ["fox dance", "cat dance"]),
        ("Pim was a small fox. Pim jumped.", ["fox jump"]),
        ("Mia was the red fox. Mia jumped.", ["fox jump"]),
        ("The fox walked away. The cat could not walk, so it slept.", ["fox leave", "cat lie_down"]),
        ("The fox did not run but walked.", ["fox walk"]),
        ("The fox without a tail jumps.", ["fox jump"]),
        ("A fox with no fear jumps over the cat.", ["fox hop_over"]),
        ("The fox ran out of the forest.", ["fox leave"]),
        ("The fox danced. The fox hoped.", ["fox dance"]),
        ("The fox danced. The cat asked the fox to jump.", ["fox dance"]),
        ("The fox danced. The dog wanted the cat to jump.", ["fox dance"]),
        ("The fox danced. The fox said that the cat jumped.", ["fox dance"]),
        ("The fox danced. The cat fell in love.", ["fox dance"]),
    ],
)
def test_who_does_what_is_read_as_it_is_written(story: str, acts: list[str]) -> None:
    plan = read(story)
    kinds = {subject.name: subject.kind for subject in plan.cast}
    assert [f"{kinds[event.actor]} {event.verb}" for shot in plan.shots for event in shot.events] == acts


@pytest.mark.parametrize("story", ["Mia, the fox, jumped.", "The fox stopped jumping. The fox danced."])
def test_who_is_filmed_is_not_said_to_be_left_out(story: str) -> None:
    _, said = told(story)
    assert "'Mia'" not in said
    assert "'stopped'" not in said
