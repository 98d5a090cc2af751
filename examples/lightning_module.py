"""A memory in a LightningModule of your own: recall the value that each key was last given."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from recurra.memory import stack


class Recall(lightning.LightningModule):
    def __init__(self, dim: int = 32, keys: int = 4, values: int = 4) -> None:
        super().__init__()
        self.keys, self.values = nn.Embedding(keys, dim), nn.Embedding(values + 1, dim)  # value 0: a question
        self.memory = stack("delta_net", dim, layers=2, heads=2)
        self.read_out = nn.Linear(dim, values)

    def forward(self, keys, values, state=None):
        y, state = self.memory(self.keys(keys) + self.values(values), state)
        return self.read_out(y), state

    def training_step(self, batch, index):
        keys, values, answers = batch
        logits, _ = self(keys, values)
        self.accuracy = (logits.argmax(-1) == answers)[values == 0].float().mean().item()
        return nn.functional.cross_entropy(logits[values == 0], answers[values == 0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


lightning.seed_everything(0)
keys, told = torch.rand(2_000, 4).argsort(1), torch.randint(1, 5, (2_000, 4))
data = TensorDataset(keys.repeat(1, 2), torch.cat((told, 0 * told), 1), torch.cat((told, told), 1) - 1)
model = Recall()
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
lightning.Trainer(accelerator="cpu", max_epochs=12, **quiet).fit(model, DataLoader(data, batch_size=64, shuffle=True))
print(f"accuracy {model.accuracy:.2f}")
