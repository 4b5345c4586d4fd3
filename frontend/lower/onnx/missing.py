"""Why an operator of ONNX cannot be imported."""

from __future__ import annotations

from collections.abc import Mapping

_SEQUENCE = "sequences and optional values are not in the IR"
_TEXT = "text is not in the IR"
_REGION = "nested graphs are not imported: export with loops and branches resolved"
_QUANTISED = "quantised arithmetic has no gradient: import the model as it was before"
_BITS = "the IR has no operations on the bits of integers"
_DATA = "the shape of its result depends on data"
_SIGNAL = "signal processing is for the data: compute it before they are fed"
_DRAWS = "models that draw are not imported, but for Dropout"
_DETECTION = "the IR does not sample images at computed places"
_LATE = "no exporter of models to train writes it"

MISSING: Mapping[str, str] = {
    "AffineGrid": _DETECTION,
    "Bernoulli": _DRAWS,
    "BitCast": _BITS,
    "BitShift": _BITS,
    "BitwiseAnd": _BITS,
    "BitwiseOr": _BITS,
    "BitwiseXor": _BITS,
    "BlackmanWindow": _SIGNAL,
    "CausalConvWithState": _LATE,
    "ConcatFromSequence": _SEQUENCE,
    "ConvInteger": _QUANTISED,
    "DFT": _SIGNAL,
    "DeformConv": _DETECTION,
    "DequantizeLinear": _QUANTISED,
    "Det": _LATE,
    "DynamicQuantizeLinear": _QUANTISED,
    "GridSample": _DETECTION,
    "HammingWindow": _SIGNAL,
    "HannWindow": _SIGNAL,
    "If": "its condition is computed by the model: only where shapes and constants decide it, its branch is imported",
    "ImageDecoder": _SIGNAL,
    "LinearAttention": _LATE,
    "Loop": _REGION,
    "MaxRoiPool": _DETECTION,
    "MaxUnpool": "its indices are ambiguous: of the tensor before, or of the output that is asked for",
    "MelWeightMatrix": _SIGNAL,
    "Multinomial": _DRAWS,
    "NonMaxSuppression": _DATA,
    "Optional": _SEQUENCE,
    "OptionalGetElement": _SEQUENCE,
    "OptionalHasElement": _SEQUENCE,
    "QLinearConv": _QUANTISED,
    "QLinearMatMul": _QUANTISED,
    "QuantizeLinear": _QUANTISED,
    "RandomNormal": _DRAWS,
    "RandomNormalLike": _DRAWS,
    "RandomUniform": _DRAWS,
    "RandomUniformLike": _DRAWS,
    "RegexFullMatch": _TEXT,
    "RoiAlign": _DETECTION,
    "STFT": _SIGNAL,
    "Scan": _REGION,
    "SequenceAt": _SEQUENCE,
    "SequenceConstruct": _SEQUENCE,
    "SequenceEmpty": _SEQUENCE,
    "SequenceErase": _SEQUENCE,
    "SequenceInsert": _SEQUENCE,
    "SequenceLength": _SEQUENCE,
    "SequenceMap": _SEQUENCE,
    "SplitToSequence": _SEQUENCE,
    "StringConcat": _TEXT,
    "StringNormalizer": _TEXT,
    "StringSplit": _TEXT,
    "TfIdfVectorizer": _TEXT,
    "Unique": _DATA,
}
"""Op type to the reason; every operator of the standard (`ai.onnx`, to the newest opset) is here or in the rules."""
