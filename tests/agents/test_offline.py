"""The rules that plan without a model: what they understand, and that they say what they do not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import lexicon
from agents.brains import Brief
from agents.errors import PlanError, UnfilmableStory
from agents.offline import OfflinePlanner, world_plan
from agents.segmenter import RuleSegmenter
from agents.sentences import cut_prompt, split_sentences, states_of
from agents.storyboard import Storyboard
from agents.worldplan import WorldPlan, other_wording, problems, read_phrase
from generators.world.captions import predicates, vocabulary
from generators.world.words import HUES, KINDS, PLACES, PROPS, TIMES, VERBS

BRIEF = Brief(shot_seconds=(4.0, 8.0), max_shots=12)


def acts(plan: WorldPlan) -> list[tuple[str, str]]:
    return [(event.actor, event.verb) for shot in plan.shots for event in shot.events]


def told(text: str) -> list[str]:
    return [sentence.text for sentence in split_sentences(text)]


def said(text: str) -> list[str]:
    return [sentence.text for sentence in split_sentences(text) if sentence.spoken]


def read(story: str, **changes: object) -> WorldPlan:
    return world_plan(story, Brief(**{"shot_seconds": (4.0, 8.0), "max_shots": 12} | changes))  # type: ignore[arg-type]


def test_sentences_become_shots_and_pronouns_mean_who_acted_last() -> None:
    plan = read("The red fox jumps in the meadow. Then it walks to the left.")
    assert acts(plan) == [("fox", "jump"), ("fox", "walk")]
    assert plan.shots[1].events[0].side == "left"
    assert (plan.cast[0].hue, plan.shots[0].place) == ("red", "meadow")
    assert plan.notes == []


def test_a_whole_fairy_tale_is_staged_with_its_names_places_and_times() -> None:
    plan = read(
        "The Lost Ball\n\nOnce upon a time, a little princess called Mia played in the garden. A dragon came in from "
        "the left! The dragon picked up her golden ball and flew away.\nMia chased the dragon through the forest, but "
        'it vanished. At night, a kind robot brought the ball back. "Thank you!" said Mia, and she danced with him.'
    )
    assert plan.title == "The Lost Ball"
    assert acts(plan) == [
        ("Mia", "dance"),
        ("dragon", "enter"),
        ("dragon", "lift"),
        ("dragon", "leave"),
        ("Mia", "chase"),
        ("dragon", "vanish"),
        ("robot", "lift"),
        ("Mia", "dance"),
    ]
    assert [(c.name, c.kind) for c in plan.cast] == [("Mia", "child"), ("dragon", "bird"), ("robot", "robot")]
    assert [shot.place for shot in plan.shots] == ["meadow", "meadow", "meadow", "forest", "forest", "forest"]
    assert [shot.time for shot in plan.shots][-2:] == ["night", "night"]
    assert any("no dragon in the puppet world: a bird plays" in note for note in plan.notes)
    assert any("Thank you!" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The wolf is chased by a rabbit.", [("rabbit", "chase")]),
        ("The fox and the cat dance on the beach.", [("fox", "dance"), ("cat", "dance")]),
        ("The fox takes a walk and then falls asleep.", [("fox", "walk"), ("fox", "lie_down")]),
        ("The fox left.", [("fox", "leave")]),
        ("A boy starts to run after the cat.", [("boy", "chase")]),
        ("The bird walks up to the robot.", [("bird", "approach")]),
        ("The rabbit leaps over the fox.", [("rabbit", "hop_over")]),
        ("The robot picks the box up.", [("robot", "lift")]),
        ("A cat shrinks, and the fox grows.", [("cat", "shrink"), ("fox", "grow")]),
        ("The bird does not fly, but it spins.", [("bird", "spin")]),
        ("Suddenly the ghost fades away.", [("ghost", "vanish")]),
        ("The strange blorf jumps.", [("blorf", "jump")]),
        ("The children march to the right.", [("child", "walk")]),
        ("The fox, the cat and the bird dance.", [("fox", "dance"), ("cat", "dance"), ("bird", "dance")]),
        ("The ball was thrown into the lake by the bear.", [("bear", "push")]),
        ("The fox was quickly pushed over the hill by the bear.", [("bear", "push")]),
        ("A robot waits. Running fast, the fox jumps.", [("fox", "walk"), ("fox", "jump")]),
        ("A big, hungry, red wolf leaps.", [("wolf", "jump")]),
        ("A cat spins. The dog barks and jumps.", [("cat", "spin"), ("dog", "jump")]),
        ("A cat spins. The queen mounted her horse and danced.", [("cat", "spin"), ("queen", "dance")]),
        ("Captain Nora spins. Nora jumps.", [("Nora", "spin"), ("Nora", "jump")]),
        ("The fox walks in the rain. The cat walks in.", [("fox", "walk"), ("cat", "enter")]),
        ("The fox jumps. She turned into a swan.", [("fox", "jump")]),
        ("The fox jumps. Then laughter rose.", [("fox", "jump")]),
    ],
)
def test_sentences_are_understood(sentence: str, expected: list[tuple[str, str]]) -> None:
    assert acts(read(sentence)) == expected


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_of_the_world_can_be_said_in_its_own_words(verb: str) -> None:
    words = {"side": "left", "prop": "ball", "other": "blue cat"}
    plan = read(f"A blue cat dances. The red fox {predicates(verb)[0].format(**words)}.")
    assert acts(plan)[-1] == ("fox", verb)
    assert plan.notes == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_puppet_has_words_and_stand_ins(kind: str) -> None:
    own, stand_in = lexicon.KIND_WORDS[kind].split()[0], lexicon.STAND_INS[kind].split()[0]
    assert read(f"The {own} jumps.").notes == []
    plan = read(f"The {stand_in} jumps.")
    assert plan.cast[0].kind == kind
    assert any(stand_in in note for note in plan.notes)


def test_the_tables_lead_only_to_words_of_the_world() -> None:
    phrasals = (*lexicon.PHRASALS, *lexicon.PHRASAL_STAND_INS)
    assert set(lexicon.verbs().values()) | {verb for *_, verb in phrasals} == set(VERBS)
    for table, words in (("hues", HUES), ("places", PLACES), ("times", TIMES), ("props", PROPS)):
        assert set(lexicon.flat(table).values()) == set(words)


def test_a_word_that_belongs_to_one_verb_is_nobody_before_the_next() -> None:
    plan = read("At night, the red fox lies down to sleep.")
    assert acts(plan) == [("fox", "lie_down")]
    assert [member.name for member in plan.cast] == ["fox"]
    assert plan.notes == []


def test_night_that_falls_is_told_by_the_shot() -> None:
    plan = read("When night falls, the red fox jumps.")
    assert [shot.time for shot in plan.shots] == ["night"]
    assert plan.notes == []


def test_what_stands_on_the_moon_is_not_lit_by_it() -> None:
    plan = read("The fox jumps on the moon. The moon rises and the fox spins.")
    assert [(shot.place, shot.time) for shot in plan.shots] == [("desert", "day"), ("desert", "night")]


def test_a_colour_belongs_to_the_creature_it_stands_before() -> None:
    plan = world_plan("The red fox jumps. The blue cat chases the fox.", BRIEF)
    assert [(subject.name, subject.hue) for subject in plan.cast] == [("fox", "red"), ("cat", "blue")]


def test_everybody_wears_a_colour_of_their_own_and_the_storys_where_it_can_be() -> None:
    plan = read("A blue cat jumps. A blue robot spins. A cat named Tom dances. A green bird floats.")
    hues = {c.name: c.hue for c in plan.cast}
    assert len(set(hues.values())) == 4
    assert (hues["cat"], hues["bird"]) == ("blue", "green")
    assert any("'robot' is" in note and "instead of blue" in note for note in plan.notes)


def test_a_ninth_character_is_left_out_and_named() -> None:
    names = ["fox", "cat", "rabbit", "bird", "robot", "girl", "wolf", "lion", "mouse"]
    plan = read(" ".join(f"The {name} jumps." for name in names))
    assert len(plan.cast) == 8
    assert any("every colour is worn" in note and "'The mouse jumps.'" in note for note in plan.notes)


def test_what_cannot_be_shown_is_said_in_the_storys_own_words() -> None:
    plan = read("The fox jumps. The committee adopted its budget unanimously. The fox gets a good idea.")
    text = " ".join(plan.notes)
    assert "committee adopted its budget" in text
    assert "gets a good idea" in text


def test_a_story_of_two_hundred_pages_is_cut_to_the_budget_quickly_and_says_what_is_missing() -> None:
    page = "The fox jumps over the cat. It rained, and nobody saw the rabbit as it walked to the town. " * 20
    begun = time.process_time()
    plan = read(page * 200, max_shots=8)
    assert time.process_time() - begun < 10
    assert len(plan.shots) == 8
    assert any("more sentences are left out" in note and "8 shots" in note for note in plan.notes)
    assert len(plan.notes) <= 41


def test_the_length_asked_for_bounds_the_shots() -> None:
    assert len(read("The fox jumps. " * 9, seconds=12.0).shots) == 3


@pytest.mark.parametrize(
    "story", ["", "  \n", "狐狸跳了起来，然后走了。", "Лиса прыгает.", "Two and two is four.", "!!! 123"]
)
def test_what_holds_nothing_to_show_is_refused_with_what_is_expected(story: str) -> None:
    with pytest.raises(PlanError, match="for example: The red fox jumps"):
        read(story)


def test_a_story_with_nothing_to_film_is_told_what_is_wrong_and_what_to_do() -> None:
    with pytest.raises(UnfilmableStory) as refused:
        read("The students understood it. “Run!” The moon vanished.")
    said = str(refused.value)
    assert "no act in it that the world can show: 'The students understood it.'" in said
    assert "it is said, not done: 'Run!'" in said
    assert "nobody does it whom a puppet could play: 'The moon vanished.'" in said
    assert all(verb.replace("_", " ") in said for verb in VERBS)
    assert all(kind in said for kind in KINDS)
    assert "language model" in said
    assert "English, and" not in said


def test_a_story_in_another_language_is_told_that_the_rules_read_english() -> None:
    with pytest.raises(UnfilmableStory, match="does not seem to be English"):
        read("Der Fuchs springt hoch. Die Katze schläft im Garten.")


async def test_the_storyboard_speaks_the_bundled_models_own_language() -> None:
    board = await OfflinePlanner().plan("Pim the fox jumps, then he pushes a ball. The cat vanishes at night.", BRIEF)
    assert board.shots[0].prompt == "In the meadow by day, the red fox jumps up. Then the red fox pushes the ball."
    assert board.cast[0].name == "Pim"
    known = set(vocabulary())
    for shot in board.shots:
        assert {word.strip(".,").lower() for word in shot.prompt.split()} <= known


async def test_one_event_lasts_four_seconds_and_two_have_three_latent_frames_each() -> None:
    board = await OfflinePlanner().plan("The fox jumps. The cat spins and walks away.", BRIEF)
    one, two = [await RuleSegmenter().segment(shot) for shot in board.shots]
    assert one.seconds == 4.0
    assert two.seconds in (4.0, 8.0)
    assert all(event.end - event.start >= 1.5 for event in two.events)


async def test_a_style_is_not_silently_dropped() -> None:
    brief = Brief(shot_seconds=(4.0,), max_shots=3, style="film noir")
    board = await OfflinePlanner().plan("The fox jumps.", brief)
    assert any("film noir" in note for note in board.notes)


TABLES = (lexicon.kinds(), lexicon.bases(), lexicon.DETERMINERS, lexicon.PRONOUNS, lexicon.JOINERS, HUES)
OTHERS = "to left right over after away up down in by named very meadow night ball box Pim Oro blorf , ."
WORDS = st.sampled_from(sorted({*(word for table in TABLES for word in table), *OTHERS.split(" ")}))


async def _sound(story: str) -> None:
    """Either a PlanError or a storyboard whose plan the world can play and whose phrases stand in its prompts."""
    try:
        plan = world_plan(story, BRIEF)
    except PlanError:
        return
    assert problems(plan, BRIEF.max_shots) == []
    board: Storyboard = await OfflinePlanner().plan(story, BRIEF)
    for shot in board.shots:
        timed = await RuleSegmenter().segment(shot)
        at = -1
        for event in timed.events:
            assert event.phrase in timed.prompt[at + 1 :]
            at = timed.prompt.index(event.phrase, at + 1)
            assert read_phrase(event.phrase) is not None


@pytest.mark.slow
@settings(max_examples=150)
@given(st.lists(WORDS, max_size=40).map(" ".join))
async def test_no_heap_of_known_words_breaks_the_rules(story: str) -> None:
    await _sound(story)


@settings(max_examples=100)
@given(st.text(max_size=300))
async def test_no_text_breaks_the_rules(story: str) -> None:
    await _sound(story)


def test_sentences_are_split_at_stops_paragraphs_and_without_quotation_marks() -> None:
    assert told('The fox ran. "Stop!" cried Ann.\n\nNight fell') == [
        "The fox ran.",
        "Stop!",
        "cried Ann.",
        "Night fell",
    ]
    assert told("Mr. Fox met Mrs. Cat. They danced.") == ["Mr. Fox met Mrs. Cat.", "They danced."]


def test_what_somebody_says_is_told_apart_and_a_word_in_quotation_marks_is_not() -> None:
    assert said('"Come here," said the fox, "and run!" The "brave" cat jumped.') == ["Come here", "and run!"]
    assert said("‘Don’t dance!’ cried the foxes' king. It's late.") == ["Don’t dance!"]
    assert said("„Lauf!“ rief er. «Cours!» cria-t-elle.") == ["Lauf!", "Cours!"]
    assert said('He said "hello and never shut his mouth. The fox ran.') == []
    assert said('"The fox jumps."') == [], "a whole story between quotation marks is told"


@pytest.mark.parametrize("verb", VERBS)
def test_every_wording_is_read_back_and_has_another_one(verb: str) -> None:
    for template in predicates(verb):
        phrase = template.format(side="left", prop="ball", other="red fox")
        told = read_phrase(phrase)
        assert told is not None
        assert told.verb == verb
        other = other_wording(phrase)
        assert other is not None
        assert other != phrase
        again = read_phrase(other)
        assert again is not None
        assert again.verb == verb


def test_a_prompt_comes_apart_between_its_events_and_keeps_its_scene() -> None:
    prompt = "In the meadow by day, the red fox jumps up. Then the red fox walks to the left."
    assert cut_prompt(prompt, ["jumps up", "walks to the left"], 1) == (
        "In the meadow by day, the red fox jumps up.",
        "In the meadow by day, The red fox walks to the left.".replace("The red", "the red"),
    )
    assert cut_prompt("The fox jumps up and walks away.", ["jumps up", "walks away"], 1) is None


def test_a_prompt_comes_apart_into_a_state_for_every_event() -> None:
    prompt = "This happens at night. The red fox jumps up. Then the blue cat spins. After that the red fox leaves."
    assert states_of(prompt, ["jumps up", "spins", "leaves"]) == (
        "This happens at night. The red fox jumps up.",
        "This happens at night. The blue cat spins.",
        "This happens at night. The red fox leaves.",
    )
    assert states_of("The fox jumps up and leaves.", ["jumps up", "leaves"]) == ()
