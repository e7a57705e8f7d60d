"""Mask R-CNN on a frozen image tower: torchvision's heads, in proportion to the images.

Shape letters: B images · M objects or detections of an image · H, W pixels.
"""

from typing import Any

from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from workbench.config.dense import DenseConfig
from workbench.data.detection.dataset import DetectionDataset
from workbench.dense.pyramid import SIZE_DIVISOR, FrozenTower, Pyramid
from workbench.dense.vocabulary import OpenPredictor, RememberingPool, SharedMaskPredictor, class_embeddings

USUAL_SIDE_PX = 800  # for which torchvision's sizes of anchors and regions are meant
ANCHORS_PX = (32, 64, 128, 256, 512)  # of the levels at strides 4 to 64, at that image size
REGION_PX = 224  # a region of this size is read from the level at stride 16, at that image size
LEVELS = ("0", "1", "2", "3")
BOX_CELLS, MASK_CELLS = 7, 14  # sides of what the heads read of a region
LONGEST = 1333 / 800  # of the shorter side: COCO's limit of the longer one


def build_detector(tower: FrozenTower, config: DenseConfig, dataset: DetectionDataset) -> nn.Module:
    """A detector with random heads on a frozen tower, from torch's global random state.

    Class 0 is the background, and the others are the dataset's categories. Only its pyramid and heads are its weights.
    """
    side, channels, num_classes = config.image_size, config.width, len(dataset.categories)
    # As COCO's at the usual size: small images have small objects.
    scale = side / USUAL_SIDE_PX
    rois = {"featmap_names": list(LEVELS), "sampling_ratio": 2, "canonical_scale": max(1, round(REGION_PX * scale))}
    settings: dict[str, Any] = {
        "min_size": side,
        "max_size": round(LONGEST * side),
        "image_mean": list(tower.clip.mean),
        "image_std": list(tower.clip.std),
        "size_divisible": SIZE_DIVISOR,
        "rpn_anchor_generator": AnchorGenerator(
            tuple((max(1, round(size * scale)),) for size in ANCHORS_PX), ((0.5, 1.0, 2.0),) * len(ANCHORS_PX)
        ),
        "rpn_pre_nms_top_n_train": 4 * config.regions,
        "rpn_post_nms_top_n_train": 2 * config.regions,
        "rpn_pre_nms_top_n_test": 2 * config.regions,
        "rpn_post_nms_top_n_test": 2 * config.regions,
        "box_batch_size_per_image": config.regions,
        "box_roi_pool": (pool := RememberingPool(output_size=BOX_CELLS, **rois)),
        "box_head": TwoMLPHead(channels * BOX_CELLS**2, 4 * channels),
        "box_predictor": FastRCNNPredictor(4 * channels, num_classes + 1),
    }
    mask_predictor = MaskRCNNPredictor(channels, channels, num_classes + 1)
    if config.open_vocabulary:
        text_KD = class_embeddings(tower.clip, dataset)
        settings["box_predictor"] = OpenPredictor(4 * channels, tower, pool, text_KD, sorted(dataset.unseen), config)
        mask_predictor = SharedMaskPredictor(channels, num_classes)
    pyramid = Pyramid(tower, channels)
    if config.boxes_only:
        boxes: nn.Module = FasterRCNN(pyramid, **settings)
        return boxes
    with_masks: nn.Module = MaskRCNN(
        pyramid,
        mask_roi_pool=MultiScaleRoIAlign(output_size=MASK_CELLS, **rois),
        mask_head=MaskRCNNHeads(channels, (channels,) * 4, 1),
        mask_predictor=mask_predictor,
        **settings,
    )
    return with_masks
