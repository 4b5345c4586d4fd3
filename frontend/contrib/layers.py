"""``fluid.contrib.layers``: recurrent layers over padded sequences; for the others, what there is instead."""

from __future__ import annotations

from ..layers.rnn_units import BasicGRUUnit, BasicLSTMUnit
from ..missing import MissingName, missing_name
from .basic_rnn import basic_gru, basic_lstm

_INSTEAD = {
    "fused_elemwise_activation": "use the elementwise layer and the activation; they are fused when compiled",
    "partial_concat": "use slice and concat",
    "partial_sum": "use slice and sums",
    "shuffle_batch": "shuffle rows before they are fed; inside the program it would mix examples, which Dpsgd refuses",
}
_OTHERWISE = "write it with fluid.layers: fluid.layers.__all__ lists them"


def __getattr__(name: str) -> MissingName:
    return missing_name("fluid.contrib.layers", name, _INSTEAD, _OTHERWISE)


__all__ = ["BasicGRUUnit", "BasicLSTMUnit", "basic_gru", "basic_lstm"]
