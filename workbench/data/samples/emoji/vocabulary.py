"""The words of the emoji captions, for a tokenizer made before any picture is drawn."""

from workbench.resources import find_resource

FILE = "words.txt"


def words() -> tuple[str, ...]:
    """Every word of the captions of `train` and `teacher`, sorted; neither the font nor the names are needed.

    Raises:
        ValueError: the shipped list is missing.
    """
    path = find_resource(f"data_samples/emoji/{FILE}")
    if path is None:
        raise ValueError(f"data_samples/emoji/{FILE} is missing: install clip-distillation-workbench again")
    return tuple(path.read_text(encoding="utf-8").split())
