"""A transformer block with any number of heads and FFN channels, whatever the width of its tower.

Heads keep their own width, so that a tower can lose embedding channels without shrinking its heads
(``nn.MultiheadAttention`` ties the two). Weights are named as in open_clip. A branch without heads or channels is its
output bias. Shape letters: H heads, W channels of a head, F FFN channels.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Constant(nn.Module):
    """A branch reduced to its output bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, tokens_BTC: Tensor, _: Tensor | None = None) -> Tensor:
        return self.bias.to(tokens_BTC.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with C channels outside and H · W inside; initialized as torch's own."""

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
        split_BT3HW = projected.reshape(*tokens_BTC.shape[:2], 3, -1, self.head_width)
        query, key, value = split_BT3HW.permute(2, 0, 3, 1, 4)
        # open_clip keeps its causal mask in float32, which scaled_dot_product_attention refuses under autocast.
        mask = None if attn_mask is None else attn_mask.to(query.dtype)
        context_BHTW = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        output: Tensor = self.out_proj(context_BHTW.transpose(1, 2).flatten(2))
        return output


class Perceptron(nn.Module):
    """The FFN of a block."""

    def __init__(self, width: int, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, channels)
        self.gelu = activation
        self.c_proj = nn.Linear(channels, width)

    def forward(self, tokens_BTC: Tensor) -> Tensor:
        output: Tensor = self.c_proj(self.gelu(self.c_fc(tokens_BTC)))
        return output


class Block(nn.Module):
    """Attention and an FFN, each with a layer norm before and a residual connection.

    Args:
        width: embedding channels of the tower.
        heads, channels: 0 reduces the branch to its output bias, without a norm.
        make_norm: creates a norm over so many channels.
        make_activation: creates the activation of the FFN.
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
        """The dtype that open_clip casts token embeddings to."""
        return next(self.parameters()).dtype
