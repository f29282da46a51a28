"""Which everyday words stand for what in the puppet world: a generous table of synonyms, plain data and its lookups.

A stand-in (`wolf` → fox) is the nearest puppet there is; the planner says so in its notes. Knows words, not sentences.
"""

# ruff: noqa: SIM905 (word lists read better as text)

from __future__ import annotations

from functools import cache

KIND_WORDS: dict[str, str] = {
    "fox": "fox vixen",
    "cat": "cat kitten kitty tomcat pussycat",
    "rabbit": "rabbit bunny hare",
    "bird": "bird sparrow robin birdie",
    "robot": "robot android automaton droid",
    "child": "child kid girl boy toddler",
}
"""Words that mean the puppet itself."""

STAND_INS: dict[str, str] = {
    "fox": "wolf dog puppy hound doggy coyote jackal badger weasel bear cub bull cow horse pony deer stag donkey goat "
    "sheep lamb pig boar hyena dingo raccoon moose reindeer",
    "cat": "lion tiger panther leopard lynx cheetah jaguar lioness panda monkey ape otter puma cougar",
    "rabbit": "mouse rat squirrel hedgehog hamster frog toad kangaroo mole beaver guinea-pig gerbil turtle "
    "tortoise snail",
    "bird": "dragon owl eagle hawk raven crow duck duckling goose swan hen chicken rooster chick parrot penguin pigeon "
    "dove seagull butterfly bee bat phoenix stork bug fairy angel fish whale dinosaur snake lizard pegasus griffin",
    "robot": "machine alien monster giant ogre troll golem knight spaceman astronaut car truck train rocket ghost "
    "skeleton snowman statue cyborg computer tractor spaceship ufo goblin demon zombie",
    "child": "princess prince king queen man woman mother father mom dad mum grandmother grandfather grandma grandpa "
    "baby witch wizard farmer person teacher hero heroine traveller traveler stranger friend brother sister pirate elf "
    "dwarf hunter fisherman sailor soldier doctor boyfriend girlfriend lady gentleman hermit monk merchant thief "
    "shepherd miller smith cook baker gardener painter dancer clown magician lad lass uncle aunt neighbour neighbor "
    "captain student villager mermaid gnome human",
}
"""Words for which the nearest puppet plays."""

HUE_WORDS: dict[str, str] = {
    "red": "red scarlet crimson ruby reddish",
    "orange": "orange amber ginger rusty copper tawny",
    "yellow": "yellow golden gold blond blonde yellowish",
    "green": "green emerald olive greenish",
    "cyan": "cyan turquoise teal aqua",
    "blue": "blue navy azure sapphire bluish",
    "purple": "purple violet lilac lavender mauve",
    "pink": "pink rose rosy magenta",
}
FOREIGN_HUES = "black white grey gray brown silver beige bronze dark-brown".split()
"""Colours that no puppet wears: places, props and outlines have them."""

PLACE_WORDS: dict[str, str] = {
    "meadow": "meadow field grass garden park pasture farm lawn countryside prairie hill hills valley village "
    "yard orchard",
    "beach": "beach sea shore seaside ocean coast island lake river sea-shore harbour harbor pond water waves bay",
    "forest": "forest wood woods woodland jungle trees grove thicket tree",
    "city": "city town street streets road market square castle palace house houses bridge school station",
    "desert": "desert dune dunes sand sands canyon savanna savannah wasteland oasis",
    "snow": "snow ice winter snowfield glacier mountain mountains iceberg arctic tundra blizzard",
}
TIME_WORDS: dict[str, str] = {
    "day": "day morning noon afternoon daytime dawn sunrise sun sunny daylight sunlight midday",
    "night": "night evening midnight nighttime dusk sunset moon moonlight stars starlight dark darkness nightfall",
}
PROP_WORDS: dict[str, str] = {
    "ball": "ball apple egg stone rock pebble balloon melon snowball pumpkin pearl marble globe coconut bubble "
    "orange-fruit fruit football boulder moonstone peach plum nut acorn potion crystal",
    "box": "box chest crate present gift parcel suitcase basket bag package treasure barrel cart bucket book trunk "
    "case table chair log wheelbarrow lantern lamp sack cake",
}

VERB_WORDS: dict[str, str] = {
    "walk": "walk run go stroll move march wander travel hurry rush race trot stride step jog sneak creep crawl tiptoe "
    "ride sail swim roam hike cross skip gallop dash sprint head journey return venture plod trudge slither",
    "jump": "jump leap hop bounce spring bound",
    "spin": "spin twirl turn whirl rotate pirouette somersault tumble flip roll",
    "grow": "grow swell expand inflate enlarge",
    "shrink": "shrink dwindle wilt deflate diminish",
    "dance": "dance sway boogie wiggle rock sing celebrate party waltz play cheer rejoice laugh shake tremble wave",
    "lie_down": "sleep rest nap doze faint collapse recline slumber lie sit fall trip",
    "float": "float rise drift fly hover levitate soar ascend climb",
    "vanish": "vanish disappear fade dissolve evaporate melt die hide",
    "enter": "enter arrive appear come emerge",
    "leave": "leave exit depart flee escape retreat",
    "push": "push shove slide kick drag pull throw nudge toss",
    "lift": "lift raise hoist carry hold take grab catch fetch pick find get steal bring seize collect",
    "approach": "approach meet greet visit reach join hug kiss touch help",
    "chase": "chase follow hunt pursue",
    "hop_over": "vault hurdle overleap",
}
"""Base forms; inflections are made from them."""

PHRASALS: tuple[tuple[str, str, str], ...] = (
    *((v, "over", "hop_over") for v in "jump leap hop vault bound spring bounce".split()),
    *((v, "after", "chase") for v in "run go walk race dash hurry rush fly come".split()),
    *((v, "away", "leave") for v in "run go walk fly move hop wander hurry ride sail swim sneak creep dash".split()),
    *((v, "off", "leave") for v in "run go walk fly ride sail wander march set drive".split()),
    *((v, "out", "leave") for v in "run go walk step".split()),
    *((v, "in", "enter") for v in "run walk come step march".split()),
    *((v, "inside", "enter") for v in "run walk come step go".split()),
    *((v, "up to", "approach") for v in "walk run come go step hurry creep sneak".split()),
    *((v, "near", "approach") for v in "come go draw walk".split()),
    *((v, "closer", "approach") for v in "come go move step draw".split()),
    *((v, "asleep", "lie_down") for v in "fall".split()),
    *((v, "to sleep", "lie_down") for v in "go fall drift".split()),
    *((v, "to bed", "lie_down") for v in "go".split()),
    *((v, "down", "lie_down") for v in "lie lay fall drop flop sink sit settle".split()),
    ("fade", "away", "vanish"),
    ("melt", "away", "vanish"),
    ("get", "bigger", "grow"),
    ("get", "big", "grow"),
    ("become", "bigger", "grow"),
    ("become", "big", "grow"),
    ("become", "huge", "grow"),
    ("become", "a giant", "grow"),
    ("get", "smaller", "shrink"),
    ("get", "small", "shrink"),
    ("become", "smaller", "shrink"),
    ("become", "small", "shrink"),
    ("become", "tiny", "shrink"),
    ("grow", "smaller", "shrink"),
    ("get", "up", "jump"),
    ("stand", "up", "jump"),
    ("wake", "up", "jump"),
    ("look", "around", "spin"),
    ("lift", "off", "float"),
    ("take", "off", "float"),
    ("go", "up", "float"),
    ("pick", "up", "lift"),
    ("come", "back", "enter"),
    ("come", "out", "enter"),
    ("come", "along", "enter"),
    ("go", "home", "leave"),
)
"""A base form and what follows it within its clause; tried before the bare form."""

NEEDS_OBJECT = frozenset("lift push get take find bring hold catch pick".split())
"""World verbs and base forms that mean their act only with a thing to do it to."""

IRREGULAR: dict[str, str] = {
    "run": "ran running runs run", "go": "went gone goes going", "ride": "rode ridden", "swim": "swam swum swimming",
    "creep": "crept", "leap": "leapt", "spring": "sprang sprung", "bound": "bounded", "spin": "spun spinning",
    "grow": "grew grown", "swell": "swollen", "shrink": "shrank shrunk shrunken", "sing": "sang sung", "sleep": "slept",
    "shake": "shook shaken", "lie": "lay lain lies lying", "lay": "laid", "sit": "sat sitting", "fall": "fell fallen",
    "rise": "rose risen", "fly": "flew flown flies", "die": "died dying", "hide": "hid hidden",
    "come": "came", "leave": "left", "flee": "fled", "drag": "dragged dragging", "throw": "threw thrown",
    "hold": "held", "take": "took taken", "catch": "caught", "find": "found", "get": "got gotten getting",
    "steal": "stole stolen", "bring": "brought", "meet": "met", "become": "became", "stand": "stood",
    "wake": "woke woken",
    "draw": "drew drawn", "sink": "sank sunk", "set": "setting", "drive": "drove driven", "stride": "strode",
    "sneak": "snuck", "slide": "slid sliding", "fetch": "fetched", "do": "did done does", "make": "made",
    "have": "had has having", "be": "is was were are been being am", "say": "said",
}  # fmt: skip

PRONOUNS = frozenset("he she it they who that which him her them".split())
PLURAL_PRONOUNS = frozenset("they them both".split())
DETERMINERS = frozenset(
    "the a an his her its their my your our this that another one every some two three four five many each no".split()
)
ANOTHER = frozenset("another second other".split())
NEGATIONS = frozenset("not never n't cannot didn't doesn't don't won't can't couldn't wouldn't isn't wasn't".split())
LIGHT_VERBS = frozenset("take have do make go give start begin".split())
JOINERS = frozenset("and then but while as when before after until so or next finally suddenly afterwards".split())
"""Words that begin another clause."""


@cache
def kinds() -> dict[str, tuple[str, bool]]:
    """Noun, singular or plural → (puppet, whether it only stands in)."""
    table: dict[str, tuple[str, bool]] = {}
    for words, stands_in in ((STAND_INS, True), (KIND_WORDS, False)):
        for kind, nouns in words.items():
            for noun in nouns.split():
                table |= dict.fromkeys((noun, *plurals(noun)), (kind, stands_in))
    return table


@cache
def singulars() -> dict[str, str]:
    """Plural noun → singular, for every creature."""
    nouns = [noun for words in (KIND_WORDS, STAND_INS) for text in words.values() for noun in text.split()]
    return {plural: noun for noun in nouns for plural in plurals(noun) if plural not in nouns}


@cache
def flat(table: str) -> dict[str, str]:
    """Word → what it stands for; `table` is hues, places, times or props."""
    tables = {"hues": HUE_WORDS, "places": PLACE_WORDS, "times": TIME_WORDS, "props": PROP_WORDS}
    found = {word: key for key, words in tables[table].items() for word in words.split()}
    if table == "props":
        found |= {plural: key for word, key in list(found.items()) for plural in plurals(word)}
    return found


@cache
def verbs() -> dict[str, str]:
    """Base form → world verb."""
    return {base: verb for verb, words in VERB_WORDS.items() for base in words.split()}


@cache
def bases() -> dict[str, str]:
    """Every inflected form of every verb we know anything about → its base form."""
    every = {*verbs(), *(base for base, _, _ in PHRASALS), *IRREGULAR, *LIGHT_VERBS}
    table: dict[str, str] = {}
    for base in sorted(every):
        table |= dict.fromkeys(inflections(base), base)
    table |= {base: base for base in every}
    table |= {form: base for base, forms in IRREGULAR.items() for form in forms.split()}
    return table


@cache
def phrasals() -> dict[str, list[tuple[tuple[str, ...], str]]]:
    """Base form → [(what follows, world verb)], longest first."""
    table: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for base, follows, verb in PHRASALS:
        table.setdefault(base, []).append((tuple(follows.split()), verb))
    return {base: sorted(pairs, key=lambda p: -len(p[0])) for base, pairs in table.items()}


def plurals(noun: str) -> tuple[str, ...]:
    """Regular and known irregular plurals."""
    irregular = {
        "child": "children", "mouse": "mice", "goose": "geese", "man": "men", "woman": "women", "wolf": "wolves",
        "fish": "fishes", "person": "people", "elf": "elves", "dwarf": "dwarves", "thief": "thieves",
    }  # fmt: skip
    if noun in irregular:
        return (irregular[noun],)
    if noun.endswith(("s", "x", "ch", "sh")):
        return (noun + "es",)
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return (noun[:-1] + "ies",)
    return (noun + "s",)


def inflections(base: str) -> tuple[str, ...]:
    """`walk` → walk, walks, walked, walking, with the usual spelling rules."""
    if base.endswith("e"):
        return base, base + "s", base + "d", base[:-1] + "ing"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base, base[:-1] + "ies", base[:-1] + "ied", base + "ing"
    s = base + ("es" if base.endswith(("s", "x", "ch", "sh", "o")) else "s")
    forms = (base, s, base + "ed", base + "ing")
    short = len(base) > 2 and base[-1] not in "aeiouwxy" and base[-2] in "aeiou" and base[-3] not in "aeiou"
    return (*forms, base + base[-1] + "ed", base + base[-1] + "ing") if short else forms
