"""Where a model's weights lie: on which device, and in which memory format."""

import torch

from workbench.models.clip import Clip


def placed(model: Clip, device: torch.device) -> Clip:
    """The model on the device, convolutional towers in channels_last, the format in which they run fastest.

    Every model that is trained or resumed goes through here: two memory formats give other last bits.
    """
    if has_batch_norm(model):
        model.towers.visual.to(memory_format=torch.channels_last)
    return model.to(device)


def has_batch_norm(model: Clip) -> bool:
    """Whether a tower normalizes over the batch, so that micro-batches are not exact."""
    return any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
