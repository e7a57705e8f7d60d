"""What an emoji shows, whoever is in it: its skin tones, genders and hair share a concept, and so a split."""

from collections.abc import Iterable

JOINER = "\u200d"
PRESENTATION = "\ufe0f"
SKIN_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
HAIR = frozenset(map(chr, range(0x1F9B0, 0x1F9B4)))
MODIFIERS = HAIR | {"\u2640", "\u2642", "\u27a1"}  # joined after a person: hair, woman, man, facing right
PERSON, CHILD, FAMILY = "1f9d1", "1f9d2", "1f46a"
PEOPLE = {"1f468": PERSON, "1f469": PERSON, "1f466": CHILD, "1f467": CHILD}  # man, woman, boy, girl

# What no rule undoes: gender or hair within one code point, and two spellings of one idea.
SAME = {
    "1f471": PERSON,  # blond hair
    "1f9d4": PERSON,  # beard
    "1f474": "1f9d3",  # old man, old woman: older person
    "1f475": "1f9d3",
    "1f934": "1fac5",  # prince, princess: person with crown
    "1f478": "1fac5",
    "1f385": "1f9d1-1f384",  # Santa Claus, Mrs. Claus: Mx Claus
    "1f936": "1f9d1-1f384",
    "1f930": "1fac4",  # pregnant woman, pregnant man: pregnant person
    "1fac3": "1fac4",
    "1f57a": "1f483",  # man dancing: woman dancing (there is no neutral form)
    "1f46b": "1f9d1-1f91d-1f9d1",  # woman and man, men, women: people holding hands
    "1f46c": "1f9d1-1f91d-1f9d1",
    "1f46d": "1f9d1-1f91d-1f9d1",
    "1f9d1-2764-1f9d1": "1f491",  # couple with heart
    "1f9d1-2764-1f48b-1f9d1": "1f48f",  # kiss
    "1faf1-1faf2": "1f91d",  # a hand to the right, a hand to the left: handshake
    "1f9d1-1f430-1f9d1": "1f46f",  # people with bunny ears
    "1f9d1-1faef-1f9d1": "1f93c",  # people wrestling
    "1f6b9": "1f6bb",  # men's room, women's room: restroom
    "1f6ba": "1f6bb",
    "2642": "2640",  # male sign: female sign
}


def hexadecimal(sequence: str) -> str:
    """The code points, such as "1f469-1f3fd-200d-1f680"; a sample's key."""
    return "-".join(f"{ord(character):x}" for character in sequence)


def concept_of(sequence: str) -> str:
    """The code points left of an emoji once skin tone, gender, hair and direction are undone, in hexadecimal.

    The neutral form of a concept is its own concept, but for joiners and presentation selectors.
    """
    bare = "".join(c for c in sequence if c not in SKIN_TONES and c != PRESENTATION)
    first, *rest = bare.split(JOINER)
    hexes = [hexadecimal(part) for part in (first, *(part for part in rest if part not in MODIFIERS))]
    parts = [PEOPLE.get(part, part) for part in hexes]
    if len(parts) > 1 and set(parts) <= {PERSON, CHILD}:
        return FAMILY
    concept = "-".join(parts)
    return SAME.get(concept, concept)


def is_neutral(sequence: str) -> bool:
    """Whether an emoji is the form its concept is named for: no skin tone, no gender, no hair."""
    return hexadecimal(sequence.replace(JOINER, "").replace(PRESENTATION, "")) == concept_of(sequence)


def one_each(sequences: Iterable[str]) -> dict[str, str]:
    """One of the emoji for each of their concepts, by concept: the neutral form, or else the shortest."""
    chosen: dict[str, str] = {}
    for sequence in sorted(sequences, key=lambda s: (not is_neutral(s), len(s), s)):
        chosen.setdefault(concept_of(sequence), sequence)
    return chosen


def is_country_flag(sequence: str) -> bool:
    """Whether an emoji is the flag of a country or region: two regional letters, or a flag with tags."""
    return "\U0001f1e6" <= sequence[0] <= "\U0001f1ff" or sequence.endswith("\U000e007f")
