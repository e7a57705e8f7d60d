"""An event -> the numbers in it, by the names under which every tool groups them."""

from workbench.events import EvalDone, Event, StepDone


def scalars(event: Event) -> dict[str, float]:
    """``train/...`` of the step, ``loss/``, ``weighted/`` and ``scale/`` by loss, ``validation/...`` by metric."""
    match event:
        case StepDone():
            step = {
                "loss": event.loss,
                "learning_rate": event.learning_rate,
                "grad_norm": event.grad_norm,
                "pairs_per_s": event.pairs_per_s,
                "peak_mb": event.peak_mb,
            }
            groups = {"train": step, "loss": event.terms, "weighted": event.weighted, "scale": event.scales}
        case EvalDone():
            groups = {event.split: event.metrics}
        case _:
            groups = {}
    return {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
