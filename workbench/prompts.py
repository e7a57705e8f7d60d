"""Class names in captions and prompts: folder names as words, and templates with the right article."""

import re

CAPTION = "a photo of a {}."  # of an image of which only the class is known

# "001.Black_footed_Albatross" (CUB-200, Caltech-256) and "n02085620-Chihuahua" (Stanford Dogs).
_NUMBERING = re.compile(r"^(?:\d+\.|n\d{8}[-_ ])(?=.*[^\W\d_])")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_ID = re.compile(r"(?:class|label|category|cls|id|c|n)?[ _.-]*\d+", re.IGNORECASE)
_ARTICLE = re.compile(r"\b([Aa])n? \{\}")
_HAS_ARTICLE = re.compile(r"(?:an?|the|some|one) ", re.IGNORECASE)
# Starts with a vowel letter but a consonant sound ("a unicorn", "a European", "a one-way sign"), and the reverse.
_SPOKEN_CONSONANT = re.compile(r"(?:u(?:ni(?!n)|se|su|ti|ku|ri|fo)|eu|ewe|one\b|once)", re.IGNORECASE)
_SILENT_H = re.compile(r"(?:hour|honest|honou?r|heir)", re.IGNORECASE)
_SINGULAR_ENDINGS = ("ss", "us", "is")
_SINGULARS = {"lens", "gas", "canvas", "atlas", "christmas", "species", "series", "rhinoceros", "cosmos", "albatros"}


def words_of(folder: str) -> str:
    """A folder's name as a class name: lower-case words without a leading number.

    >>> words_of("001.Black_footed_Albatross"), words_of("AnnualCrop"), words_of("n02084071")
    ('black footed albatross', 'annual crop', 'n02084071')
    """
    words = _CAMEL.sub(" ", _NUMBERING.sub("", folder)).replace("_", " ")
    return " ".join(words.split()).lower()


def is_id(folder: str) -> bool:
    """Whether a folder's name is a number ("7", "class_07") or a WordNet id ("n02084071") instead of words."""
    return _ID.fullmatch(folder.strip()) is not None


def fill(template: str, name: str, *, verbatim: bool = False) -> str:
    """Inserts the name at ``{}``; "a {}" becomes "an {}" before a vowel sound and "{}" before a plural.

    >>> fill("a photo of a {}.", "ibex"), fill("a photo of a {}.", "airplanes")
    ('a photo of an ibex.', 'a photo of airplanes.')

    A plural is recognized by the ending of the last word; mass nouns ("water") are not. ``verbatim`` keeps the article.
    """
    if verbatim:
        return template.replace("{}", name)
    if _HAS_ARTICLE.match(name) or _is_plural(name):
        written = _ARTICLE.sub("{}", template)
    else:
        ending = "n {}" if _starts_with_vowel_sound(name) else " {}"
        written = _ARTICLE.sub(lambda match: match[1] + ending, template)
    return written.replace("{}", name)


def _starts_with_vowel_sound(name: str) -> bool:
    if _SILENT_H.match(name):
        return True
    return name[:1].lower() in tuple("aeiou") and not _SPOKEN_CONSONANT.match(name)


def _is_plural(name: str) -> bool:
    last = name.lower().split()[-1] if name.split() else ""
    return len(last) > 3 and last.endswith("s") and not last.endswith(_SINGULAR_ENDINGS) and last not in _SINGULARS
