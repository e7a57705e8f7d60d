"""Several models next to the first, and which one is nearer to the teacher."""

from workbench.statistics.intervals import Gain
from workbench.views.models import ModelColumn, model_rows, nearer


def gain(mean: float, half: float) -> Gain:
    return Gain(mean, mean - half, mean + half, (mean,), "items")


ONE = ModelColumn("one", {"affinity_kl": 0.5, "cka": 0.6, "similarity_single": 0.3, "image_to_text_r1": 0.4}, {})
TWO = ModelColumn(
    "two",
    {"affinity_kl": 0.2, "cka": 0.9, "similarity_single": 0.2, "image_to_text_r1": 0.41},
    {"affinity_kl": gain(-0.3, 0.1), "similarity_single": gain(-0.1, 0.05), "image_to_text_r1": gain(0.01, 0.02)},
)


def test_nearer_is_a_higher_cosine_and_a_lower_divergence_beyond_their_intervals() -> None:
    found = nearer(ONE, TWO)
    assert (found.first, found.other, found.unclear) == (("similarity_single",), ("affinity_kl",), ("cka",))
    assert found.sentence("A", "B") == (
        "A is nearer to the teacher by same-modal cosine; B is nearer to the teacher by affinity KL; "
        "not clear by linear CKA"
    )
    assert nearer(ModelColumn("x", {}, {}), TWO).sentence("A", "B") == ""


def test_rows_have_differences_and_intervals_where_known() -> None:
    three = ModelColumn("three", {"cka": 0.7}, {})
    rows = {row.metric.name: row.cells() for row in model_rows([ONE, TWO, three], {"image_to_text_r1": 0.9})}
    assert rows["image_to_text_r1"] == [
        *("image→text R@1 (%)", "90.0", "40.0", "41.0", "+1.0", "\N{MINUS SIGN}1.0 to +3.0"),
        *("\N{EN DASH}", "\N{EN DASH}", ""),
    ]
    assert rows["cka"] == ["linear CKA", "", "0.60", "0.90", "+0.30", "", "0.70", "+0.10", ""]
