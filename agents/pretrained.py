"""A reader around a pretrained language model: its weights and its vocabulary, with memory from segment to segment."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from recurra.agents.reader import Reader
from recurra.agents.tokens import Vocabulary
from recurra.errors import UserError, first_line
from recurra.memory.segment import wrap


class PretrainedReader(Reader):
    """A reader whose network is a Hugging Face causal language model with memory (see `recurra.memory.segment.wrap`).

    It is saved whole, the model's configuration with it, and loaded without the model that it was made from.

    Args:
        model: the model's configuration, as its ``config.json`` has it.
        tokenizer: the content of its ``tokenizer.json``.
        memory: ``rmt`` or ``armt``.
        memory_options: the memory's own options, ``slots`` and ``segment`` among them.
        answers: whether it is one that answers questions, and does not foretell what comes.

    Raises:
        UserError: if transformers is missing, or the model is of no family that takes memory.
    """

    def __init__(
        self,
        *,
        model: dict[str, Any],
        tokenizer: str,
        memory: str = "armt",
        memory_options: dict[str, Any] | None = None,
        answers: bool = False,
    ) -> None:
        nn.Module.__init__(self)  # in place of a reader's own network
        self._take_up(_build(model), model, tokenizer, memory, memory_options, answers)

    @classmethod
    def from_pretrained(
        cls, name: str, *, memory: str = "armt", memory_options: dict[str, Any] | None = None, answers: bool = False
    ) -> "PretrainedReader":
        """Make a reader of a model with its weights; nothing in its files is executed.

        Args:
            name: a folder with ``config.json``, ``tokenizer.json`` and safetensors, or ``user/name`` on the hub.
            memory: ``rmt`` or ``armt``.
            memory_options: the memory's own options.
            answers: whether it is to answer questions.

        Raises:
            UserError: if transformers is missing, or there is no such model or tokenizer.
        """
        transformers = _transformers()
        options = {"use_safetensors": True, "dtype": torch.float32, "attn_implementation": "sdpa"}
        try:
            network = transformers.AutoModelForCausalLM.from_pretrained(name, **options)
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, use_fast=True).backend_tokenizer.to_str()
        except Exception as error:  # transformers', the hub's or the system's
            raise UserError(f"{name}: no pretrained language model with a tokenizer: {first_line(error)}") from error
        reader = cls.__new__(cls)
        nn.Module.__init__(reader)
        reader._take_up(network.train(), network.config.to_dict(), tokenizer, memory, memory_options, answers)
        return reader

    def _take_up(
        self,
        network: Any,
        model: dict[str, Any],
        tokenizer: str,
        memory: str,
        memory_options: dict[str, Any] | None,
        answers: bool,
    ) -> None:
        self.tokens = Vocabulary(tokenizer)
        if self.tokens.size > network.get_input_embeddings().num_embeddings:
            raise UserError("the tokenizer has more tokens than the model knows: they are not of one model")
        self.config = {
            "model": model,
            "tokenizer": tokenizer,
            "memory": memory,
            "memory_options": dict(memory_options or {}),
            "answers": answers,
        }
        wrapped = wrap(network, memory, **self.config["memory_options"])
        self.embedding, self.memory, self.head = wrapped.embedding, wrapped.memory, wrapped.head


def _build(model: dict[str, Any]) -> Any:
    transformers = _transformers()
    options = dict(model)
    try:
        described = transformers.AutoConfig.for_model(options.pop("model_type"), **options)
        return transformers.AutoModelForCausalLM.from_config(described, dtype=torch.float32, attn_implementation="sdpa")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"transformers builds no language model of this configuration: {first_line(error)}") from error


def _transformers() -> Any:
    if find_spec("transformers") is None:
        raise UserError("pretrained language models need transformers: pip install 'recurra[hf]'")
    import transformers

    return transformers
