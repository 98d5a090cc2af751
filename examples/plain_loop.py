"""A memory in a plain PyTorch loop: remember a cue over many blanks, reading the stream in pieces."""

import torch
from torch import nn

from recurra.memory import stack, state

torch.manual_seed(0)
memory = stack("delta_net", 32, heads=2)  # or any name of recurra.memory.names(), or your own Memory
embed, read_out = nn.Embedding(3, 32), nn.Linear(32, 2)  # tokens: 0 blank, 1 and 2 the cues
parameters = [*memory.parameters(), *embed.parameters(), *read_out.parameters()]
optimizer = torch.optim.Adam(parameters, lr=3e-3)


def streams(batch, blanks):
    cue = torch.randint(2, (batch,))
    return torch.cat((cue[:, None] + 1, torch.zeros(batch, blanks, dtype=torch.long)), 1), cue


for _ in range(150):
    tokens, cue = streams(64, blanks=50)
    y, _ = memory(embed(tokens))
    loss = nn.functional.cross_entropy(read_out(y[:, -1]), cue)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# A stream that never ends is read piece by piece: the state is all that is kept, and can be saved.
with torch.no_grad():
    tokens, cue = streams(100, blanks=10_000)
    carried = None
    for piece in tokens.split(512, dim=1):
        y, carried = memory(embed(piece), carried)
accuracy = (read_out(y[:, -1]).argmax(1) == cue).float().mean().item()
print(f"loss {loss.item():.4f}, accuracy after 10,000 blanks {accuracy:.2f}, state {state.nbytes(carried)} bytes")
