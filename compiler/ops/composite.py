"""Base of ops that mirror a fluid layer and are expressed in core ops before anything else happens."""

from __future__ import annotations

from typing import ClassVar

from ..ir.stage import Stage
from .base import Op


class Composite(Op):
    """An op with ``infer`` and ``decompose`` only.  ``decompose`` gives results of exactly the inferred types."""

    last_stage: ClassVar[Stage] = Stage.CAPTURED
    no_evaluate: ClassVar[str] = "decomposed"
    no_vjp: ClassVar[str] = "decomposed"
    no_norm: ClassVar[str] = "decomposed"
    no_tvm: ClassVar[str] = "decomposed"
    no_onnx: ClassVar[str] = "decomposed"
