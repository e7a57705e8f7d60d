import pytest

from workbench.data.dataset import ZeroShotTask

TASK = ZeroShotTask((("cat", "kitten"), ("dog",)), ("a {}",))


@pytest.mark.parametrize(("name", "index"), [("cat", 0), ("kitten", 0), ("dog", 1)])
def test_every_alias_leads_to_its_class(name, index):
    assert TASK.class_index(name) == index


def test_an_unknown_class_is_refused():
    with pytest.raises(ValueError, match="class 'dgo': did you mean 'dog'"):
        TASK.class_index("dgo")
