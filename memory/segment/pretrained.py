"""A Hugging Face causal language model as what reads segments; transformers itself is not imported."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from recurra.errors import UserError
from recurra.memory.segment.backbone import Around, Held
from recurra.memory.segment.places import View, put


class Pretrained(nn.Module):
    """The layers of a causal language model, those of the GPT-2 and Llama families: a `Reader`.

    All parameters of the model between its input embeddings and its head are this module's.

    Args:
        model: such as ``transformers.GPT2LMHeadModel`` or ``transformers.LlamaForCausalLM``.

    Raises:
        UserError: if it is no such model, or its attention cannot be told what is seen.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        base: Any = getattr(model, "base_model", None)
        config: Any = getattr(model, "config", None)
        blocks = getattr(base, "h", None) or getattr(base, "layers", None)
        if not isinstance(blocks, nn.ModuleList) or base is model:
            raise UserError(
                f"{type(model).__name__} is no causal language model of the GPT-2 or Llama family, "
                "such as transformers.AutoModelForCausalLM gives"
            )
        attention = getattr(config, "_attn_implementation", "eager")
        if attention not in ("eager", "sdpa"):
            raise UserError(
                f"segments need a mask, which {attention} takes not: load it with attn_implementation='sdpa'"
            )
        self.dim, self.layers = config.hidden_size, len(blocks)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.head = getattr(config, "head_dim", None) or self.dim // config.num_attention_heads
        self.kv_dim = heads * self.head
        self.positions: int | None = getattr(config, "max_position_embeddings", None)
        sliding = any("sliding" in kind for kind in getattr(config, "layer_types", None) or ["sliding"])
        self.window: int | None = getattr(config, "sliding_window", None) if sliding else None
        embedding = model.get_input_embeddings()
        self.parts = nn.ModuleDict({name: part for name, part in base.named_children() if part is not embedding})
        self._base: tuple[Any] = (base,)  # in a tuple: its embeddings are not ours

    def forward(
        self, x: Tensor, seen: View, held: tuple[Held, ...] | None, around: Around | None = None
    ) -> tuple[Tensor, tuple[Held, ...]]:
        """Read some tokens of a segment: see `Reader`."""
        (base,) = self._base
        visible = seen.mask
        if visible is None:
            order = torch.arange(x.shape[1], device=x.device)
            visible = (order <= order.unsqueeze(1)).expand(len(x), 1, -1, -1)
        mask = torch.zeros(visible.shape, dtype=x.dtype, device=x.device)
        mask = mask.masked_fill(~visible, torch.finfo(x.dtype).min)
        cache = _Places(seen, held, self.head)
        with ExitStack() as stack:
            for index, block in enumerate(getattr(base, "h", None) or base.layers):
                if around is not None:
                    _surround(stack, block, index, around)
            hidden = base(
                inputs_embeds=x, position_ids=seen.place, attention_mask=mask, past_key_values=cache, use_cache=True
            )[0]
        if len(cache.after) != self.layers:
            raise UserError("the model keeps no keys and values: turn its gradient checkpointing off, replay is ours")
        return hidden, tuple(cache.after)


def _surround(stack: ExitStack, block: nn.Module, index: int, around: Around) -> None:
    """Have what stands around a layer called, until the stack is closed."""

    def before(_: nn.Module, given: tuple, named: dict) -> tuple[tuple, dict]:
        if given:
            return (around.before(index, given[0]), *given[1:]), named
        return given, {**named, "hidden_states": around.before(index, named["hidden_states"])}

    def after(_: nn.Module, given: tuple, output: Any) -> None:
        around.after(index, output[0] if isinstance(output, tuple) else output)

    stack.enter_context(_Handle(block.register_forward_pre_hook(before, with_kwargs=True)))
    stack.enter_context(_Handle(block.register_forward_hook(after)))


class _Handle:
    """Removes a hook at the end."""

    def __init__(self, hook: Any) -> None:
        self.hook = hook

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.hook.remove()


class _Places:
    """What transformers takes for a cache: puts keys and values at their places of the segment."""

    is_compileable = False

    def __init__(self, seen: View, held: tuple[Held, ...] | None, head: int) -> None:
        self.seen, self.held, self.head = seen, held, head
        self.after: list[Held] = []

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Take a layer's new keys and values ``(batch, heads, tokens, head)`` and give all that it has."""
        new = [part.transpose(1, 2).flatten(2) for part in (keys, values)]
        if self.held is None:
            self.after.append(Held(*new))
            return keys, values
        laid = [
            put(old, part, self.seen.target, self.seen.size) for old, part in zip(self.held[layer], new, strict=True)
        ]
        self.after.append(Held(*laid))
        keys, values = (part.unflatten(-1, (-1, self.head)).transpose(1, 2) for part in laid)
        return keys, values

    def get_seq_length(self, *_: Any) -> int:
        """Positions are given, so this counts for nothing."""
        return 0
