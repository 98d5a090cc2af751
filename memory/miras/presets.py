"""Published models as lines of a table: the options that make `Associative` the model of the name."""

from typing import Any, NamedTuple


class Preset(NamedTuple):
    """A published model: where it is from, and its options."""

    paper: str
    options: dict[str, Any]


_MIRAS = "Behrouz et al. 2025, arXiv 2504.13173"
_TTT = "Sun et al. 2024, arXiv 2407.04620"
_DEEP: dict[str, Any] = {"architecture": "mlp", "channelwise": True}

# Where a paper leaves a point open, the reading that learnt associative recall better is the default (RESULTS.md):
# Moneta's map as printed (not the mirror map it cites), Memora's softmax at every token (not at a chunk's ends), and
# Yaad's slope beyond the threshold as Equation 15 has it (not Equation 16's, ``huber_mixture``, which jumps there). So
# are the largest steps: Yaad's threshold keeps its slopes short, and it learns faster with 1 than with TTT's 0.1;
# Moneta's map divides by the weights' size, and it learns faster with 0.01; Titans and Memora keep 0.1.
PRESETS = {
    "gla": Preset(
        "Yang et al. 2023, arXiv 2312.06635",
        {
            "bias": "dot",
            "retention": "channel",
            "chunk": 1,
            "stepping": "whole",
            "rank": 16,
            "root": 16.0,
            "value_factor": 2,
            "convolution": 0,
            "activation": False,
            "normalised": False,
        },
    ),
    "mamba2": Preset(
        "Dao and Gu 2024, arXiv 2405.21060",
        {
            "bias": "dot",
            "retention": "scalar",
            "chunk": 1,
            "stepping": "tied",
            "pace": "softplus",
            "shared_keys": True,
            "skip": True,
            "normalised": False,
        },
    ),
    "longhorn": Preset("Liu et al. 2024, arXiv 2407.14207", {"algorithm": "implicit", "chunk": 1, "normalised": False}),
    "delta_product": Preset("Siems et al. 2025, arXiv 2502.10297", {"steps": 2, "chunk": 1, "step": 1.0}),
    "mesa_net": Preset(
        "von Oswald et al. 2025, arXiv 2506.05233", {"algorithm": "closed", "retention": "scalar", "chunk": 1}
    ),
    "ttt_linear": Preset(_TTT, {"norm": True, "offset": True, "step": 0.5}),
    "ttt_mlp": Preset(_TTT, {"architecture": "mlp", "offset": True}),
    "titans": Preset(
        "Behrouz et al. 2025, arXiv 2501.00663",
        {"architecture": "mlp", "retention": "scalar", "algorithm": "momentum"},
    ),
    "moneta": Preset(_MIRAS, {**_DEEP, "bias": "lp", "retention": "lq", "p": 3.0, "q": 4.0, "step": 0.01}),
    "yaad": Preset(_MIRAS, {**_DEEP, "bias": "huber_norm", "retention": "channel", "step": 1.0}),
    "memora": Preset(_MIRAS, {**_DEEP, "bias": "l2", "retention": "kl"}),
}
"""The presets by name; `recurra.memory.build` builds them, with any option changed."""
