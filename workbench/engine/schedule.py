"""The learning rate as a pure function of the step."""

import math


def learning_rate(step: int, num_steps: int, peak: float, warmup_fraction: float) -> float:
    """Linear warm-up to ``peak``, then half a cosine towards 0.

    Args:
        step: the step about to be taken, counted from 0.
    """
    num_warmup = round(warmup_fraction * num_steps)
    if step < num_warmup:
        return peak * (step + 1) / num_warmup
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
