"""A transformer block with as many heads and FFN channels as one likes, whatever the width of its tower.

Heads keep their own width, so that a tower may lose embedding channels without losing the same share of each head;
``nn.MultiheadAttention`` ties the two. Weights have the names that open_clip gives them. A branch with nothing left is
its output bias. Shape letters: H heads, W channels of a head, F FFN channels.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Constant(nn.Module):
    """A branch that has lost everything but its output bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, tokens_BTC: Tensor, _: Tensor | None = None) -> Tensor:
        return self.bias.to(tokens_BTC.dtype)


class Attention(nn.Module):
    """Multi-head self-attention between C channels outside and H · W inside; starts as torch's own does."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.head_width = head_width
        self.in_proj_weight = nn.Parameter(torch.empty(3 * inner, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * inner))
        self.out_proj = nn.Linear(inner, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens_BTC: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        projected = F.linear(tokens_BTC, self.in_proj_weight, self.in_proj_bias)
        apart_BT3HW = projected.reshape(*tokens_BTC.shape[:2], 3, -1, self.head_width)
        query, key, value = apart_BT3HW.permute(2, 0, 3, 1, 4)
        mask = None if attn_mask is None else attn_mask.to(query.dtype)
        context_BHTW = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        output: Tensor = self.out_proj(context_BHTW.transpose(1, 2).flatten(2))
        return output


class Perceptron(nn.Module):
    """The block's FFN."""

    def __init__(self, width: int, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, channels)
        self.gelu = activation
        self.c_proj = nn.Linear(channels, width)

    def forward(self, tokens_BTC: Tensor) -> Tensor:
        output: Tensor = self.c_proj(self.gelu(self.c_fc(tokens_BTC)))
        return output


class Block(nn.Module):
    """Attention and an FFN, each behind its norm and added to what came in.

    Args:
        width: embedding channels of the tower.
        heads, channels: 0 leaves of that branch the output bias only, and no norm.
        make_norm: a norm over so many channels.
        make_activation: what stands between the two matrices of the FFN.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        channels: int,
        *,
        head_width: int,
        make_norm: Callable[[int], nn.Module],
        make_activation: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.ln_1 = make_norm(width) if heads else nn.Identity()
        self.attn: nn.Module = Attention(width, heads, head_width) if heads else Constant(width)
        self.ln_2 = make_norm(width) if channels else nn.Identity()
        self.mlp: nn.Module = Perceptron(width, channels, make_activation()) if channels else Constant(width)

    def forward(self, tokens_BTC: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        tokens_BTC = tokens_BTC + self.attn(self.ln_1(tokens_BTC), attn_mask)
        output: Tensor = tokens_BTC + self.mlp(self.ln_2(tokens_BTC))
        return output

    def get_weight_dtype(self) -> torch.dtype:
        """What open_clip casts the embedded tokens to."""
        return next(self.parameters()).dtype
