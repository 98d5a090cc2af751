"""One thread for each test process: small tensors gain nothing from more, and tests run side by side."""

import torch
from hypothesis import settings

torch.set_num_threads(1)

# What hypothesis draws is the same in every run, so that a change is judged by itself; `make test-long` explores.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("exploring")
settings.load_profile("repeatable")
