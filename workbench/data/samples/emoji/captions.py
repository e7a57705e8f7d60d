"""Captions of emoji: the CLDR English names and the aliases of the PyPI package `emoji`, as plain words."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

from workbench.data.samples.emoji.concepts import is_country_flag

SPOKEN = {"&": " and ", "#": " hash ", "*": " asterisk "}
MAX_ALIASES = 2


def plain_words(name: str) -> str:
    """A CLDR name or alias as lower-case words of a-z and 0-9: ":woman's_hat:" becomes "womans hat"."""
    text = unicodedata.normalize("NFKD", name.lower())
    for symbol, word in SPOKEN.items():
        text = text.replace(symbol, word)
    text = re.sub(r"[.'\u2019\u0300-\u036f]", "", text)  # no mark of its own, nor a space in its place
    return " ".join(re.findall("[a-z0-9]+", text))


def captions_by_sequence(newest: float = math.inf) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every fully qualified emoji with its captions: the name first, then at most two aliases.

    Emoji that came after version `newest` of Unicode's list, such as 15.1, are passed over.

    An alias is left out when it repeats the name, when another emoji has it or is called so, and when it is
    no word: a digit in it, or fewer than three letters ("clock830", "de"). The package cuts "flag:" from the
    names of countries' flags; it is put back.

    Raises:
        ValueError: the package `emoji` is not installed.
    """
    try:
        from emoji import EMOJI_DATA, STATUS
    except ImportError as error:
        remedy = "pip install 'clip-distillation-workbench[emoji]'"
        raise ValueError(f"drawing emoji needs the package `emoji` for their names: {remedy}") from error
    entries = {s: e for s, e in EMOJI_DATA.items() if e["status"] == STATUS["fully_qualified"]}
    names = {s: plain_words(f"flag {e['en']}" if is_country_flag(s) else e["en"]) for s, e in entries.items()}
    aliases = {s: list(dict.fromkeys(map(plain_words, e.get("alias", ())))) for s, e in entries.items()}
    claims = Counter([*names.values(), *(alias for known in aliases.values() for alias in known)])
    for sequence, name in names.items():
        if entries[sequence]["E"] <= newest:
            usable = (a for a in aliases[sequence] if claims[a] == 1 and re.fullmatch("[a-z ]{3,}", a))
            yield sequence, (name, *list(usable)[:MAX_ALIASES])
