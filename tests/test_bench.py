"""Benchmarks measure what they say; their figures are not tested."""

import json

from recurra.recipes import cli


def test_bench_memory(capsys):
    arguments = ["--names", "[none,gru,delta_net]", "--lengths", "[20,40]", "--budget", "0.01", "--dim", "8", "--json"]
    assert cli.main(["bench", "memory", *arguments]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert all({"name", "what", "per_second", "bytes", "ratio", "peer"} <= row.keys() for row in rows)
    assert {row["what"] for row in rows} == {"forward", "forward and backward", "step"}
    assert all(row["per_second"] > 0 for row in rows)
    looped = [row for row in rows if row["name"] == "delta_net" and row["what"] == "forward"]
    assert all(row["peer"] == "token loop" and row["ratio"] > 0 for row in looped)


def test_unknown_benchmark(capsys):
    assert cli.main(["bench", "memry"]) == 2
    assert "did you mean 'memory'" in capsys.readouterr().err
