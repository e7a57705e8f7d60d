import itertools
import math
import statistics

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from workbench.evaluation import retrieval as module
from workbench.evaluation.retrieval import block_slices, caption_owner, paired_blocks, retrieval

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
    monkeypatch.setattr(module, "MAX_SCORES", 300)
    chunked = retrieval(image, text, groups, groups, block_size=0)
    assert whole.metrics == chunked.metrics
    assert all(torch.equal(whole.hits[name], chunked.hits[name]) for name in whole.hits)


def test_many_candidates_are_never_one_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    rank_chunk = module._rank_chunk
    monkeypatch.setattr(
        module, "_rank_chunk", lambda score, right: sizes.append(score.numel()) or rank_chunk(score, right)
    )
    num_pairs = 4_000
    image, groups = torch.randn(num_pairs, 4), torch.arange(num_pairs)
    retrieval(image, image, groups, groups, block_size=0)
    assert sum(sizes) == 2 * num_pairs**2
    assert max(sizes) <= module.MAX_SCORES < num_pairs**2


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


@pytest.mark.slow
def test_a_hundred_thousand_pairs_fit() -> None:
    import resource

    num_pairs = 100_000
    image, groups = F.normalize(torch.randn(num_pairs, 8), dim=1), torch.arange(num_pairs)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert retrieval(image, image, groups, groups, block_size=0).metrics["image_to_text_r1"] == 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 600_000


@given(st.integers(1, 500), st.integers(0, 120))
def test_blocks_cover_every_item_once_in_order(num_items: int, block_size: int) -> None:
    blocks = block_slices(num_items, block_size)
    assert [i for block in blocks for i in range(block.start, block.stop)] == list(range(num_items))
    sizes = [block.stop - block.start for block in blocks]
    if block_size == 0 or num_items <= block_size:
        assert sizes == [num_items]
    else:
        assert set(sizes[:-1]) <= {block_size}
        assert block_size / 2 <= sizes[-1] < 1.5 * block_size


def test_a_short_last_block_joins_its_predecessor_and_a_longer_one_stands_alone() -> None:
    assert [b.stop - b.start for b in block_slices(2499, 1000)] == [1000, 1499]
    assert [b.stop - b.start for b in block_slices(2500, 1000)] == [1000, 1000, 500]


def test_nothing_to_evaluate_and_negative_sizes_are_errors() -> None:
    with pytest.raises(ValueError, match="empty"):
        block_slices(0, 1000)
    with pytest.raises(ValueError, match="block_size is -1"):
        block_slices(5, -1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=12))
def test_captions_are_dealt_to_images_of_their_group(images: list[tuple[int, int]]) -> None:
    image_group = torch.tensor([group for group, _ in images])
    text_group = torch.tensor([group for group, count in images for _ in range(count)])
    owner = caption_owner(image_group, text_group)
    assert torch.equal(image_group[owner], text_group)
    assert owner.tolist() == sorted(owner.tolist())
    assert set(owner.tolist()) == set(range(len(images)))


def test_the_owner_is_exact_where_each_image_has_as_many_captions() -> None:
    image_group = torch.tensor([4, 4, 7, 4])
    owner = caption_owner(image_group, image_group.repeat_interleave(3))
    assert owner.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_blocks_take_their_images_captions() -> None:
    counts = torch.tensor([1, 3, 2, 1, 5])
    blocks = paired_blocks(torch.arange(5), torch.arange(5).repeat_interleave(counts), 2)
    assert [(block.images, block.texts) for block in blocks] == [
        (slice(0, 2), slice(0, 4)),
        (slice(2, 4), slice(4, 7)),
        (slice(4, 5), slice(7, 12)),
    ]


def test_captions_out_of_order_are_an_error_only_where_the_order_matters() -> None:
    image_group, text_group = torch.arange(4), torch.tensor([1, 0, 2, 3])
    with pytest.raises(ValueError, match="order of their images"):
        paired_blocks(image_group, text_group, 2)
    assert paired_blocks(image_group, text_group, 0)[0].texts == slice(0, 4)
