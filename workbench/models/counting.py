"""Parameter counts of a model, with embedding tables separate from blocks."""

from torch import nn

from workbench.config.inheritance import Tower
from workbench.models.clip import Clip
from workbench.models.towers import split_name


def count_parameters(model: Clip, tower: Tower | None = None) -> dict[str, int]:
    """``{"blocks": n, "embeddings": n, "total": n}``, of the model or one tower.

    Embedding tables (tokens and positions) are counted separately because they dominate tiny models without adding
    compute. The scale belongs to neither tower; for the model it counts as part of the blocks.
    """
    # Token tables are nn.Embedding modules; positional embeddings are plain parameters, found by name below.
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    total = embeddings = 0
    for name, parameter in model.towers.named_parameters():
        if tower is None or split_name(name)[0] == tower:
            total += parameter.numel()
            if id(parameter) in tables or name.endswith("positional_embedding"):
                embeddings += parameter.numel()
    return {"blocks": total - embeddings, "embeddings": embeddings, "total": total}
