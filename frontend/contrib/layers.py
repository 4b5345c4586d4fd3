"""``fluid.contrib.layers``: none of them exists; each says what there is."""

from __future__ import annotations

from ..missing import MissingName, missing_name

_INSTEAD = {
    "BasicGRUUnit": "use StaticRNN over padded sequences",
    "BasicLSTMUnit": "use StaticRNN over padded sequences",
    "basic_gru": "use StaticRNN over padded sequences",
    "basic_lstm": "use StaticRNN over padded sequences",
    "fused_elemwise_activation": "use the elementwise layer and the activation; they are fused when compiled",
    "partial_concat": "use slice and concat",
    "partial_sum": "use slice and sums",
    "shuffle_batch": "shuffle rows before they are fed; inside the program it would mix examples, which Dpsgd refuses",
}
_OTHERWISE = "write it with fluid.layers: fluid.layers.__all__ lists them"


def __getattr__(name: str) -> MissingName:
    return missing_name("fluid.contrib.layers", name, _INSTEAD, _OTHERWISE)


__all__: list[str] = []
