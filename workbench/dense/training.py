"""Training a detector's heads on a frozen image tower, step by step, and measuring it.

Everything random is a function of (seed, step), so that training continues from saved tensors bit for bit.

Shape letters: B images · M objects of an image · H, W pixels.
"""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.config.dense import DenseConfig, count_steps
from workbench.data.detection.dataset import DetectionDataset, decode_masks, encode_masks
from workbench.data.detection.spec import DetectionData
from workbench.data.parallel import look_ahead, or_bad_image
from workbench.data.unusable import BadImageCount
from workbench.dense.detector import build_detector
from workbench.dense.evaluation import CocoMetrics, Detections
from workbench.dense.pyramid import FrozenTower
from workbench.embeddings import BadImage
from workbench.models.clip import Clip
from workbench.progress import phase
from workbench.randomness import derive_seed

WARMUP = 0.05  # of the steps
CLIP_NORM = 10.0
HEADS, MOMENTS = "heads/", "optimizer/"  # prefixes of tensor names
LOSS_NAMES = {
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposal",
    "loss_classifier": "class",
    "loss_box_reg": "box",
    "loss_mask": "mask",
}
Target = dict[str, Tensor]
Batch = tuple[list[Tensor], list[Target]]


class DetectorTraining:
    """A detector on a student's frozen image tower, with its optimizer.

    Args:
        student: its image tower is read and never changed.
        seed: of the initial heads, the order of images and the flips.
        precision: of the tower.

    Attributes:
        num_steps: of the whole training.
        learning_rate, grad_norm: of the last step.
    """

    def __init__(
        self, student: Clip, config: DenseConfig, data: DetectionData, *, seed: int, precision: str = "fp32"
    ) -> None:
        self.config, self._data, self._seed = config, data, seed
        self.device = student.scale.device
        self.num_steps = count_steps(config, len(data.train))
        self.learning_rate = 0.0
        self.grad_norm = torch.zeros((), device=self.device)
        self._bad_images = BadImageCount()
        with self._seeded("detector heads", 0):
            self.detector = build_detector(FrozenTower(student, precision), config, data.train)
        self.detector.to(self.device)
        parameters = list(self.detector.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [one for one in parameters if one.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)

    @contextmanager
    def _seeded(self, purpose: str, step: int) -> Iterator[None]:
        """Context with torch's global random state for a purpose: torchvision samples regions from it."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(derive_seed(self._seed, purpose, step))
            yield

    @property
    def num_held_out(self) -> int:
        """Number of images that :meth:`measure` reads."""
        return len(self._data.held_out)

    def num_parameters(self) -> int:
        """Weights of pyramid and heads."""
        return sum(parameter.numel() for parameter in self.detector.parameters())

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """The batches of the steps from ``start`` (from 0), made ahead in threads."""
        return look_ahead(self.batch, range(start, self.num_steps))

    def batch(self, step: int) -> Batch:
        """The images of a step, float32 [3, H, W] in [0, 1], and their objects; half of them are flipped."""
        random = np.random.Generator(np.random.PCG64(derive_seed(self._seed, "detector batch", step)))
        flips = random.random(self.config.batch_size) < 0.5
        images, targets = [], []
        for place, is_flipped in enumerate(flips):
            image, target = self._usable(step * self.config.batch_size + place)
            images.append(image.flip(2) if is_flipped else image)
            targets.append(_flipped(target, image.shape[2]) if is_flipped else target)
        return images, targets

    def _usable(self, position: int) -> tuple[Tensor, Target]:
        """The image at a position of all epochs; instead of one that cannot be decoded, the next one that can.

        Raises:
            RefusedError: too many images cannot be decoded.
        """
        dataset = self._data.train
        while True:
            index = self._index(position)
            found = or_bad_image(dataset.image, index)
            self._bad_images.add(1, [found] if isinstance(found, BadImage) else ())
            if not isinstance(found, BadImage):
                return _pixels(found), _target(dataset, index)
            self._bad_images.check()
            position += 1

    def _index(self, position: int) -> int:
        """The image at a position: every epoch is a permutation of all images."""
        epoch, place = divmod(position, len(self._data.train))
        return int(_permutation(derive_seed(self._seed, "detector epoch", epoch), len(self._data.train))[place])

    def train_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One optimizer step, counted from 0; returns the losses, 0-d on the device.

        A loss or gradient that is not finite skips the update.
        """
        images, targets = batch
        self.detector.train()
        with self._seeded("detector step", step):
            losses = self.detector(
                [image.to(self.device) for image in images],
                [{name: tensor.to(self.device) for name, tensor in target.items()} for target in targets],
            )
        named = {LOSS_NAMES[name]: loss for name, loss in losses.items()}
        total = torch.stack(list(named.values())).sum()
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.grad_norm = torch.nn.utils.clip_grad_norm_(self.detector.parameters(), CLIP_NORM)
        self.learning_rate = learning_rate(step, self.num_steps, self.config.learning_rate)
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        if bool(self.grad_norm.isfinite()):
            self._optimizer.step()
        return {name: loss.detach() for name, loss in named.items()}

    def news(self) -> str:
        """A warning about images that could not be decoded since the last one; empty if there is none."""
        return self._bad_images.news()

    @torch.no_grad()
    def detect(self, dataset: DetectionDataset, indices: Sequence[int]) -> list[Detections]:
        """What the detector finds in some images of a dataset. Raises ImageError for one that cannot be decoded."""
        self.detector.eval()
        found = self.detector([_pixels(dataset.image(index)).to(self.device) for index in indices])
        return [_detections(one) for one in found]

    def measure(self) -> dict[str, float]:
        """COCO's metrics on the held-out images, in [0, 1]; see :class:`~workbench.dense.evaluation.CocoMetrics`."""
        held_out, batch = self._data.held_out, self.config.batch_size
        metrics = CocoMetrics(len(held_out.categories), held_out.areas_px, not self.config.boxes_only)
        with phase("measuring the detector", len(held_out)) as shown:
            for start in range(0, len(held_out), batch):
                indices = range(start, min(start + batch, len(held_out)))
                detections = self.detect(held_out, indices)
                sizes = [held_out.size(index) for index in indices]
                objects = [held_out.objects(index) for index in indices]
                metrics.add(list(zip(sizes, objects, detections, strict=True)))
                shown.advance(len(indices))
        measured = metrics.compute()
        if held_out.unseen:
            seen = sorted(set(range(len(held_out.categories))) - held_out.unseen)
            for name, part in (("seen", seen), ("unseen", sorted(held_out.unseen))):
                own = metrics.compute(part)
                measured |= {f"{metric}_{name}": own[metric] for metric in ("box_ap", "mask_ap") if metric in own}
        return measured

    def tensors(self) -> dict[str, Tensor]:
        """Everything that :meth:`load` needs to continue: heads and the optimizer's moments, by name."""
        tensors = {HEADS + name: tensor for name, tensor in self.detector.state_dict().items()}
        for name, parameter in self.detector.named_parameters():
            for moment, value in self._optimizer.state.get(parameter, {}).items():
                tensors[f"{MOMENTS}{name}/{moment}"] = value
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore :meth:`tensors`.

        Raises:
            ValueError: they are of another detector.
        """
        heads = {name.removeprefix(HEADS): value for name, value in tensors.items() if name.startswith(HEADS)}
        try:
            self.detector.load_state_dict(heads)
        except RuntimeError as error:
            raise ValueError(f"the detector's weights do not fit: {str(error).splitlines()[0]}") from None
        for name, parameter in self.detector.named_parameters():
            prefix = f"{MOMENTS}{name}/"
            state = {one.removeprefix(prefix): value for one, value in tensors.items() if one.startswith(prefix)}
            if state:
                self._optimizer.state[parameter] = {
                    one: value.to(_home(one, parameter)) for one, value in state.items()
                }


@lru_cache(maxsize=2)  # batches made ahead may be of two epochs
def _permutation(seed: int, size: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def learning_rate(step: int, num_steps: int, peak: float) -> float:
    """Linear warm-up over 5 % of the steps, then cosine decay to 0, for the step about to be taken, from 0."""
    num_warmup = max(1, round(WARMUP * num_steps))
    if step < num_warmup:
        return peak * (step + 1) / num_warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - num_warmup) / max(1, num_steps - num_warmup)))


def _home(moment: str, parameter: Tensor) -> torch.device:
    """Where AdamW keeps a moment: its count of steps is on the CPU."""
    return torch.device("cpu") if moment == "step" else parameter.device


def _pixels(image: Any) -> Tensor:
    """float32 [3, H, W] in [0, 1] of an RGB image."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def _target(dataset: DetectionDataset, index: int) -> Target:
    """The objects of an image as torchvision takes them, without crowds, as COCO's detectors, and unseen classes."""
    objects = dataset.objects(index)
    is_unseen_M = np.isin(objects.labels_M, sorted(dataset.unseen))
    kept = np.flatnonzero(~(objects.is_crowd_M | is_unseen_M)).tolist()
    target = {
        "boxes": torch.tensor(objects.boxes_M4[kept], dtype=torch.float32),
        "labels": torch.tensor(objects.labels_M[kept]) + 1,  # 0 is the background
    }
    if dataset.has_masks:
        masks_MHW = decode_masks([objects.masks[row] for row in kept], *dataset.size(index))
        target["masks"] = torch.from_numpy(masks_MHW.astype(np.uint8))
    return target


def _flipped(target: Target, width: int) -> Target:
    """The objects of the mirrored image."""
    x0, y0, x1, y1 = target["boxes"].unbind(1)
    flipped = {**target, "boxes": torch.stack([width - x1, y0, width - x0, y1], dim=1)}
    return flipped | {"masks": target["masks"].flip(2)} if "masks" in target else flipped


def _detections(found: Mapping[str, Tensor]) -> Detections:
    """torchvision's output for one image; a pixel is inside of a mask if that is more likely than not."""
    masks = found["masks"][:, 0] > 0.5 if "masks" in found else None
    return Detections(
        boxes_M4=found["boxes"].double().cpu().numpy(),
        labels_M=found["labels"].cpu().numpy() - 1,
        scores_M=found["scores"].double().cpu().numpy(),
        masks=() if masks is None else encode_masks(masks.cpu().numpy()),
    )
