"""How large a model is, with its blocks and its embedding tables apart."""

from torch import nn

from workbench.models.clip import Clip


def count_parameters(model: Clip) -> dict[str, int]:
    """``{"blocks": n, "embeddings": n, "total": n}``.

    The embedding tables (tokens and positions) are apart because in tiny models they outweigh the arithmetic.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    positions = [parameter for name, parameter in model.named_parameters() if name.endswith("positional_embedding")]
    embeddings = sum(parameter.numel() for parameter in (*tables, *positions))
    return {"blocks": total - embeddings, "embeddings": embeddings, "total": total}
