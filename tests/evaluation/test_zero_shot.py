import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.evaluation import zero_shot as module
from workbench.evaluation.zero_shot import TEMPLATES, build_classifier, zero_shot


def encode(prompts: Sequence[str]) -> Tensor:
    """An embedding that depends on the letters alone, of any length."""
    rows = []
    for prompt in prompts:
        generator = torch.Generator().manual_seed(sum(ord(c) * 31**i for i, c in enumerate(prompt)) % 2**31)
        rows.append(torch.randn(5, generator=generator) * (1 + len(prompt)))
    return torch.stack(rows)


def test_the_classifier_normalizes_averages_and_normalizes(monkeypatch: pytest.MonkeyPatch) -> None:
    classes, templates = [["cat"], ["dog", "puppy"], ["hen"]], ["a {}.", "the {}!"]
    expected = []
    for names in classes:
        units = []
        for name in names:
            for template in templates:
                row = encode([template.replace("{}", name)])[0].double()
                units.append(row / math.sqrt(float(row @ row)))
        mean = sum(units) / len(units)
        expected.append(mean / math.sqrt(float(mean @ mean)))
    whole = build_classifier(encode, classes, templates)
    assert torch.allclose(whole.double(), torch.stack(expected), atol=1e-6)
    monkeypatch.setattr(module, "PROMPTS_PER_CALL", 3)
    assert torch.equal(build_classifier(encode, classes, templates), whole)


def test_one_class_and_template_is_its_prompt() -> None:
    row = build_classifier(encode, [["emu"]], ["an {}"])
    assert torch.allclose(row, F.normalize(encode(["an emu"]), dim=1))


def test_our_templates_have_one_place_for_the_name() -> None:
    assert TEMPLATES[0] == "a photo of a {}."
    assert len(set(TEMPLATES)) == len(TEMPLATES) > 4
    assert build_classifier(encode, [["a"], ["b"]]).shape == (2, 5)


@pytest.mark.parametrize(
    ("classes", "templates", "message"),
    [
        ([], ["a {}"], "at least one class"),
        ([["a"], []], ["a {}"], "a name for every class"),
        ([["a"]], ["a photo"], "'a photo' must have exactly one {}"),
        ([["a"]], [], "needs a template"),
    ],
)
def test_what_makes_no_classifier_is_an_error(classes: list[list[str]], templates: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_classifier(encode, classes, templates)


@pytest.mark.parametrize("num_classes", [2, 10, 11, 30])
def test_accuracy_agrees_with_argmax_and_topk(num_classes: int) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    classifier = F.normalize(torch.randn(num_classes, 8, generator=generator), dim=1)
    labels = torch.randint(num_classes, (200,), generator=generator)
    image = F.normalize(classifier[labels] + 0.6 * torch.randn(200, 8, generator=generator), dim=1)
    result = zero_shot(image, classifier, labels)
    scores = image.double() @ classifier.double().T
    top1 = float((scores.argmax(1) == labels).double().mean())
    assert 0.2 < top1 < 1
    assert result.metrics["zero_shot_top1"] == pytest.approx(top1)
    assert result.errors["zero_shot_top1"] == pytest.approx(math.sqrt(top1 * (1 - top1) / 200))
    assert ("zero_shot_top5" in result.metrics) == (num_classes > 10)
    if num_classes > 10:
        top5 = (scores.topk(5, dim=1).indices == labels[:, None]).any(1)
        assert torch.equal(result.hits["zero_shot_top5"], top5)


def test_equal_classes_score_zero() -> None:
    image = torch.eye(3)
    classifier = torch.eye(3)[[0, 0, 2]]
    assert zero_shot(image, classifier, torch.tensor([0, 1, 2])).hits["zero_shot_top1"].tolist() == [
        False,
        False,
        True,
    ]


def test_of_classes_with_one_name_the_first_is_the_answer() -> None:
    image, classifier = torch.eye(3), torch.eye(3)[[0, 1, 1, 2]]
    scored = zero_shot(image, classifier, torch.tensor([0, 1, 3]), [("a",), ("b",), ("b",), ("c",)])
    assert scored.hits["zero_shot_top1"].tolist() == [True, True, True]
    scored = zero_shot(image, classifier, torch.tensor([0, 2, 3]), [("a",), ("b",), ("b",), ("c",)])
    assert scored.hits["zero_shot_top1"].tolist() == [True, False, True]


def test_labels_must_fit() -> None:
    with pytest.raises(ValueError, match="one label from 0 to 2"):
        zero_shot(torch.eye(3), torch.eye(3), torch.tensor([0, 1, 3]))
    with pytest.raises(ValueError, match="not finite"):
        zero_shot(torch.eye(3) / 0, torch.eye(3), torch.tensor([0, 1, 2]))


def test_of_several_correct_classes_any_counts() -> None:
    generator = torch.Generator().manual_seed(0)
    classifier, image = (F.normalize(torch.randn(rows, 8, generator=generator), dim=1) for rows in (12, 300))
    labels = torch.randint(12, (300, 2), generator=generator)
    labels[::5, 1] = labels[::5, 0]
    result = zero_shot(image, classifier, labels)
    best = (image @ classifier.T).topk(5, dim=1).indices
    for name, k in (("zero_shot_top1", 1), ("zero_shot_top5", 5)):
        hits = [
            bool(set(found) & set(correct))
            for found, correct in zip(best[:, :k].tolist(), labels.tolist(), strict=True)
        ]
        assert result.hits[name].tolist() == hits
        assert 0.1 < result.metrics[name] < 0.95


def test_correct_classes_that_tie_do_not_outrank_each_other() -> None:
    classifier = torch.eye(3)[[0, 0, 2]]
    assert zero_shot(torch.eye(3)[:1], classifier, torch.tensor([[0, 1]])).metrics["zero_shot_top1"] == 1
