"""A fixed answer's score, against trying every fixed answer."""

import itertools

import pytest
import torch

from workbench.evaluation.chance import blind_recall, blind_top
from workbench.evaluation.retrieval import retrieval


def test_without_groups_it_is_guessing() -> None:
    found = blind_recall(torch.arange(50), torch.arange(50), block_size=25)
    assert found["image_to_text_r1"] == found["text_to_image_r1"] == 1 / 25
    assert found["image_to_text_r10"] == 10 / 25


def test_no_fixed_answer_is_better() -> None:
    images, texts = torch.tensor([0, 0, 0, 1, 2, 2, 3]), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3])
    found = blind_recall(images, texts, ks=(1, 2))
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
    image_ND = torch.nn.functional.normalize(direction + 1e-3 * torch.randn(400, 8, generator=generator), dim=1)
    text_ND = torch.nn.functional.normalize(torch.randn(400, 8, generator=generator), dim=1)
    found, blind = retrieval(image_ND, text_ND, group_N, group_N), blind_recall(group_N, group_N)
    assert found.metrics["image_to_text_r1"] <= blind["image_to_text_r1"] + 1e-9


def test_more_answers_than_kinds_are_always_right() -> None:
    assert blind_top(torch.tensor([0, 0, 1])) == {"zero_shot_top1": pytest.approx(2 / 3), "zero_shot_top5": 1.0}
