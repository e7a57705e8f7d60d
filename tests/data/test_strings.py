import pickle

from hypothesis import given
from hypothesis import strategies as st

from workbench.data.strings import Strings


@given(st.lists(st.binary(max_size=9)))
def test_they_come_out_as_they_went_in(texts: list[bytes]) -> None:
    strings = Strings()
    for text in texts:
        strings.append(text)
    copy = pickle.loads(pickle.dumps(strings))
    assert [copy[index] for index in range(len(copy))] == texts


@given(st.lists(st.binary(max_size=3)), st.lists(st.binary(max_size=3)))
def test_different_lists_of_one_length_are_joined_differently(one: list[bytes], other: list[bytes]) -> None:
    both = [Strings(), Strings()]
    for strings, texts in zip(both, (one, other), strict=True):
        for text in texts:
            strings.append(text)
    assert len(one) != len(other) or (both[0].joined() == both[1].joined()) == (one == other)
