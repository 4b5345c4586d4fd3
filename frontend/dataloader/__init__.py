"""``fluid.dataloader``: what gives programs their batches; `fluid.io` has the loaders."""

from .mapped import BatchSampler, Dataset

__all__ = ["BatchSampler", "Dataset"]
