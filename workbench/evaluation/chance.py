"""Reference levels: scores of the best constant prediction, of a random guess, and of a perfect model."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from math import comb, sqrt

import torch
from torch import Tensor

from workbench.evaluation.retrieval import caption_owner, paired_blocks

CLEARLY = 5.0  # standard errors above chance, which the best of several metrics does not reach by luck


def errors_above_chance(score: float, chance: float, num_queries: int, error: float = 0.0) -> float:
    """Standard errors by which a score is above chance; 0 where chance itself has no spread.

    Args:
        error: that of the score; the error of random answers is taken if it is larger.
    """
    largest = max(error, sqrt(chance * (1 - chance) / num_queries))
    return (score - chance) / largest if largest else 0.0


def beats_chance(score: float, chance: float, num_queries: int) -> bool | None:
    """Whether a score is significantly above chance; None where even a perfect one could not be."""
    if errors_above_chance(1.0, chance, num_queries) <= CLEARLY:
        return None
    return errors_above_chance(score, chance, num_queries) > CLEARLY


def mean_recall(metrics: Mapping[str, float]) -> float:
    """R@1, the mean of both directions."""
    return (metrics["image_to_text_r1"] + metrics["text_to_image_r1"]) / 2


def constant_recall(
    image_group_N: Tensor, text_group_M: Tensor, *, block_size: int = 1000, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """The R@k of the best constant prediction, the same k candidates for all queries of a block, by metric name.

    It is k / n where all n groups of a block differ, and never below the expected R@k of a random order. A collapsed
    model predicts like this, and scores high where some groups are large.

    Args:
        image_group_N, text_group_M, block_size, ks: as for :func:`~workbench.evaluation.retrieval.retrieval`.
    """
    blocks = paired_blocks(image_group_N, text_group_M, block_size)
    queries = {
        "image_to_text": [image_group_N[block.images] for block in blocks],
        "text_to_image": [text_group_M[block.texts] for block in blocks],
    }
    return {f"{way}_r{k}": _share_of_most_frequent(groups, k) for way, groups in queries.items() for k in ks}


def constant_accuracy(label_N: Tensor, ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """The zero-shot accuracy of always predicting the k most frequent classes, by metric name.

    Args:
        label_N: as for :func:`~workbench.evaluation.zero_shot.zero_shot`, [N] or [N, A].
    """
    correct_NK = _correct_classes(label_N)
    order_K = correct_NK.sum(0).argsort(descending=True)
    return {f"zero_shot_top{k}": float(correct_NK[:, order_K[:k]].any(1).double().mean()) for k in ks}


def random_recall(
    image_group_N: Tensor,
    text_group_M: Tensor,
    captions: Sequence[Hashable] | None = None,
    *,
    block_size: int = 1000,
    ks: Sequence[int] = (1, 5, 10),
) -> dict[str, float]:
    """The expected R@k of candidates in random order, by metric name.

    With ``right`` correct ones among n distinct candidates, a query hits with probability
    1 − C(n − right, k) / C(n, k). Equal captions have equal embeddings, so they take consecutive ranks.

    Args:
        captions: the M captions; all distinct by default.
    """
    to_text: dict[int, list[float]] = {k: [] for k in ks}
    to_image: dict[int, list[Tensor]] = {k: [] for k in ks}
    for block in paired_blocks(image_group_N, text_group_M, block_size):
        images_N, texts_M = image_group_N[block.images].cpu(), text_group_M[block.texts].cpu()
        places = range(*block.texts.indices(len(text_group_M)))
        texts = [captions[place] if captions is not None else place for place in places]
        by_group = _hits_by_group(texts_M.tolist(), texts, ks)
        num_right_M, num_images_M = num_in_group(texts_M, images_N), torch.full_like(texts_M, len(images_N))
        for place, k in enumerate(ks):
            to_text[k] += [by_group[group][place] for group in images_N.tolist()]
            to_image[k].append(hit_probability(num_right_M, num_images_M, k))
    return {f"image_to_text_r{k}": sum(hits) / len(hits) for k, hits in to_text.items()} | {
        f"text_to_image_r{k}": float(torch.cat(parts).mean()) for k, parts in to_image.items()
    }


def _hits_by_group(groups: Sequence[int], texts: Sequence[Hashable], ks: Sequence[int]) -> dict[int, list[float]]:
    """For a query of each group, the probability of a hit at each k, where the distinct texts are in random order."""
    num_by_text = Counter(texts)
    num_by_size = Counter(num_by_text.values())
    own: dict[int, Counter[Hashable]] = defaultdict(Counter)
    for group, text in zip(groups, texts, strict=True):
        own[group][text] += 1
    known: dict[tuple[tuple[int, int], ...], list[float]] = {}  # groups with texts of the same sizes are alike
    found = {}
    for group, counts in own.items():
        sizes = tuple(sorted((num_by_text[text], number) for text, number in counts.items()))
        if sizes not in known:
            others = num_by_size - Counter(size for size, _ in sizes)
            known[sizes] = _hits([size - number for size, number in sizes], others, ks)
        found[group] = known[sizes]
    return found


def _hits(num_wrong: Sequence[int], others: Mapping[int, int], ks: Sequence[int]) -> list[float]:
    """The probability of a hit at each k.

    Args:
        num_wrong: for each text with a correct copy, its incorrect copies, which rank above the correct ones.
        others: how many of the remaining texts have each number of copies.
    """
    largest = max(ks)
    # ways[j][s]: the number of sets of j other texts with s copies in all, of fewer than ``largest`` copies.
    ways = [[int(j == s == 0) for s in range(largest)] for j in range(largest)]
    for size, number in others.items():
        ways = [
            [
                sum(comb(number, i) * ways[j - i][s - i * size] for i in range(min(j, s // size) + 1))
                for s in range(largest)
            ]
            for j in range(largest)
        ]
    num_texts = len(num_wrong) + sum(others.values())
    hits = []
    for k in ks:
        # A given set of j texts is first with probability 1 / C(n, j), and a given correct text next with 1 / (n − j).
        chances = (
            sum(sum(ways[j][: max(0, k - wrong)]) for wrong in num_wrong) / (comb(num_texts, j) * (num_texts - j))
            for j in range(min(k, num_texts))
        )
        hits.append(sum(chances))
    return hits


def random_accuracy(label_N: Tensor, num_classes: int) -> dict[str, float]:
    """The expected accuracy of guessing k of the K classes at random, by metric name.

    Args:
        label_N: as for :func:`~workbench.evaluation.zero_shot.zero_shot`, [N] or [N, A].
    """
    num_correct_N = _correct_classes(label_N).sum(1)
    num_classes_N = torch.full_like(num_correct_N, num_classes)
    return {f"zero_shot_top{k}": float(hit_probability(num_correct_N, num_classes_N, k).mean()) for k in (1, 5)}


def _correct_classes(label_N: Tensor) -> Tensor:
    """Whether each class is correct for each image, bool [N, K], K the largest label + 1."""
    label_NA = label_N.cpu().view(len(label_N), -1)
    return torch.zeros(len(label_NA), int(label_NA.max()) + 1, dtype=torch.bool).scatter_(1, label_NA, True)


def false_negative_ceiling(
    image_group_N: Tensor, text_group_M: Tensor, *, block_size: int = 1000, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """The R@k of a perfect model if only an image's own captions counted as correct, by metric name.

    Such a model ranks the captions of a group in random order. With ``own`` captions among ``true`` of the group, a
    query hits with probability 1 − C(true − own, k) / C(true, k). The distance from 1 is the cost of false negatives.
    """
    owner_M = caption_owner(image_group_N, text_group_M)
    num_own_N = torch.bincount(owner_M, minlength=len(image_group_N))
    to_text: list[tuple[Tensor, Tensor]] = []
    to_image: list[tuple[Tensor, Tensor]] = []
    for block in paired_blocks(image_group_N, text_group_M, block_size):
        images_N, texts_M = image_group_N[block.images].cpu(), text_group_M[block.texts].cpu()
        to_text.append((num_own_N[block.images], num_in_group(images_N, texts_M)))
        to_image.append((torch.ones_like(texts_M), num_in_group(texts_M, images_N)))
    return {
        f"{direction}_r{k}": float(torch.cat([hit_probability(own, true, k) for own, true in parts]).mean())
        for direction, parts in (("image_to_text", to_text), ("text_to_image", to_image))
        for k in ks
    }


def num_in_group(query_Q: Tensor, candidate_C: Tensor) -> Tensor:
    """The number of candidates with each query's group, int64 [Q]."""
    ordered_C = candidate_C.sort().values
    return torch.searchsorted(ordered_C, query_Q, right=True) - torch.searchsorted(ordered_C, query_Q)


def hit_probability(own_Q: Tensor, true_Q: Tensor, k: int) -> Tensor:
    """The probability that k draws from ``true`` candidates hit one of ``own``, float64 [Q]."""
    own_Q, true_Q = own_Q.double(), true_Q.double()
    # 1 − C(true − own, k) / C(true, k) as a product of k factors: the binomials themselves would overflow.
    miss_Q = torch.ones_like(true_Q)
    for drawn in range(k):
        miss_Q *= ((true_Q - own_Q - drawn) / (true_Q - drawn).clamp(min=1)).clamp(min=0)
    return 1 - miss_Q


def _share_of_most_frequent(blocks: Sequence[Tensor], k: int) -> float:
    """The share of all items that belong to the k most frequent values of their block."""
    counts = [torch.unique(kinds, return_counts=True)[1] for kinds in blocks]
    hits = sum(int(count.topk(min(k, len(count))).values.sum()) for count in counts)
    return hits / sum(map(len, blocks))
