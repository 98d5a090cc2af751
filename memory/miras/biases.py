"""Second choice, the attentional bias: what a memory minimises when it is shown a key and its value.

The functions are `recurra.kernels.biases`; here they have names, and the one that needs no kernel.
"""

from functools import partial

from torch import Tensor

from recurra.kernels import biases
from recurra.kernels.biases import Bias


def kl(prediction: Tensor, value: Tensor, threshold: Tensor | None = None) -> Tensor:
    """Give the gradient of KL(softmax(value) ‖ softmax(prediction)): both are read as logits of distributions."""
    return prediction.softmax(-1) - value.softmax(-1)


BIASES = {
    "dot": "-⟨M(k), v⟩",
    "l2": "‖M(k) - v‖²",
    "lp": "‖M(k) - v‖_p^p",
    "huber": "Huber's loss of each coordinate",
    "huber_norm": "Huber's loss of the norm",
    "huber_mixture": "l2 where the residual is small, else l1 (Yaad)",
    "robust": "l2 for the worst of the values near v",
    "kl": "KL of softmax(v) and softmax(M(k))",
}
"""The attentional biases by name."""

WITH_THRESHOLD = ("huber", "huber_norm", "huber_mixture", "robust")
"""Those that have a threshold δ, one for each token and head or channel."""


def bias_named(name: str, p: float) -> Bias:
    """Give the bias of a name in `BIASES`; ``p`` is the exponent of lp."""
    if name == "kl":
        return kl
    return partial(biases.lp, p=p) if name == "lp" else getattr(biases, name)
