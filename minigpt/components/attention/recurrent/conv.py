"""A short causal convolution over neighbouring tokens, channel by channel, with the tokens before it as its state."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.attention.recurrent.scan import RecurrentState
from minigpt.components.base import Part
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser
from minigpt.cost import Cost, Matmul, Work


class ShortConv(Part):
    """y_t = sum over i < kernel of w_i * x_(t-kernel+1+i) + b, channel by channel; what comes before a text is zero.

    x: (B, T, channels) -> (B, T, channels). Learns w: (channels, kernel), b: (channels,) unless ``bias`` is false.
    """

    def __init__(self, channels: int, kernel: int, bias: bool):
        super().__init__()
        self.channels, self.kernel = channels, kernel
        self.weight = nn.Parameter(torch.empty(channels, kernel))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None

    def init_parameters(self, init: Initialiser) -> None:
        bound = 1 / math.sqrt(self.kernel)  # as torch starts a convolution: no init policy knows its few inputs
        shape = self.weight.shape
        init.values(self.weight, lambda generator: (2 * torch.rand(shape, generator=generator) - 1) * bound, "conv")
        if self.bias is not None:
            init.constant(self.bias, 0.0, "bias")

    def start(self, batch: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The tokens before the first: (B, kernel - 1, channels) of zeros."""
        return torch.zeros(batch, self.kernel - 1, self.channels, device=device, dtype=dtype)

    def forward(self, x: Tensor, call: Call, state: RecurrentState | None = None) -> Tensor:
        """state: remembers the last tokens as ``conv``."""
        if call.span.real is not None:
            x = x * call.span.real[..., None]
        if state is None:
            x = F.pad(x, (0, 0, self.kernel - 1, 0))
        else:
            before = state["conv"]
            x = torch.cat([before.to(x.dtype), x], dim=1)  # (B, kernel - 1 + T, channels)
            state["conv"] = x[:, x.shape[1] - before.shape[1] :].to(before.dtype, copy=True)
        y = F.conv1d(x.transpose(1, 2), self.weight[:, None], self.bias, groups=self.channels)
        return y.transpose(1, 2)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch moves the tokens it remembers by one place, the hardware overwrites the oldest."""
        kept = self.kernel - 1
        more = kept - min(kept, work.tokens)
        return {"state_written_bits": work.batch * more * self.channels * work.cache_bits}

    def cost(self, work: Work) -> Cost:
        n, kept = work.all_tokens * self.channels, self.kernel - 1
        bits = work.batch * self.channels * work.cache_bits  # of one token
        return Cost(
            params=self.own_params(),
            weights_read={"native": self.own_params()},
            matmuls=(Matmul(work.tokens, self.kernel, 1, work.batch * self.channels),),
            ops={} if self.bias is None else {"add": n},
            state_bits=bits * kept,
            state_read_bits=bits * kept if work.context > work.tokens else 0,
            state_written_bits=bits * min(kept, work.tokens),
            activations=2 * n,
        )
