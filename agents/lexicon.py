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
    "skeleton snowman statue cyborg computer tractor ship boat spaceship ufo goblin demon zombie",
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
    "meadow": "meadow field grass grassland pasture prairie lawn",
    "beach": "beach shore seaside coast sea-shore",
    "forest": "forest wood woods woodland",
    "city": "city town street streets",
    "desert": "desert dune dunes",
    "snow": "snow snowfield",
}
"""Words that mean the place itself."""

PLACE_STAND_INS: dict[str, str] = {
    "meadow": "garden park farm countryside hill hills valley village yard orchard playground",
    "beach": "sea ocean island lake river harbour harbor pond water waves bay lighthouse",
    "forest": "jungle grove thicket tree trees swamp cave",
    "city": "road market square castle palace house houses bridge school station kitchen library tower gate church "
    "temple shop inn tavern cottage hut room hall bedroom garage hospital museum theatre theater factory bakery",
    "desert": "sand sands canyon savanna savannah wasteland oasis moon mars planet crater volcano",
    "snow": "ice winter glacier mountain mountains iceberg arctic tundra blizzard",
}
"""Words for which the nearest place stands in."""

TIME_WORDS: dict[str, str] = {
    "day": "day morning noon afternoon daytime dawn sunrise sun sunny daylight sunlight midday",
    "night": "night evening midnight nighttime dusk sunset moon moonlight stars starlight dark darkness nightfall",
}
PROP_WORDS: dict[str, str] = {
    "ball": "ball football",
    "box": "box crate chest case parcel package",
}
"""Words that mean the thing itself."""

PROP_STAND_INS: dict[str, str] = {
    "ball": "apple egg stone rock pebble balloon melon snowball pumpkin pearl marble globe coconut bubble "
    "orange-fruit fruit boulder moonstone peach plum nut acorn potion crystal",
    "box": "present gift suitcase basket bag treasure barrel cart bucket book trunk table chair log wheelbarrow "
    "lantern lamp sack cake",
}
"""Words for which the nearest thing stands in."""

VERB_WORDS: dict[str, str] = {
    "walk": "walk go stroll move march wander stride step roam hike plod trudge head",
    "jump": "jump leap hop bounce spring bound",
    "spin": "spin twirl turn whirl rotate pirouette",
    "grow": "grow swell expand inflate enlarge",
    "shrink": "shrink dwindle wilt deflate diminish",
    "dance": "dance sway boogie wiggle rock waltz",
    "lie_down": "lie recline",
    "float": "float rise drift hover levitate ascend",
    "vanish": "vanish disappear fade dissolve",
    "enter": "enter arrive come",
    "leave": "leave exit depart",
    "push": "push shove slide",
    "lift": "lift raise hoist take",
    "approach": "approach reach",
    "chase": "chase follow hunt pursue",
    "hop_over": "vault hurdle overleap",
}
"""Base forms that mean the act itself; inflections are made from them."""

VERB_STAND_INS: dict[str, str] = {
    "walk": "run travel hurry rush race trot jog sneak creep crawl tiptoe ride sail swim cross skip gallop dash "
    "sprint journey return venture slither",
    "spin": "somersault tumble flip roll",
    "dance": "sing celebrate party play cheer rejoice laugh shake tremble wave",
    "lie_down": "sleep rest nap doze faint collapse slumber sit fall trip",
    "float": "climb fly soar",
    "vanish": "evaporate melt die hide",
    "enter": "appear emerge",
    "leave": "flee escape retreat",
    "push": "kick drag pull throw nudge toss",
    "lift": "carry hold grab catch fetch pick find get steal bring seize collect",
    "approach": "meet greet visit join hug kiss touch help",
}
"""Base forms that are filmed as the nearest act; the planner says so."""

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
    *((v, "down", "lie_down") for v in "lie lay fall drop flop sink".split()),
    ("fade", "away", "vanish"),
    ("melt", "away", "vanish"),
    ("get", "bigger", "grow"),
    ("get", "big", "grow"),
    ("become", "bigger", "grow"),
    ("become", "big", "grow"),
    ("become", "huge", "grow"),
    ("get", "large", "grow"),
    ("become", "large", "grow"),
    ("become", "a giant", "grow"),
    ("get", "smaller", "shrink"),
    ("get", "small", "shrink"),
    ("become", "smaller", "shrink"),
    ("become", "small", "shrink"),
    ("become", "tiny", "shrink"),
    ("get", "little", "shrink"),
    ("become", "little", "shrink"),
    ("grow", "smaller", "shrink"),
    ("lift", "off", "float"),
    ("take", "off", "float"),
    ("go", "up", "float"),
    ("pick", "up", "lift"),
    ("come", "back", "enter"),
    ("come", "out", "enter"),
    ("come", "along", "enter"),
)
"""A base form and what follows it within its clause, which mean the act itself; tried before the bare form."""

PHRASAL_STAND_INS: tuple[tuple[str, str, str], ...] = (
    *((v, "down", "lie_down") for v in "sit settle".split()),
    *((v, "to sleep", "lie_down") for v in "go fall drift".split()),
    ("fall", "asleep", "lie_down"),
    ("go", "to bed", "lie_down"),
    ("get", "up", "jump"),
    ("stand", "up", "jump"),
    ("wake", "up", "jump"),
    ("look", "around", "spin"),
    ("go", "home", "leave"),
)
"""The same, filmed as the nearest act."""

NO_ACTS: tuple[tuple[str, str], ...] = (
    ("turn", "into"),
    ("turn", "out"),
    ("fall", "in love"),
    ("take", "place"),
    ("take", "care"),
    ("catch", "fire"),
    ("go", "wrong"),
    ("come", "true"),
)
"""Phrases that mean no act of the world, though their verb alone would."""

SPEAKING = frozenset(
    "say ask answer reply shout cry whisper exclaim mutter murmur yell tell explain declare announce scream "
    "promise warn".split()
)
"""Base forms of what is done with words; the world is silent."""

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
NEGATIONS = frozenset(
    "not never n't cannot didn't doesn't don't won't can't couldn't wouldn't isn't wasn't no nobody none neither "
    "nor".split()
)
WISHES = frozenset(
    "want wants wanted wanting wish wishes wished wishing hope hopes hoped hoping dream dreams dreamed dreamt dreaming "
    "refuse refuses refused refusing forget forgets forgot forgetting".split()
)
"""What follows them is not done."""
LIGHT_VERBS = frozenset("take have do make go give start begin".split())
JOINERS = frozenset("and then but while as when before after until so or next finally suddenly afterwards".split())
"""Words that begin another clause."""
SMALL_WORDS = frozenset(
    "about above across again ago ah all almost alone along already although am among any around as at away back "
    "because behind below beneath beside besides between beyond both by day during each either else ever every "
    "everywhere few for forth from further here high how however if in indeed inside instead into last later least "
    "less like longer low many maybe meanwhile more most much near nearly neither next none nor not of off oh on once "
    "one only onto or other others out outside over perhaps quite rather round same several side since so some soon "
    "such than then there therefore though through throughout together too toward towards under underneath unless "
    "until up upon upwards downwards forwards backwards very well when whenever where whether while whole why with "
    "within without yes yet you your left right big small large little tall tiny happens happened".split()
)
"""Words that tell of no happening and name nothing."""


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
    tables = {
        "hues": (HUE_WORDS,),
        "places": (PLACE_WORDS, PLACE_STAND_INS),
        "times": (TIME_WORDS,),
        "props": (PROP_WORDS, PROP_STAND_INS),
    }
    found = {word: key for one in tables[table] for key, words in one.items() for word in words.split()}
    if table == "props":
        found |= {plural: key for word, key in list(found.items()) for plural in plurals(word)}
    return found


@cache
def own(table: str) -> frozenset[str]:
    """Words that mean what they stand for, where others only come near; `table` is places, props or verbs.

    A phrasal verb stands there as its base form and what follows.
    """
    words = {"places": PLACE_WORDS, "props": PROP_WORDS, "verbs": VERB_WORDS}[table]
    found = {word for text in words.values() for word in text.split()}
    if table == "props":
        found |= {plural for word in found for plural in plurals(word)}
    if table == "verbs":
        found |= {f"{base} {follows}" for base, follows, _ in PHRASALS}
    return frozenset(found)


@cache
def verbs() -> dict[str, str]:
    """Base form → world verb."""
    tables = (VERB_WORDS, VERB_STAND_INS)
    return {base: verb for table in tables for verb, words in table.items() for base in words.split()}


@cache
def bases() -> dict[str, str]:
    """Every inflected form of every verb we know anything about → its base form."""
    phrases = (*PHRASALS, *PHRASAL_STAND_INS, *NO_ACTS)
    every = {*verbs(), *(base for base, *_ in phrases), *IRREGULAR, *LIGHT_VERBS, *SPEAKING}
    table: dict[str, str] = {}
    for base in sorted(every):
        table |= dict.fromkeys(set(inflections(base)) - WISHES, base)
    table |= {base: base for base in every}
    table |= {form: base for base, forms in IRREGULAR.items() for form in forms.split()}
    return table


@cache
def phrasals() -> dict[str, list[tuple[tuple[str, ...], str | None]]]:
    """Base form → [(what follows, world verb; None where it means no act of the world)], longest first."""
    table: dict[str, list[tuple[tuple[str, ...], str | None]]] = {}
    known = [*PHRASALS, *PHRASAL_STAND_INS, *((base, follows, None) for base, follows in NO_ACTS)]
    for base, follows, verb in known:
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
