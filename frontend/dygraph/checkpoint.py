"""``fluid.dygraph.checkpoint``: where scripts import the files of state dicts from."""

from ..state_dicts import load_dygraph, save_dygraph

__all__ = ["load_dygraph", "save_dygraph"]
