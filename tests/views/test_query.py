"""Queries against loops over plain conditions."""

import pytest

from workbench.views.query import completions, parse_query

RUNS = {
    "a": {"state": "finished", "loss.fd.weight": 500, "train.batch_size": 64, "image_to_text_r1": 12.5, "recipe": "fd"},
    "b": {
        "state": "running",
        "loss.fd.weight": 2000.0,
        "train.batch_size": 64,
        "image_to_text_r1": 9.0,
        "recipe": "fd",
    },
    "c": {"state": "finished", "loss.icl.weight": 1, "train.batch_size": 32, "recipe": "clip-kd", "mix": True},
}
NAMES = list(dict.fromkeys(name for run in RUNS.values() for name in run))


def selected(text: str) -> str:
    query = parse_query(text, NAMES)
    return "".join(name for name, run in RUNS.items() if query.matches(run.get, f"{name} {run['recipe']}"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "abc"),
        ("clip", "c"),
        ("CLIP", "c"),
        ("-clip", "ab"),
        ("state:finished", "ac"),
        ("state=fin", ""),
        ("state:fin", "ac"),
        ("state!=finished", "b"),
        ("-state:finished", "b"),
        ("loss.fd.weight>=500", "ab"),
        ("fd.weight>500", "b"),
        ("loss.fd.weight=2e3", "b"),
        ("loss.fd.weight!=500", "bc"),
        ("i2t_r1>10", "a"),
        ("image_to_text_r1<=9", "b"),
        ("batch_size:64 state:finished i2t_r1>10", "a"),
        ("recipe:*-kd", "c"),
        ("recipe:kd*", ""),
        ("mix:true", "c"),
        ("state:", "abc"),  # still being typed
    ],
)
def test_what_a_query_selects(text: str, wanted: str) -> None:
    assert selected(text) == wanted


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("weight>1", "loss.fd.weight or loss.icl.weight"),
        ("los.fd.weight>1", "loss.fd.weight"),
        ("nothing=1", "nothing"),
        ("i2t_r1>high", "high"),
    ],
)
def test_what_is_unknown_ambiguous_or_no_number_is_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_query(text, NAMES)


def test_the_last_word_is_completed_by_names_then_by_values() -> None:
    values = {"state": ["finished", "running"], "recipe": ["clip-kd", "fd"]}
    assert completions("clip sta", NAMES, values) == ["state"]
    assert completions("fd", NAMES, values) == ["loss.fd.weight"]
    assert completions("-state:r", NAMES, values) == ["-state:running"]
    assert completions("recipe=", NAMES, values) == ["recipe=clip-kd", "recipe=fd"]
    assert completions("", NAMES, values) == []
    assert completions("nothing=", NAMES, values) == []
