"""The train state: if it learns, it is in here."""

from torch import Tensor, nn
from torch.optim import AdamW

from workbench.config.run import OptimizerConfig
from workbench.losses.learnt import LearntParts
from workbench.models.clip import Clip


class TrainState(nn.Module):
    """A student, what its losses learn beside it, and the optimiser of both.

    One place to optimise, clip, save and resume: whatever is a parameter of this module is treated alike.
    """

    def __init__(self, student: Clip, learnt: LearntParts, config: OptimizerConfig) -> None:
        super().__init__()
        self.student = student
        self.learnt = learnt
        self.optimizer = _make_optimizer(self, config)

    def clamp_(self) -> None:
        """Return every learnt scale to its range."""
        self.student.clamp_scale_()
        self.learnt.clamp_()

    def scales(self) -> dict[str, Tensor]:
        """Every learnt scale by name, 0-d, detached; the student's own is "student"."""
        return {"student": self.student.scale.detach(), **self.learnt.scales()}

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimiser's state as flat named tensors: ``{parameter}/{quantity}``."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.named_parameters()}
        return {
            f"{names[parameter]}/{quantity}": value
            for parameter, quantities in self.optimizer.state.items()
            for quantity, value in quantities.items()
        }

    def load_optimizer_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Undo :meth:`optimizer_tensors`."""
        parameters = dict(self.named_parameters())
        self.optimizer.state.clear()
        for key, value in tensors.items():
            name, quantity = key.rsplit("/", 1)
            parameter = parameters[name]
            device = value.device if quantity == "step" else parameter.device
            self.optimizer.state[parameter][quantity] = value.to(device)


def _make_optimizer(state: nn.Module, config: OptimizerConfig) -> AdamW:
    """AdamW that decays matrices only: gains, biases and scales (fewer than two dimensions) are left alone."""
    parameters = [parameter for parameter in state.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)
