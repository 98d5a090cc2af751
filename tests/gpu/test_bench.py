"""The benchmark of the kernels runs; its figures are not tested, but what it counts."""

import torch

from recurra.benchmarks import gpu
from recurra.benchmarks.gpu import Size


def test_every_operation_is_measured(device):
    sizes = Size(1, 18, 2, 16), Size(2, 1, 2, 16)
    rows = gpu.run(sizes=sizes, budget=0.001, device=device.type, dtype=torch.float32)
    ours = {(row["name"], row["what"], row["size"]): row for row in rows if row["limit"]}
    assert len(ours) == 3 * len(gpu.OPERATIONS)
    assert all(row["error"] < 1e-5 and row["seconds"] > 0 and row["operations"] > 0 for row in ours.values())
    tokens, wide = 1 * 18 * 2, 1 * 18 * 2 * 16
    reading = ours["gated_delta_rule", "forward", "B1 T18 H2 D16"]
    assert reading["bytes"] == 4 * (3 * wide + 2 * tokens + wide + 2 * 16 * 16)
    both = ours["gated_delta_rule", "forward and backward", "B1 T18 H2 D16"]
    assert both["bytes"] == reading["bytes"] + 4 * (2 * (3 * wide + 2 * tokens) + wide)
    assert {row["name"] for row in rows} >= {"attention", "delta_rule, chunked", "delta_rule, token loop"}


def test_mlp_memory_is_measured_in_every_dtype(device):
    from recurra.benchmarks import mlp

    sizes = {"dim": 8, "heads": 2, "batch": 1, "length": 5, "chunk": 4, "expansion": 1}
    rows = mlp.run(**sizes, budget=1e-3, device=device.type)
    ours = [row for row in rows if "triton" in row["name"]]
    assert [row["what"] for row in ours] == ["forward", "forward and backward", "step"] * 2
    assert {row["name"].split()[-1] for row in ours} == {"float32", "bfloat16"}
    assert all(row["per_second"] > 0 and row["limit"] > 0 for row in ours)
