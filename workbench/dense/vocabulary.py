"""Open-vocabulary detection: regions are classified by the text tower, also into classes that no training image has.

After F-VLM (Kuo et al., ICLR 2023, arXiv 2209.15639): a region's learned embedding is compared with the embeddings of
class names; at inference its probability is joined with that of the frozen tower's own embedding of the region by a
geometric mean, s = z^(1-α) · w^α, with a larger α for unseen classes. Boxes and masks are the same for all classes.

Shape letters: R regions of all images · K classes · D embedding width · C channels of the tower's last map.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from workbench.config.dense import DenseConfig
from workbench.data.detection.dataset import DetectionDataset
from workbench.dense.pyramid import FrozenTower
from workbench.evaluation.zero_shot import build_classifier
from workbench.models.clip import Clip

INITIAL_SCALE = 20.0  # of the learned embeddings' cosines; trained, unlike the tower's own
LEAST = 1e-8  # probability whose logarithm is still finite in float32


@torch.no_grad()
def class_embeddings(student: Clip, dataset: DetectionDataset) -> Tensor:
    """Unit-length embeddings [K, D] of the categories' names, each the mean over the dataset's prompts."""
    device = student.scale.device
    return build_classifier(
        lambda prompts: student.encode_text(student.tokenizer(list(prompts)).to(device)),
        [(name,) for name in dataset.categories],
        dataset.templates,
    )


class RememberingPool(MultiScaleRoIAlign):  # type: ignore[misc]  # torchvision has no types
    """torchvision's pooling of regions, which keeps their boxes for the predictor: list of [R, 4] in pixels."""

    regions: list[Tensor]

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        self.regions = boxes
        pooled: Tensor = super().forward(x, boxes, image_shapes)
        return pooled


class OpenPredictor(nn.Module):
    """Class logits [R, 1 + K] and boxes [R, 4 · (1 + K)] of pooled regions; in place of torchvision's predictor.

    In training, unseen classes have no probability. In evaluation the logits are logarithms of the joined scores, and
    the background has what they leave of 1.
    """

    text_KD: Tensor
    exponent_K: Tensor
    is_unseen_K: Tensor

    def __init__(
        self,
        width: int,
        tower: FrozenTower,
        pool: RememberingPool,
        text_KD: Tensor,
        unseen: Sequence[int],
        config: DenseConfig,
    ) -> None:
        super().__init__()
        self._frozen = (tower, pool)  # in a tuple, in which nn.Module finds no weights
        num_classes, dim = text_KD.shape
        self.embed = nn.Linear(width, dim)
        self.background_D = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)))
        self.boxes = nn.Linear(width, 4)
        is_unseen_K = torch.zeros(num_classes, dtype=torch.bool)
        is_unseen_K[list(unseen)] = True
        self.register_buffer("text_KD", text_KD, persistent=False)
        self.register_buffer("is_unseen_K", is_unseen_K, persistent=False)
        exponents = torch.where(is_unseen_K, config.tower_share_unseen, config.tower_share)
        self.register_buffer("exponent_K", exponents, persistent=False)

    def forward(self, pooled_RC: Tensor) -> tuple[Tensor, Tensor]:
        region_RD = F.normalize(self.embed(pooled_RC), dim=1)
        classes_LD = torch.cat([F.normalize(self.background_D, dim=0)[None], self.text_KD])
        logits_RL = self.log_scale.exp() * region_RD @ classes_LD.T
        if self.training:
            hidden_L = F.pad(self.is_unseen_K, (1, 0))
            logits_RL = logits_RL.masked_fill(hidden_L, -torch.inf)
        else:
            logits_RL = self._joined(logits_RL.softmax(dim=1)[:, 1:])
        return logits_RL, self.boxes(pooled_RC).repeat(1, len(classes_LD))

    def _joined(self, learned_RK: Tensor) -> Tensor:
        """Logarithms of the geometric means with the tower's own probabilities, after the background's, [R, 1 + K]."""
        tower, pool = self._frozen
        own_RD = F.normalize(tower.embed_regions(pool.regions), dim=1)
        own_RK = (tower.clip.scale * own_RD @ self.text_KD.T).softmax(dim=1)
        joined_RK = learned_RK ** (1 - self.exponent_K) * own_RK**self.exponent_K
        background_R1 = 1 - joined_RK.sum(dim=1, keepdim=True)
        return torch.cat([background_R1, joined_RK], dim=1).clamp(min=LEAST).log()


class SharedMaskPredictor(MaskRCNNPredictor):  # type: ignore[misc]  # torchvision has no types
    """torchvision's mask predictor with one mask for all classes: [R, 1 + K, h, w], a view of [R, 1, h, w]."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(channels, channels, 1)
        self._num_classes = num_classes

    def forward(self, pooled: Tensor) -> Tensor:
        mask_R1hw: Tensor = super().forward(pooled)
        return mask_R1hw.expand(-1, 1 + self._num_classes, -1, -1)
