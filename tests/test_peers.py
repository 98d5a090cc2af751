"""The delta rule beside flash-linear-attention's naive functions, where fla-core is installed: independent oracles.

They compute in float32, so agreement is to float32's precision.
"""

import pytest
import torch

from recurra.kernels import delta_rule

pytestmark = pytest.mark.slow  # the import alone takes seconds

BATCH, TIME, HEADS, KEY, VALUE = 2, 96, 3, 8, 12  # a whole number of the peers' chunks


@pytest.fixture(scope="module")
def tokens():
    pytest.importorskip("fla", reason="needs fla-core")
    torch.manual_seed(0)
    q = torch.randn(BATCH, TIME, HEADS, KEY)
    k = torch.nn.functional.normalize(torch.randn(BATCH, TIME, HEADS, KEY), dim=-1)
    return q, k, torch.randn(BATCH, TIME, HEADS, VALUE)


def heads_first(*tensors):
    return [tensor.transpose(1, 2) for tensor in tensors]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_delta_rule(tokens):
    from fla.ops.delta_rule.naive import delta_rule_recurrence

    beta = torch.rand(BATCH, TIME, HEADS)
    output, state = delta_rule(*tokens, beta=beta, scale=KEY**-0.5)
    expected, expected_state = delta_rule_recurrence(*heads_first(*tokens, beta))
    close(output, expected.transpose(1, 2))
    close(state, expected_state)


def test_gated_delta_rule(tokens):
    from fla.ops.gated_delta_rule.naive import naive_recurrent_gated_delta_rule

    beta, decay = torch.rand(BATCH, TIME, HEADS), torch.rand(BATCH, TIME, HEADS).log()
    start = torch.randn(BATCH, HEADS, KEY, VALUE)
    output, state = delta_rule(*tokens, beta=beta, log_decay=decay, scale=KEY**-0.5, initial_state=start)
    expected, expected_state = naive_recurrent_gated_delta_rule(
        *tokens, beta=beta, g=decay, initial_state=start, output_final_state=True
    )
    close(output, expected)
    close(state, expected_state)


def test_gated_linear_attention(tokens):
    from fla.ops.gla.naive import naive_recurrent_gla

    decay = torch.rand(BATCH, TIME, HEADS, KEY).log()
    output, state = delta_rule(*tokens, log_decay=decay, scale=KEY**-0.5)
    expected, expected_state = naive_recurrent_gla(*tokens, decay, output_final_state=True)
    close(output, expected)
    close(state, expected_state)


def test_retention(tokens):
    from fla.ops.retention.naive import naive_retention

    decay = torch.log1p(-(2.0 ** (-5 - torch.arange(HEADS)))).expand(BATCH, TIME, HEADS)
    output, _ = delta_rule(*tokens, log_decay=decay, scale=KEY**-0.5)
    close(output, naive_retention(*heads_first(*tokens)).transpose(1, 2))


def test_linear_attention(tokens):
    from fla.ops.linear_attn.naive import naive_recurrent_linear_attn

    output, state = delta_rule(*tokens, scale=1.0)
    expected, expected_state = naive_recurrent_linear_attn(*tokens, scale=1.0, output_final_state=True)
    close(output, expected)
    close(state, expected_state)
