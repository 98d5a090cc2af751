"""The generic path beside flash-linear-attention's naive functions, where fla-core is installed: independent oracles.

They compute in float32, so agreement is to float32's precision.
"""

import pytest
import torch

from recurra.kernels.biases import l2
from recurra.kernels.chunks import grid
from recurra.memory.miras.architectures import Form
from recurra.memory.miras.learner import Learner
from recurra.memory.miras.learning import learn
from recurra.memory.miras.rule import Rule
from recurra.memory.miras.state import Learning
from recurra.memory.miras.tokens import Tokens

pytestmark = pytest.mark.slow  # the import alone takes seconds

BATCH, TIME, HEADS, HEAD = 2, 48, 3, 8


def run(rule, form, start, q, k, v, step, log_decay=None, log_momentum=None):
    """Read from the start: outputs, and what is written."""
    learner = Learner(rule, "generic", form, l2, fresh=())
    layout = grid(torch.zeros(BATCH, dtype=torch.long), None, None, TIME, rule.chunk)
    still = tuple(map(torch.zeros_like, start)) if rule.algorithm == "momentum" else ()
    state = Learning(start if rule.chunk > 1 else (), start, still, ())
    return learn(learner, Tokens(q, k, v, step, log_decay, log_momentum), layout, state)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def draw():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, BATCH, TIME, HEADS, HEAD).unbind()
    return q, torch.nn.functional.normalize(k, dim=-1), v


def test_titans_of_a_matrix_is_the_momentum_delta_rule():
    peer = pytest.importorskip("fla.ops.momentum_delta_rule.naive", reason="needs fla-core")
    q, k, v = draw()
    step, decay, momentum = torch.rand(3, BATCH, TIME, HEADS, 1).unbind()
    zeros = torch.zeros(BATCH, HEADS, HEAD, HEAD)
    output, learning = run(
        Rule(chunk=1, algorithm="momentum", retention="scalar"),
        Form("matrix"), (zeros,), q, k, v, step / 2, decay.log(), momentum.log(),
    )  # fmt: skip
    expected, state = peer.recurrent_momentum_delta_rule_ref(
        q, k, v, decay[..., 0].log(), momentum[..., 0].log(), k, torch.ones(BATCH, TIME, HEADS), step[..., 0], 1.0,
        output_final_state=True,
    )  # fmt: skip
    close(output, expected)
    close(learning.written[0], state[0])
    close(learning.momentum[0], -state[1])


def test_ttt_linear_learns_the_same():
    """The peer adds its residual to what is read, not to the query, and takes one η a chunk: the learning is equal."""
    peer = pytest.importorskip("fla.ops.ttt.naive", reason="needs fla-core")
    q, k, v = draw()
    gain, shift = torch.randn(2, HEADS, HEAD).unbind()
    start, offset = torch.randn(BATCH, HEADS, HEAD, HEAD) / 3, torch.randn(BATCH, HEADS, 1, HEAD) / 3
    step = torch.rand(BATCH, TIME // 16, HEADS, 1).repeat_interleave(16, 1)
    _, learning = run(
        Rule(chunk=16, norm=True, offset=True, learnt_start=True),
        Form("matrix", True, gain.unsqueeze(1), shift.unsqueeze(1)),
        (torch.cat((start, offset), -2),), q, k, v, step / 2,
    )  # fmt: skip
    _, matrix, last = peer.chunk_ttt_linear_ref(
        q.clone(), k, v, gain, shift, step, mini_batch_size=16, initial_state=start, initial_state_bias=offset,
        output_final_state=True,
    )  # fmt: skip
    close(learning.written[0], torch.cat((matrix, last), -2))
