import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.evaluation.ranks import block_slices, caption_owner, paired_blocks


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
