"""What reads a segment: a transformer with pre-norm, rotary positions, grouped-query attention and SwiGLU."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import UserError
from recurra.memory.blocks import SwiGLU
from recurra.memory.checks import check_heads
from recurra.memory.rotary import angles, turn
from recurra.memory.segment.places import View, left_open, put


class Held(NamedTuple):
    """Of one layer: ``keys`` and ``values (batch, places, kv_dim)``, the keys with their positions in them."""

    keys: Tensor
    values: Tensor


class Around(Protocol):
    """What stands between the layers: called with the layer's number and what it reads, or what it gave."""

    def before(self, layer: int, x: Tensor) -> Tensor:
        """Give what the layer reads instead of ``x (batch, tokens, dim)``."""
        ...

    def after(self, layer: int, x: Tensor) -> None:
        """See what the layer gave."""
        ...


class Reader(Protocol):
    """What a memory that goes from segment to segment needs of a transformer.

    Attributes:
        dim: width.
        layers: how many there are.
        kv_dim: width of a layer's keys, and of its values.
    """

    dim: int
    layers: int
    kv_dim: int

    def __call__(
        self, x: Tensor, seen: View, held: tuple[Held, ...] | None, around: Around | None = None
    ) -> tuple[Tensor, tuple[Held, ...]]:
        """Read some tokens of a segment.

        Args:
            x: ``(batch, tokens, dim)``, what the first layer reads.
            seen: where they stand.
            held: of earlier passes, for each layer; None where the pass begins the segment.
            around: what stands between the layers.

        Returns:
            The last layer's hidden states ``(batch, tokens, dim)``, after the final norm; and for each layer the
            keys and values: of these tokens where the pass begins the segment, otherwise by place, as `put` gives
            them.
        """
        ...


class Layer(nn.Module):
    """Attention and an MLP, each behind a norm and beside a residual path.

    Args:
        dim: width.
        heads: that ask, each of ``dim / heads``, which must be even.
        kv_heads: that are asked, which divide ``heads`` (Ainslie et al. 2023, arXiv 2305.13245).
        expansion: of the MLP, see `SwiGLU`; 0 leaves it out.
    """

    def __init__(self, dim: int, *, heads: int, kv_heads: int, expansion: float) -> None:
        super().__init__()
        self.head = dim // heads
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * kv_heads * self.head, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.mlp_norm = nn.RMSNorm(dim, eps=1e-6) if expansion else None
        self.mlp = SwiGLU(dim, expansion=expansion) if expansion else None

    def asked(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give queries, keys and values, ``(..., tokens, heads * head)`` each."""
        x = self.norm(x)
        return (self.query(x), *self.key_value(x).chunk(2, dim=-1))

    def answered(self, x: Tensor, found: Tensor) -> Tensor:
        """Give the layer's output from its input and from what attention found, ``(..., tokens, dim)``."""
        x = x + self.output(found)
        return x if self.mlp is None or self.mlp_norm is None else x + self.mlp(self.mlp_norm(x))


def attend(q: Tensor, k: Tensor, v: Tensor, head: int, mask: Tensor | None = None) -> Tensor:
    """Attend with heads ``head`` wide, all of them side by side: ``(batch, tokens, heads * head)``.

    Without a mask each token sees those up to itself; a bool mask is of what is seen, one of floats is added.
    """
    q, k, v = (part.unflatten(-1, (-1, head)).transpose(1, 2) for part in (q, k, v))
    found = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=q.shape[1] != k.shape[1]
    )
    return found.transpose(1, 2).flatten(-2)


def turned_heads(x: Tensor, head: int, turning: tuple[Tensor, Tensor]) -> Tensor:
    """Turn heads that lie side by side, ``(batch, tokens, heads * head)``, by the angles of their tokens."""
    return turn(x.unflatten(-1, (-1, head)), *(part.unsqueeze(-2) for part in turning)).flatten(-2)


class Backbone(nn.Module):
    """Layers in a stack, a norm after the last: see `Reader`.

    Args:
        dim: width.
        layers: how many.
        heads: see `Layer`.
        kv_heads: see `Layer`; None: as many as ``heads``.
        expansion: see `Layer`.

    Raises:
        UserError: if there is no layer, heads do not divide half of ``dim``, or ``kv_heads`` does not divide heads.
    """

    def __init__(
        self, dim: int, *, layers: int = 2, heads: int = 4, kv_heads: int | None = None, expansion: float = 4.0
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        if layers < 1:
            raise UserError(f"a segment is read by at least one layer, got {layers}")
        check_heads("attention", dim, heads, pairs=True)
        if kv_heads < 1 or heads % kv_heads:
            raise UserError(f"kv_heads must divide heads: {kv_heads} does not divide {heads}")
        self.dim, self.layers, self.head = dim, layers, dim // heads
        self.kv_dim = kv_heads * self.head
        self.stack: Any = nn.ModuleList(
            Layer(dim, heads=heads, kv_heads=kv_heads, expansion=expansion) for _ in range(layers)
        )
        self.norm = nn.RMSNorm(dim, eps=1e-6)

    def forward(
        self, x: Tensor, seen: View, held: tuple[Held, ...] | None, around: Around | None = None
    ) -> tuple[Tensor, tuple[Held, ...]]:
        """Read some tokens of a segment: see `Reader`."""
        turning = angles(seen.place, self.head)
        after = []
        for index, layer in enumerate(self.stack):
            if around is not None:
                x = around.before(index, x)
            q, k, v = layer.asked(x)
            q, k = (turned_heads(part, self.head, turning) for part in (q, k))
            if held is not None:
                k, v = (put(old, new, seen.target, seen.size) for old, new in zip(held[index], (k, v), strict=True))
            x = layer.answered(x, attend(q, k, v, self.head, seen.mask))
            after.append(Held(k, v))
            if around is not None:
                around.after(index, x)
        return self.norm(x), tuple(after)


def empty(backbone: Reader, batch: int, places: int, place: dict) -> tuple[Held, ...]:
    """Give what is held where no token has come yet."""
    nothing = torch.zeros(batch, places, backbone.kv_dim, **place)
    return tuple(Held(nothing.clone(), nothing.clone()) for _ in range(backbone.layers))


def keep(after: tuple[Any, ...], seen: View, places: int, closes: Tensor, dtype: torch.dtype) -> tuple[Any, ...]:
    """Give what is open after a pass: its first places, see `left_open`."""

    def kept(new: Tensor) -> Tensor:
        laid = put(None, new, seen.target, seen.size) if seen.anew else new
        return left_open(laid, places, closes, dtype)

    return tuple(new._make(map(kept, new)) for new in after)
