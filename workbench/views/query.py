"""Queries that select runs by their settings and results, such as ``loss.fd.weight>=500 state:finished i2t_r1>10``."""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

# A run's field, setting or metric by its name, None where it has none; metrics in the unit in which they are shown.
Get = Callable[[str], Any]

TERM = re.compile(r"(?P<key>[^\s:=<>!]+)(?P<operator>>=|<=|!=|:|=|>|<)(?P<value>.*)")
SHORT = {"i2t": "image_to_text", "t2i": "text_to_image"}
ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MOST_NAMED = 4
WORDS = ("name", "state", "recipe", "study", "cell")  # what words are searched in


@dataclass(frozen=True)
class Term:
    """One condition. Without a ``key``, a word that the run's text contains. ``is_negated``: it must not hold."""

    key: str
    operator: str
    value: str
    is_negated: bool = False

    def holds(self, get: Get, text: str) -> bool:
        """Whether a run satisfies the term; ``text`` is what words are searched in, in lower case.

        A run without the field satisfies ``!=`` and no other comparison.
        """
        if self.key and not self.value:
            return True  # still being typed
        found = self.value.lower() in text if not self.key else self._compare(get(self.key))
        return found != self.is_negated

    def _compare(self, own: Any) -> bool:
        if own is None:
            return self.operator == "!="
        wanted, number = self.value.lower(), as_number(self.value)
        is_numeric = number is not None and isinstance(own, int | float) and not isinstance(own, bool)
        if compare := ORDERS.get(self.operator):
            return number is not None and is_numeric and compare(float(own), number)
        own_text = as_words(own)
        if is_numeric:
            is_equal = float(own) == number
        elif self.operator == ":":
            is_equal = fnmatchcase(own_text, wanted) if "*" in wanted else wanted in own_text
        else:
            is_equal = own_text == wanted
        return is_equal != (self.operator == "!=")


def as_number(text: str) -> float | None:
    """The number that a text is; None for any other text."""
    try:
        return float(text)
    except ValueError:
        return None


def as_words(value: Any) -> str:
    """A value as it is compared with text: in lower case, lists and tables as in TOML."""
    from workbench.views.comparison import setting_text

    return setting_text(value).lower()


@dataclass(frozen=True)
class Query:
    """Terms that all must hold; without any, every run matches."""

    terms: tuple[Term, ...] = ()

    def matches(self, get: Get, text: str) -> bool:
        """Whether a run matches; ``text`` is what words are searched in."""
        lower = text.lower()
        return all(term.holds(get, lower) for term in self.terms)


def parse_query(text: str, names: Iterable[str]) -> Query:
    """A query: words and comparisons (``:`` ``=`` ``!=`` ``<`` ``<=`` ``>`` ``>=``), each negated by a ``-`` before it.

    Args:
        names: what a comparison may name; the end of a dotted name suffices if no other name ends so, and ``i2t`` and
            ``t2i`` abbreviate metrics.

    Raises:
        ValueError: a comparison names nothing known, or something ambiguous, or an order with what is not a number.
    """
    known = list(dict.fromkeys(names))
    return Query(tuple(_term(word, known) for word in text.split()))


def _term(word: str, names: Sequence[str]) -> Term:
    is_negated = word.startswith("-") and len(word) > 1
    body = word[is_negated:]
    found = TERM.fullmatch(body)
    if found is None:
        return Term("", "", body, is_negated)
    key, sign, value = found["key"], found["operator"], found["value"]
    if sign in ORDERS and value and as_number(value) is None:
        raise ValueError(f"{word}: {value} is not a number")
    return Term(full_name(key, names), sign, value, is_negated)


def full_name(key: str, names: Sequence[str]) -> str:
    """The name that ``key`` means. Raises ValueError if there is none, or more than one."""
    for short, full in SHORT.items():
        key = re.sub(rf"\b{short}(?=_|$)", full, key)
    if key in names:
        return key
    ending = [name for name in names if name.endswith(f".{key}")]
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise ValueError(f"{key} means {' or '.join(sorted(ending)[:MOST_NAMED])}: name one of them")
    near = get_close_matches(key, names, n=MOST_NAMED)
    raise ValueError(f"no run has {key}" + (f"; near to it: {', '.join(near)}" if near else ""))


def completions(text: str, names: Sequence[str], values: Mapping[str, Sequence[str]]) -> list[str]:
    """The words that complete the last one of a query that is being typed: names, or values after an operator.

    Args:
        values: the known values by name.
    """
    last = text.rsplit(" ", maxsplit=1)[-1]
    sign = "-" if last.startswith("-") else ""
    body = last.removeprefix("-")
    found = TERM.fullmatch(body)
    if found is not None:
        try:
            key = full_name(found["key"], names)
        except ValueError:
            return []
        start = sign + found["key"] + found["operator"]
        known = values.get(key, ())
        return [start + value for value in known if value.lower().startswith(found["value"].lower())]
    if not body:
        return []
    lower = body.lower()
    starting = [name for name in names if name.lower().startswith(lower)]
    ending = [name for name in names if f".{lower}" in name.lower()]
    return [sign + name for name in dict.fromkeys([*starting, *ending])]
