"""ONNX in: a forward model becomes layers of a fluid Program.

`reading` turns a file that nobody vouches for into a checked protobuf, `graph` that into plain records of this package,
and `building` those into ops, Variables and parameters.  What the ops mean is in ``frontend/lower/onnx``.
"""

from .building import OnnxModel, import_model, load_onnx
from .errors import OnnxError

__all__ = ["OnnxError", "OnnxModel", "import_model", "load_onnx"]
