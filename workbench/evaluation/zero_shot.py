"""Zero-shot classification with prompts as classifier weights (Radford et al. 2021, section 3.1.4)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.evaluation.retrieval import ItemScores, best_ranks, check_embeddings
from workbench.prompts import fill

TEMPLATES = (
    "a photo of a {}.",
    "a picture showing a {}.",
    "an image with one {} in it.",
    "a close view of the {}.",
    "a {} seen from some way off.",
    "a drawing of a {}.",
    "this is what a {} looks like.",
)
PROMPTS_PER_CALL = 512
TOP5_MIN_CLASSES = 11  # with 10 classes, a random guess has a top-5 accuracy of 0.5


@torch.no_grad()
def build_classifier(
    encode_text: Callable[[Sequence[str]], Tensor],
    classes: Sequence[Sequence[str]],
    templates: Sequence[str] = TEMPLATES,
    *,
    verbatim: bool = False,
) -> Tensor:
    """Classifier weights [K, D], unit-length rows: per class, the normalized mean of its normalized prompt embeddings.

    Args:
        encode_text: maps M prompts to embeddings [M, D] of any length.
        classes: the names of each class; all of them are used.
        templates: prompts with one ``{}`` for the name.
        verbatim: keep the article in "a {}", as the papers do; by default it is adapted to the name.
    """
    if not classes or not all(classes):
        raise ValueError("zero-shot classification needs at least one class, and a name for every class")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"the template '{template}' must have exactly one {{}} for the class name")
    if not templates:
        raise ValueError("zero-shot classification needs a template such as 'a photo of a {}.'")
    prompts = [fill(template, name, verbatim=verbatim) for names in classes for name in names for template in templates]
    calls = [prompts[start : start + PROMPTS_PER_CALL] for start in range(0, len(prompts), PROMPTS_PER_CALL)]
    # Normalized per prompt, so that each has the same weight in the class mean.
    prompt_MD = torch.cat([F.normalize(encode_text(call).float(), dim=1) for call in calls])
    by_class = torch.split(prompt_MD, [len(names) * len(templates) for names in classes])
    return F.normalize(torch.stack([rows.mean(0) for rows in by_class]), dim=1)


@torch.no_grad()
def zero_shot(
    image_ND: Tensor, classifier_KD: Tensor, labels_N: Tensor, classes: Sequence[tuple[str, ...]] = ()
) -> ItemScores:
    """``zero_shot_top1``, and ``zero_shot_top5`` for more than 10 classes, with binomial standard errors.

    A class that ties with the correct one ranks above it. Of an image with several correct classes any one counts
    (Beyer et al. 2020, "Are we done with ImageNet?").

    Args:
        image_ND: unit-length image embeddings.
        classifier_KD: unit-length rows from :func:`build_classifier`.
        labels_N: int64, the correct class of each image, [N], or its A correct classes, [N, A], of which some may be
            equal.
        classes: the names of each class; of several with the same names, the first ranks above the others.
    """
    check_embeddings(image=image_ND, classifier=classifier_KD)
    num_classes = len(classifier_KD)
    if len(labels_N) != len(image_ND) or not 0 <= int(labels_N.min()) <= int(labels_N.max()) < num_classes:
        raise ValueError(f"give each of the {len(image_ND)} images one label from 0 to {num_classes - 1}")
    # Classes with the same names tie whatever the model. The first of them is the answer, as argmax has it.
    same: dict[object, list[int]] = {}
    for index, names in enumerate(classes or range(num_classes)):
        same.setdefault(names, []).append(index)
    first_K, earlier_K = torch.arange(num_classes), torch.zeros(num_classes, dtype=torch.int64)
    for indices in same.values():
        first_K[indices], earlier_K[indices] = indices[0], torch.arange(len(indices))
    labels_N = labels_N.cpu()
    rank_N = best_ranks(image_ND, classifier_KD, first_K[labels_N], first_K)
    rank_N += earlier_K[labels_N].view(len(rank_N), -1).amin(1)
    hits = {f"zero_shot_top{k}": rank_N <= k for k in ((1, 5) if num_classes >= TOP5_MIN_CLASSES else (1,))}
    metrics = {name: float(hit_N.double().mean()) for name, hit_N in hits.items()}
    errors = {name: (share * (1 - share) / len(image_ND)) ** 0.5 for name, share in metrics.items()}
    return ItemScores(metrics, errors, hits)
