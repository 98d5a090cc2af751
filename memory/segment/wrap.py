"""Memory for pretrained language models: their weights, read segment by segment."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from recurra.errors import UserError, nearest
from recurra.memory import state as states
from recurra.memory.segment.armt import ARMT
from recurra.memory.segment.parts import SegmentState
from recurra.memory.segment.places import view
from recurra.memory.segment.pretrained import Pretrained
from recurra.memory.segment.rmt import RMT

KINDS: dict[str, type[RMT] | type[ARMT]] = {"rmt": RMT, "armt": ARMT}


#: Options of memories that are of our own backbone, for which the model stands here.
BACKBONE = {"dim", "backbone", "layers", "heads", "kv_heads", "expansion", "cache", "diagonal"}


class LanguageModel(nn.Module):
    """A language model that reads a stream of tokens without end, at constant memory.

    ``logits, state = model(tokens, state, first=first, present=present)``

    Attributes:
        memory: reads input embeddings and gives last hidden states, under the contract of `recurra.memory.Memory`.
        embedding: the model's input embeddings.
        head: what makes logits of hidden states.
    """

    def __init__(self, model: Any, memory: RMT | ARMT) -> None:
        super().__init__()
        self.memory = memory
        self.embedding, self.head = model.get_input_embeddings(), model.get_output_embeddings()
        self._model = (model,)  # in a tuple: all that it has is registered above

    def initial_state(self, batch: int) -> SegmentState:
        """Give the state before the first token of ``batch`` streams."""
        return self.memory.initial_state(batch)

    def forward(
        self,
        tokens: Tensor,
        state: SegmentState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, SegmentState]:
        """Read the next tokens of each stream.

        Args:
            tokens: ``(batch, time)`` int64.
            state: what an earlier call returned; None means the beginning.
            first: ``(batch, time)`` bool, True on the first token of a new document.
            present: ``(batch, time)`` bool, False for padding.

        Returns:
            Logits ``(batch, time, vocabulary)`` of the token after each, and the next state.
        """
        hidden, state = self.memory(self.embedding(tokens), state, first=first, present=present)
        return self.head(hidden), state

    @torch.no_grad()
    def generate(self, tokens: Tensor, state: SegmentState | None = None, **options: Any) -> tuple[Any, SegmentState]:
        """Write on, from tokens and from all that the state has read.

        Args:
            tokens: ``(batch, time)`` int64, at least one of each stream.
            state: what an earlier call returned; None means the beginning.
            **options: of transformers' ``generate``: ``max_new_tokens``, ``do_sample``, ``num_beams``,
                ``attention_mask`` for padding on the left, and so on.

        Returns:
            What transformers' ``generate`` gives, and the state after all of it, the last token included: a stream
            for each sequence that it gives. What comes after an end of text is not read.
        """
        (model,) = self._model
        state = self.initial_state(len(tokens)) if state is None else state
        carried = _Carried(self, states.detach(state))
        present = options.get("attention_mask")
        usual = model.__dict__.get("forward")
        model.forward = carried.forward
        try:
            given = model.generate(tokens, past_key_values=carried, **options)
        finally:
            if usual is None:
                del model.forward
            else:
                model.forward = usual
        found = getattr(given, "sequences", given)
        written = found[:, tokens.shape[1] :]
        told = options.get("eos_token_id", getattr(model.generation_config, "eos_token_id", None))
        ends = torch.zeros_like(written) if told is None else torch.isin(written, torch.as_tensor(told).to(written))
        # From what was read, not from what was carried: beams change places, and streams that have ended read padding.
        _, state = self(tokens, state, present=None if present is None else present.bool())
        state = states.select(state, torch.arange(len(tokens)).repeat_interleave(len(found) // len(tokens)))
        _, state = self(written, state, present=ends.long().cumsum(1) - ends.long() == 0)
        return given, state


class _Carried:
    """What transformers' ``generate`` takes for a cache: the state, carried from token to token."""

    is_compileable = False

    def __init__(self, model: LanguageModel, state: SegmentState) -> None:
        self.model, self.state, self.read = model, state, 0

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> "_Output":
        """Stand for the model's own forward."""
        rows = len(self.state.position)
        if len(input_ids) != rows:  # beams, or several sequences of one prompt
            self.state = states.select(self.state, torch.arange(rows).repeat_interleave(len(input_ids) // rows))
        time = input_ids.shape[1]
        present = None if attention_mask is None else attention_mask[:, -time:].bool()
        logits, self.state = self.model(input_ids, self.state, present=present)
        self.read += time
        return _Output(logits=logits, past_key_values=self)

    def get_seq_length(self, *_: Any) -> int:
        """Give how many tokens were read."""
        return self.read

    def reorder_cache(self, beams: Tensor) -> None:
        """Take the beams that go on."""
        self.state = states.select(self.state, beams)


class _Output(dict):
    """A dictionary with its keys as attributes, as transformers' outputs are."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)


def wrap(model: Any, kind: str = "rmt", *, slots: int = 8, segment: int = 512, **options: Any) -> LanguageModel:
    """Give a Hugging Face causal language model a memory; its weights stay, and are trained with the memory's.

    Args:
        model: of the GPT-2 or Llama family, see `Pretrained`.
        kind: ``rmt`` or ``armt``.
        slots: memory tokens, which begin as large as the model's embeddings are.
        segment: tokens of a segment.
        **options: further ones of `RMT` or `ARMT`: ``horizon``, ``replay``, ``key_dim`` and so on.

    Raises:
        UserError: if the model is of another kind, a segment with its memory is longer than it has positions or than
            its attention reaches, or there is no such option.
    """
    if kind not in KINDS:
        raise UserError(f"memory for a language model is of kind rmt or armt, got {kind!r}; {nearest(kind, KINDS)}")
    known = inspect.signature(KINDS[kind]).parameters.keys() - BACKBONE
    for option in options.keys() - known:
        raise UserError(f"memory {kind} of a language model has no option {option!r}; {nearest(option, known)}")
    backbone = Pretrained(model)
    longest = segment + slots * (2 if kind == "rmt" else 1)
    for name, most in (("has {} positions", backbone.positions), ("sees {} tokens back", backbone.window)):
        if most is not None and longest > most:
            raise UserError(f"a segment with its memory is {longest} tokens long, the model {name.format(most)}")
    _check(model, backbone)
    memory = KINDS[kind](backbone.dim, slots=slots, segment=segment, backbone=backbone, **options)
    embeddings = model.get_input_embeddings().weight.detach()
    learnt = memory.initial if isinstance(memory, RMT) else memory.tokens
    with torch.no_grad():
        learnt.mul_(embeddings.float().std())
    memory.to(embeddings)
    return LanguageModel(model, memory)


@torch.no_grad()
def _check(model: Any, backbone: Pretrained) -> None:
    """Make sure that embeddings, layers and head, put together, say what the model says.

    Raises:
        UserError: if something of the model's own stands between them, such as a scale of its logits.
    """
    tokens = torch.arange(4, device=model.get_input_embeddings().weight.device).unsqueeze(0)
    seen = view(tokens, torch.ones_like(tokens, dtype=torch.bool), 4, anew=True)
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        wanted = model(tokens).logits
        hidden, _ = backbone(model.get_input_embeddings()(tokens), seen, None)
        found = model.get_output_embeddings()(hidden)
    finally:
        for part, training in modes:
            part.training = training
    tolerance = 1e-3 if wanted.dtype in (torch.float32, torch.float64) else 5e-2
    if not torch.allclose(found, wanted, rtol=0, atol=tolerance * float(wanted.abs().max())):
        raise UserError(
            f"{type(model).__name__} is not of the GPT-2 or Llama family: its logits are more than what its head gives"
        )
