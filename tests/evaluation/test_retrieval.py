import itertools
import math
import statistics

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from workbench.evaluation import ranks
from workbench.evaluation.ranks import block_slices
from workbench.evaluation.retrieval import false_negative_ceiling, retrieval

KS = (1, 5, 10)


def unit(num_rows: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(num_rows, width, generator=generator, dtype=torch.float64), dim=1)


def brute_force_hit(query: Tensor, candidates: Tensor, right: list[bool], k: int) -> bool:
    """Sorts all candidates, wrong ones first where they tie, and looks for a right one in the first k."""
    scores = [sum(q * c for q, c in zip(query.tolist(), row.tolist(), strict=True)) for row in candidates]
    order = sorted(range(len(scores)), key=lambda i: (-round(scores[i], 9), right[i]))
    return any(right[i] for i in order[:k])


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_every_hit_agrees_with_sorting(data: st.DataObject) -> None:
    groups = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=14))
    captions = data.draw(st.lists(st.integers(1, 3), min_size=len(groups), max_size=len(groups)))
    block_size = data.draw(st.sampled_from([0, 3, 5, 100]))
    image_group = torch.tensor(groups)
    owner = torch.arange(len(groups)).repeat_interleave(torch.tensor(captions))
    text_group = image_group[owner]
    seed = data.draw(st.integers(0, 1000))
    # Coordinates are few, so that scores tie and are negative as often as positive.
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(-1, 2, (len(groups), 3), generator=generator).double() - 0.25
    text = torch.randint(-1, 2, (len(owner), 3), generator=generator).double() + 0.5

    result = retrieval(image, text, image_group, text_group, block_size=block_size, ks=(1, 2, 5))

    neighbors_share = any(a == b for a, b in itertools.pairwise(groups))
    if neighbors_share and len(set(captions)) > 1 and len(block_slices(len(groups), block_size)) > 1:
        return  # captions of neighbors that share a group are then dealt out evenly, see test_blocks
    for block in block_slices(len(groups), block_size):
        images = list(range(block.start, block.stop))
        texts = [m for m in range(len(owner)) if owner[m] in images]
        for k in (1, 2, 5):
            for i in images:
                right = [bool(text_group[m] == image_group[i]) for m in texts]
                expected = brute_force_hit(image[i], text[texts], right, k)
                assert bool(result.hits[f"image_to_text_r{k}"][i]) == expected
            for m in texts:
                right = [bool(image_group[i] == text_group[m]) for i in images]
                expected = brute_force_hit(text[m], image[images], right, k)
                assert bool(result.hits[f"text_to_image_r{k}"][m]) == expected


def test_metrics_are_the_means_of_the_hits_and_are_named_for_the_direction() -> None:
    image, text = unit(40, 8, 0), unit(80, 8, 1)
    result = retrieval(image, text, torch.arange(40), torch.arange(40).repeat_interleave(2))
    names = {f"{a}_to_{b}_r{k}" for a, b in (("image", "text"), ("text", "image")) for k in KS}
    assert set(result.metrics) == set(result.errors) == set(result.hits) == names
    for name, hits in result.hits.items():
        assert hits.dtype == torch.bool
        assert len(hits) == (40 if name.startswith("image") else 80)
        assert result.metrics[name] == pytest.approx(sum(hits.tolist()) / len(hits), abs=1e-15)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    image, text, groups = unit(97, 6, 2).float(), unit(97, 6, 3).float(), torch.arange(97) % 60
    whole = retrieval(image, text, groups, groups, block_size=0)
    monkeypatch.setattr(ranks, "MAX_SCORES", 300)
    chunked = retrieval(image, text, groups, groups, block_size=0)
    assert whole.metrics == chunked.metrics
    assert all(torch.equal(whole.hits[name], chunked.hits[name]) for name in whole.hits)


def test_many_candidates_are_never_one_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    rank_chunk = ranks._rank_chunk
    monkeypatch.setattr(
        ranks, "_rank_chunk", lambda score, right: sizes.append(score.numel()) or rank_chunk(score, right)
    )
    num_pairs = 4_000
    image, groups = torch.randn(num_pairs, 4), torch.arange(num_pairs)
    retrieval(image, image, groups, groups, block_size=0)
    assert sum(sizes) == 2 * num_pairs**2
    assert max(sizes) <= ranks.MAX_SCORES < num_pairs**2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_collapsed_model_scores_nothing(dtype: torch.dtype) -> None:
    same = F.normalize(torch.randn(1, 64), dim=1).expand(50, 64).to(dtype)
    result = retrieval(same, same, torch.arange(50), torch.arange(50))
    assert set(result.metrics.values()) == {0.0}


def test_a_perfect_model_of_opposite_sign_is_last_everywhere() -> None:
    image = torch.eye(12)
    result = retrieval(image, -image, torch.arange(12), torch.arange(12))
    assert result.metrics["image_to_text_r10"] == 0.0
    assert retrieval(image, image, torch.arange(12), torch.arange(12)).metrics["image_to_text_r1"] == 1.0


def test_the_error_is_binomial_within_blocks() -> None:
    num_pairs, block_size = 300, 100
    image = unit(num_pairs, 4, 5)
    text = F.normalize(image + 0.35 * unit(num_pairs, 4, 6), dim=1)
    text[:100] = image[:100]  # an easy block
    result = retrieval(image, text, torch.arange(num_pairs), torch.arange(num_pairs), block_size=block_size)
    for name, hits in result.hits.items():
        shares = [float(part.double().mean()) for part in hits.split(block_size)]
        variance = sum(share * (1 - share) * block_size for share in shares) / num_pairs**2
        assert result.errors[name] == pytest.approx(math.sqrt(variance), rel=1e-12)
    assert result.metrics["image_to_text_r1"] < 1


def test_captions_of_one_image_are_one_item_of_the_error() -> None:
    image = unit(50, 4, 7)
    text = F.normalize(image + 0.5 * unit(50, 4, 8), dim=1)
    once = retrieval(image, text, torch.arange(50), torch.arange(50))
    copies = torch.arange(50).repeat_interleave(4)
    repeated = retrieval(image, text[copies], torch.arange(50), copies)
    name = "text_to_image_r1"
    assert 0 < once.metrics[name] < 1
    assert repeated.metrics[name] == pytest.approx(once.metrics[name])
    assert repeated.errors[name] == pytest.approx(once.errors[name], rel=1e-12)


def test_the_error_is_the_spread_of_repeated_test_sets() -> None:
    shares, errors = [], []
    for seed in range(150):
        image = unit(200, 3, 2 * seed)
        text = F.normalize(image + 0.05 * unit(200, 3, 2 * seed + 1), dim=1)
        result = retrieval(image, text, torch.arange(200), torch.arange(200), ks=(1,))
        shares.append(result.metrics["image_to_text_r1"])
        errors.append(result.errors["image_to_text_r1"])
    # Competition within a block is left out of the error: it may be off, but not by much.
    assert statistics.mean(errors) == pytest.approx(statistics.stdev(shares), rel=0.25)


def test_what_cannot_be_ranked_is_an_error() -> None:
    image, groups = torch.randn(4, 3), torch.arange(4)
    bad = image.clone()
    bad[2, 1] = torch.nan
    with pytest.raises(ValueError, match="1 of 4 caption embeddings are not finite"):
        retrieval(image, bad, groups, groups)
    with pytest.raises(ValueError, match="no correct candidate"):
        retrieval(image, image, groups, torch.tensor([0, 1, 2, 2]))
    with pytest.raises(ValueError, match="one group to each"):
        retrieval(image, image, groups[:3], groups)
    with pytest.raises(ValueError, match="at least one row"):
        retrieval(image[:0], image, groups[:0], groups)


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


@pytest.mark.slow
def test_a_hundred_thousand_pairs_fit() -> None:
    import resource

    num_pairs = 100_000
    image, groups = F.normalize(torch.randn(num_pairs, 8), dim=1), torch.arange(num_pairs)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert retrieval(image, image, groups, groups, block_size=0).metrics["image_to_text_r1"] == 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 600_000
