"""Reference levels, against all constant predictions and against random orders."""

import itertools
import statistics

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.evaluation.chance import (
    constant_accuracy,
    constant_recall,
    false_negative_ceiling,
    random_accuracy,
    random_recall,
)
from workbench.evaluation.retrieval import retrieval


def test_without_groups_a_constant_prediction_is_a_random_guess() -> None:
    found = constant_recall(torch.arange(50), torch.arange(50), block_size=25)
    assert found["image_to_text_r1"] == found["text_to_image_r1"] == 1 / 25
    assert found["image_to_text_r10"] == 10 / 25


def test_no_constant_prediction_is_better() -> None:
    images, texts = torch.tensor([0, 0, 0, 1, 2, 2, 3]), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3])
    found = constant_recall(images, texts, ks=(1, 2))
    for way, queries, candidates in (("image_to_text", images, texts), ("text_to_image", texts, images)):
        for k in (1, 2):
            scores = [
                torch.isin(queries, candidates[list(chosen)]).double().mean().item()
                for chosen in itertools.combinations(range(len(candidates)), k)
            ]
            assert found[f"{way}_r{k}"] == pytest.approx(max(scores))


def test_a_model_that_is_nearly_collapsed_scores_no_more() -> None:
    generator = torch.Generator().manual_seed(0)
    group_N = torch.randint(5, (400,), generator=generator)
    direction = torch.randn(8, generator=generator)
    image_ND = F.normalize(direction + 1e-3 * torch.randn(400, 8, generator=generator), dim=1)
    text_ND = F.normalize(torch.randn(400, 8, generator=generator), dim=1)
    found, constant = retrieval(image_ND, text_ND, group_N, group_N), constant_recall(group_N, group_N)
    assert found.metrics["image_to_text_r1"] <= constant["image_to_text_r1"] + 1e-9


def test_more_predictions_than_classes_are_always_correct() -> None:
    assert constant_accuracy(torch.tensor([0, 0, 1])) == {"zero_shot_top1": pytest.approx(2 / 3), "zero_shot_top5": 1.0}


def test_a_guess_may_be_any_of_several_classes() -> None:
    """Against all guesses of one class and of five classes out of six."""
    labels, num_classes = torch.tensor([[0, 1], [0, 0], [2, 0], [3, 3]]), 6
    for name, k in (("zero_shot_top1", 1), ("zero_shot_top5", 5)):
        hits = [
            bool(set(guess) & set(correct))
            for guess in itertools.combinations(range(num_classes), k)
            for correct in labels.tolist()
        ]
        assert random_accuracy(labels, num_classes)[name] == pytest.approx(statistics.mean(hits))
    assert constant_accuracy(labels) == {"zero_shot_top1": 3 / 4, "zero_shot_top5": 1.0}
    assert random_accuracy(torch.tensor([0, 1, 1]), 4) == {"zero_shot_top1": 1 / 4, "zero_shot_top5": 1.0}


def test_chance_is_one_in_a_block() -> None:
    groups = torch.arange(40)
    assert random_recall(groups, groups, block_size=10)["image_to_text_r1"] == pytest.approx(1 / 10)
    assert random_recall(groups, groups, block_size=10)["text_to_image_r5"] == pytest.approx(5 / 10)
    assert random_recall(groups, groups)["image_to_text_r10"] == pytest.approx(10 / 40)
    same = torch.zeros(40, dtype=torch.int64)
    assert set(random_recall(same, same).values()) == {1.0}


def test_chance_is_the_mean_of_random_orders() -> None:
    image_group_N, text_group_M = torch.tensor([0, 1, 1, 2, 3]), torch.tensor([0, 0, 1, 1, 2, 2, 2, 3])
    generator = torch.Generator().manual_seed(0)
    sums = dict.fromkeys(("image_to_text_r1", "image_to_text_r5", "text_to_image_r1"), 0.0)
    for _ in range(2000):
        images, texts = (torch.randn(number, 16, generator=generator) for number in (5, 8))
        rows = [F.normalize(part, dim=1) for part in (images, texts)]
        found = retrieval(*rows, image_group_N, text_group_M).metrics
        for name in sums:
            sums[name] += found[name] / 2000
    chance = random_recall(image_group_N, text_group_M)
    assert {name: chance[name] for name in sums} == pytest.approx(sums, abs=0.02)


@pytest.mark.parametrize(
    ("image_groups", "texts"),
    [
        ([number // 10 for number in range(60)], [number // 10 for number in range(60)]),  # a folder of 6 classes
        ([0, 0, 0, 1, 1, 2, 2, 3], [10, 10, 10, 11, 12, 13, 13, 14]),  # groups of equal and of different captions
        ([0, 1, 2, 3, 4, 5, 6, 7], [10, 10, 10, 11, 11, 12, 12, 13]),  # equal captions of different groups
    ],
)
def test_equal_captions_take_consecutive_ranks_at_chance(image_groups: list[int], texts: list[int]) -> None:
    group_N, text_M = torch.tensor(image_groups), torch.tensor(texts)
    names = [f"image_to_text_r{k}" for k in (1, 5, 10)] + ["text_to_image_r5"]
    generator, sums, num_orders = torch.Generator().manual_seed(0), dict.fromkeys(names, 0.0), 1500
    for _ in range(num_orders):
        image_ND = F.normalize(torch.randn(len(group_N), 16, generator=generator), dim=1)
        text_ND = F.normalize(torch.randn(20, 16, generator=generator), dim=1)[text_M]
        found = retrieval(image_ND, text_ND, group_N, group_N).metrics
        for name in names:
            sums[name] += found[name] / num_orders
    chance = random_recall(group_N, group_N, texts)
    assert {name: chance[name] for name in names} == pytest.approx(sums, abs=0.02)


def test_chance_of_a_class_folder_is_one_in_its_classes() -> None:
    classes = [number // 10 for number in range(60)]
    chance = random_recall(torch.tensor(classes), torch.tensor(classes), classes)
    assert [chance[f"image_to_text_r{k}"] for k in (1, 5, 10)] == pytest.approx([1 / 6] * 3)
    assert chance["text_to_image_r5"] == pytest.approx(0.612, abs=1e-3)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 2)), min_size=1, max_size=5))
def test_the_ceiling_is_what_every_order_of_equal_candidates_gives_on_average(
    images: list[tuple[int, int]],
) -> None:
    groups = [group for group, _ in images]
    image_group = torch.tensor(groups)
    text_group = torch.tensor([group for group, count in images for _ in range(count)])
    if any(a == b for a, b in itertools.pairwise(groups)):
        return  # ownership within a run of equal groups is tested in test_blocks
    owner = [i for i, (_, count) in enumerate(images) for _ in range(count)]
    ceiling = false_negative_ceiling(image_group, text_group, block_size=0, ks=(1, 2))
    for k in (1, 2):
        to_text = []
        for i, group in enumerate(groups):
            own = [owner[m] == i for m in range(len(owner)) if text_group[m] == group]
            orders = list(itertools.permutations(own))
            to_text.append(sum(any(order[:k]) for order in orders) / len(orders))
        to_image = [min(1, k / groups.count(groups[i])) for i in owner]
        assert ceiling[f"image_to_text_r{k}"] == pytest.approx(statistics.mean(to_text))
        assert ceiling[f"text_to_image_r{k}"] == pytest.approx(statistics.mean(to_image))


def test_the_ceiling_counts_false_negatives_of_the_block_only() -> None:
    groups = torch.arange(6) % 3
    assert false_negative_ceiling(groups, groups, block_size=3)["image_to_text_r1"] == 1.0
    assert false_negative_ceiling(groups, groups, block_size=0)["image_to_text_r1"] == 0.5
