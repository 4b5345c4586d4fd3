"""Keystreams that a graph takes as inputs: the runtime makes their words before it calls the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...ir.types import Dim, Sym, TensorType
from ...ir.types import DType as D

Json = dict[str, object]


@dataclass(frozen=True)
class Stream:
    """One input of random words.

    Attributes:
        input: Name of the graph's input, u32[16 * blocks].
        key: Number of the argument that holds the key, u32[8].
        draw: Number of the argument that holds the draw or counter, u64[].
        domain: What the stream is for (`runtime.keystream.Domain`).
        tensor: Its number.
        blocks: Blocks of 16 words.
        window: In a private step (number of the argument with the first row, part, group, per): the first block is
            ``row * part // group * per`` (`ops.emit.Window`); None: it is 0.
    """

    input: str
    key: int
    draw: int
    domain: int
    tensor: int
    blocks: Dim
    window: tuple[int, int, int, int] | None

    @property
    def type(self) -> TensorType:
        """The type of the input."""
        blocks = self.blocks
        words = Sym(blocks.name, 16 * blocks.scale) if isinstance(blocks, Sym) else 16 * blocks
        return TensorType(D.U32, (words,))

    def same_words(self, other: Stream) -> bool:
        """Whether both are the same words."""
        return replace(self, input=other.input) == other

    def to_json(self) -> Json:
        """As the file's metadata has it."""
        blocks: Json = (
            {"scale": self.blocks.scale, "symbol": self.blocks.name}
            if isinstance(self.blocks, Sym)
            else {"scale": self.blocks, "symbol": ""}
        )
        window = None if self.window is None else dict(zip(("row", "part", "group", "per"), self.window, strict=True))
        return {
            "input": self.input,
            "key": self.key,
            "draw": self.draw,
            "domain": self.domain,
            "tensor": self.tensor,
            "blocks": blocks,
            "window": window,
        }
