"""A smaller ModifiedResNet has the teacher's weights, and open_clip can build it."""

import copy

import pytest
import torch

from workbench.config.inheritance import Plan
from workbench.inheritance import inherit


@pytest.fixture
def image():
    """Four images of 64 pixels."""
    return torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@torch.no_grad()
@pytest.mark.parametrize("plan", [{}, {"width": 8}, {"depth": [1, 3, 2, 1]}, {"width": 8, "width_rule": "magnitude"}])
def test_a_plan_that_keeps_all_is_the_teacher_exactly(resnet, image, plan):
    student = inherit(resnet, Plan.parse({"image": plan}))
    assert student.config == resnet.config
    assert torch.equal(student.encode_image(image), resnet.encode_image(image))


@torch.no_grad()
def test_fewer_blocks_are_the_teacher_with_some_left_out(resnet, image):
    student = inherit(resnet, Plan.parse({"image": {"depth": [1, 2, 1, 1]}, "text": {"depth": 2}}))
    assert student.config["vision_cfg"]["layers"] == [1, 2, 1, 1]
    assert student.config["text_cfg"]["layers"] == 2
    visual = resnet.towers.visual
    visual.layer2 = torch.nn.Sequential(visual.layer2[0], visual.layer2[2])
    visual.layer3 = torch.nn.Sequential(visual.layer3[0])
    assert torch.equal(student.encode_image(image), resnet.encode_image(image))


@torch.no_grad()
def test_the_first_block_of_a_stage_stays_and_importance_chooses_the_others(resnet):
    for block, gain in enumerate((0.0, 0.1, 5.0)):
        resnet.towers.visual.layer2[block].bn3.weight.fill_(gain)
    student = inherit(resnet, Plan.parse({"image": {"depth": 0.5, "depth_rule": "importance"}}))
    assert student.config["vision_cfg"]["layers"] == [1, 2, 1, 1]
    gains = [float(block.bn3.weight[0]) for block in student.towers.visual.layer2]
    assert gains == [0.0, 5.0]


@torch.no_grad()
@pytest.mark.parametrize("rule", ["leading", "magnitude"])
def test_a_narrower_one_is_the_teacher_with_dead_channels_cut_out(resnet, image, rule):
    """Kill in the teacher what a student of width 6 loses: the function stays, so the right channels were kept."""
    visual = resnet.towers.visual
    blocks = [block for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4) for block in stage]
    pairs = [(getattr(owner, f"conv{n}"), getattr(owner, f"bn{n}")) for owner in (visual, *blocks) for n in (1, 2, 3)]
    pairs += [(block.downsample[1], block.downsample[2]) for block in blocks if block.downsample is not None]
    for convolution, norm in pairs:
        written = round(0.75 * convolution.out_channels)
        convolution.weight[written:] = 0
        for name in ("weight", "bias", "running_mean"):
            getattr(norm, name)[written:] = 0
        if convolution.in_channels > 3:
            convolution.weight[:, round(0.75 * convolution.in_channels) :] = 0
    pool = visual.attnpool
    for projection in (pool.q_proj, pool.k_proj, pool.v_proj):
        projection.weight[192:] = 0
        projection.weight[:, 192:] = 0
    pool.c_proj.weight[:, 192:] = 0
    before = resnet.encode_image(image)
    student = inherit(resnet, Plan.parse({"image": {"width": 6, "width_rule": rule}}))
    assert student.config["vision_cfg"]["width"] == 6
    torch.testing.assert_close(student.encode_image(image), before, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_magnitude_finds_the_live_channels_wherever_they_are(resnet, image):
    visual = resnet.towers.visual
    gone = torch.tensor([1, 6])
    visual.conv3.weight[gone] = 0
    for name in ("weight", "bias", "running_mean"):
        getattr(visual.bn3, name)[gone] = 0
    for convolution in (visual.layer1[0].conv1, visual.layer1[0].downsample[1]):
        convolution.weight[:, gone] = 0
    student = inherit(resnet, Plan.parse({"image": {"width": 6, "width_rule": "magnitude"}}))
    kept = torch.tensor([0, 2, 3, 4, 5, 7])
    assert torch.equal(student.towers.visual.bn3.running_var, visual.bn3.running_var[kept])
    assert student.encode_image(image).shape == (4, 16)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"depth": 3}, "depth of a ResNet is a share, or for each of its 4 stages how many blocks to keep"),
        ({"depth": [1, 1, 1]}, "depth of a ResNet is a share, or for each of its 4 stages"),
        ({"depth": [0, 1, 1, 1]}, "depth of a ResNet is a share, or for each of its 4 stages"),
        ({"depth": [1, 4, 1, 1]}, "depth of stage 2 4: the teacher has 3 blocks, choose 1 to 3"),
        ({"depth": 0.5, "depth_rule": "last"}, "depth_rule last drops the first block of a stage"),
        ({"width": 5}, "width 5 of a ResNet: choose an even one"),
        ({"width": 10}, "width 10: the teacher has 8 channels in its stem"),
        ({"heads": 2}, "heads and channels of a ResNet follow its width: leave them out"),
    ],
)
def test_an_impossible_plan_names_the_reason(resnet, plan, words):
    with pytest.raises(ValueError, match=rf"\Aimage tower: {words}.*\Z"):
        inherit(resnet, Plan.parse({"image": plan}))


def test_the_teacher_is_left_alone(resnet):
    before = copy.deepcopy(resnet.state_dict())
    student = inherit(resnet, Plan.parse({"image": {"width": 6}}))
    for parameter in student.parameters():
        parameter.data.add_(1)
    torch.testing.assert_close(resnet.state_dict(), before, rtol=0, atol=0)
