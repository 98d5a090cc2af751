"""The MLP memory's kernels compile, and fit."""

from functools import partial

import pytest
import torch

from recurra.kernels import biases
from recurra.kernels.mlp_memory import operation

KERNELS = {"write_chunks", "read_chunks", "read_chunks_backward", "write_chunks_backward"}


def compile_all(kernels, monkeypatch, dim, chunk, dtype, *, decay="head", momentum=True, offset=False, bias=biases.l2):
    """Compile what learning from a piece would launch; without gradients, what a step would."""
    monkeypatch.setattr(operation.checks, "backend", lambda *_, **__: "triton")
    step = not torch.is_grad_enabled()
    tokens, hidden = (1, 1 if step else 2 * chunk, 1), 4 * dim
    gate = torch.zeros(*tokens, dim if decay == "channel" else 1)
    arguments = {
        **{name: torch.zeros(*tokens, dim, dtype=dtype) for name in "qkv"},
        "weights": (torch.zeros(1, dim + offset, hidden), torch.zeros(1, hidden + offset, dim)),
        "norm": (torch.ones(1, dim), torch.zeros(1, dim)),
        "rate": gate,
        "log_decay": gate,
        "threshold": torch.ones(tokens),
        "log_momentum": torch.zeros(tokens) if momentum else None,
    }
    arguments["v"].requires_grad_()
    output, _ = operation.mlp_memory(**arguments, bias=bias, chunk=chunk)
    if not step:
        output.sum().backward()
    assert {kernel.name for kernel in kernels} >= ({"step_all"} if step else KERNELS)


def slow(*values):
    """Mark a case that takes minutes to compile."""
    return pytest.param(*values, marks=pytest.mark.slow)


def said(options):
    """Name options, without the addresses that functions have."""
    named = {name: f"lp {x.keywords['p']}" if isinstance(x, partial) else x for name, x in options.items()}
    return ", ".join(f"{name} {getattr(x, '__name__', x)}" for name, x in named.items())


@pytest.mark.parametrize(
    ("dim", "chunk", "dtype"),
    [
        (64, 16, torch.bfloat16),
        *(slow(dim, 16, torch.float32) for dim in (16, 32, 64, 128)),
        *(slow(dim, 64, torch.bfloat16) for dim in (64, 128)),
        slow(64, 64, torch.float32),
    ],
)
def test_kernels_fit(compiling, monkeypatch, dim, chunk, dtype):
    with compiling(f"{dim} channels, chunk {chunk}, {dtype}".replace("torch.", "")) as kernels:
        compile_all(kernels, monkeypatch, dim, chunk, dtype)


@pytest.mark.parametrize("dim", [64, slow(128)])
def test_a_step_fits(compiling, monkeypatch, dim):
    with compiling(f"{dim} channels") as kernels, torch.no_grad():
        compile_all(kernels, monkeypatch, dim, 1, torch.float32)


@pytest.mark.parametrize(
    "options",
    [
        {"decay": "channel", "bias": biases.huber_norm},  # Yaad's
        slow({"decay": "channel", "dim": 64, "chunk": 32, "dtype": torch.float32}),
        slow({"decay": "channel", "dim": 128, "chunk": 64}),
        slow({"offset": True, "momentum": False}),  # TTT's
        *(slow({"bias": partial(biases.lp, p=p), "momentum": False}) for p in (2.5, 3.0, 3.5)),
        *(slow({"bias": bias, "momentum": False}) for bias in (biases.dot, biases.huber)),
        *(slow({"bias": bias, "momentum": False}) for bias in (biases.huber_mixture, biases.robust)),
    ],
    ids=said,
)
def test_every_rule_compiles(compiling, monkeypatch, options):
    with compiling(said(options)) as kernels:
        compile_all(kernels, monkeypatch, **{"dim": 16, "chunk": 16, "dtype": torch.bfloat16, **options})
