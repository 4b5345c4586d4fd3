"""Reading pickles of saved state without Python's unpickler: nothing is imported, called or unpickled.

A small machine knows the opcodes that pickles of state are made of, in all protocols.  It makes dicts with texts for
keys, lists, tuples, texts, bytes, numbers, None, and arrays of numbers (`pickle_arrays`).  What a file names in order
to have it called is a mark (`pickle_names`) or a refusal.  What it makes is not larger than the file, but for the
objects themselves, whose number is bounded: shared parts are counted wherever they are seen.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable
from typing import TypeAlias

from .errors import StateFileError
from .pickle_arrays import Array, ArrayNode, DTypeNode, NotState, array_of, bytes_of, scalar_of
from .pickle_names import Name, find_name

Value: TypeAlias = (
    "bool | int | float | str | bytes | Array | list[Value] | tuple[Value, ...] | dict[str, Value] | None"
)
"""What a pickle of state may hold."""

Atom: TypeAlias = "bool | int | float | str | bytes | None"
Item: TypeAlias = "Atom | list[Item] | tuple[Item, ...] | dict[str, Item] | Name | DTypeNode | ArrayNode"
"""What stands on the machine's stack."""

MAX_STEPS = 2_000_000
"""Opcodes of a file, and values in what it makes; an array takes about 40."""

MAX_DEPTH = 32
"""Containers within containers."""

MAX_PROTOCOL = 5
_MAX_MEMO = 1 << 32
_INTEGER = re.compile(rb"[+-]?[0-9]{1,20}L?")
_ESCAPE = rb"""\\[\\'"nrt]|\\x[0-9a-f]{2}"""
_QUOTED = re.compile(rb"""'(?:[^\\']|%b)*+'|"(?:[^\\"]|%b)*+\"""" % (_ESCAPE, _ESCAPE))
_UNSAFE = "it may be made to run code on your machine: load it in no other way either, and ask where it comes from"


def read(data: bytes, source: str, *, objects: bool = False) -> Value:
    """What the pickle ``data`` holds; ``objects``: there may be arrays of all these, too.

    Raises:
        StateFileError: It is damaged, or holds what no saved state does; ``source`` is named as its file.
    """
    return _Machine(data, source, objects).run()


class _Machine:
    def __init__(self, data: bytes, source: str, objects: bool) -> None:
        self._objects = objects
        self._data = memoryview(data)
        self._whole = data
        self._source = source
        self._at = 0
        self._stack: list[Item] = []
        self._marks: list[int] = []
        self._memo: dict[int, Item] = {}
        # Texts that stand for bytes are encoded once, arrays copied once: more is the same part taken again and again.
        self._allowance = 2 * len(data)

    def run(self) -> Value:
        for _ in range(MAX_STEPS):
            (opcode,) = self.take(1)
            if opcode == _STOP:
                return self._finish()
            step = _STEPS.get(opcode)
            if step is None:
                raise self._unknown(opcode)
            try:
                step(self)
            except NotState as error:
                raise self.refused(f"the file asks for {error}") from None
            except UnicodeError:
                raise self.refused("a text that is not one") from None
        raise self.refused(f"the file has more than {MAX_STEPS} opcodes")

    def _finish(self) -> Value:
        if len(self._stack) != 1 or self._marks:
            raise self.refused(f"the file ends with {len(self._stack)} values and {len(self._marks)} open marks")
        if self._at != len(self._data):
            raise self.refused("the file goes on after its end")
        try:
            return _Values().value(self._stack[0], 0)
        except NotState as error:
            raise self.refused(f"the file holds {error}") from None

    # -- refusing -----------------------------------------------------------------------------------------------

    def refused(self, what: str, hint: str = "the file is damaged or no saved state: save it again") -> StateFileError:
        return StateFileError(what, f"{self._source}, byte {self._at}", hint)

    def _unknown(self, opcode: int) -> StateFileError:
        name = _NEVER.get(opcode)
        if name is None:
            return self.refused(f"the file has byte {opcode} for an opcode")
        return self.refused(f"the file has the opcode {name}, which no saved state needs", _UNSAFE)

    # -- reading ------------------------------------------------------------------------------------------------

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes."""
        left = len(self._data) - self._at
        if count > left:
            raise self.refused(f"the file is cut short: {count} bytes are wanted, {left} are left")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return value

    def sized(self, form: str) -> memoryview:
        """Bytes after their count."""
        count = self.number(form)
        if count < 0:
            raise self.refused(f"a count of {count} bytes")
        return self.take(count)

    def line(self) -> bytes:
        end = self._whole.find(b"\n", self._at)
        if end < 0:
            raise self.refused("the file is cut short: a line does not end")
        text = bytes(self.take(end - self._at))
        self.take(1)
        return text

    # -- the stack ----------------------------------------------------------------------------------------------

    def push(self, item: Item) -> None:
        self._stack.append(item)

    def pop(self) -> Item:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise self.refused("a value is taken that is not there")
        return self._stack.pop()

    def top(self) -> Item:
        item = self.pop()
        self.push(item)
        return item

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def pop_marked(self) -> list[Item]:
        if not self._marks:
            raise self.refused("a mark is taken that is not there")
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def pop_many(self, count: int) -> tuple[Item, ...]:
        items = [self.pop() for _ in range(count)]
        return tuple(reversed(items))

    def put(self, index: int) -> None:
        if not 0 <= index < _MAX_MEMO:
            raise self.refused(f"memo {index}")
        self._memo[index] = self.top()

    def memoize(self) -> None:
        self.put(len(self._memo))

    def get(self, index: int) -> None:
        if index not in self._memo:
            raise self.refused(f"memo {index} is read before it is written")
        self.push(self._memo[index])

    # -- values -------------------------------------------------------------------------------------------------

    def protocol(self) -> None:
        version = self.number("<B")
        if version > MAX_PROTOCOL:
            raise self.refused(f"this is a pickle of protocol {version}")

    def frame(self) -> None:
        length = self.number("<Q")
        if length > len(self._data) - self._at:
            raise self.refused(f"the file is cut short: a frame of {length} bytes passes its end")

    def integer_line(self) -> None:
        text = self.line()
        if text in (b"00", b"01"):  # how protocol 0 writes False and True
            self.push(text == b"01")
            return
        if not _INTEGER.fullmatch(text):
            raise self.refused("an integer that is not one")
        self.integer(int(text.rstrip(b"L")))

    def integer_bytes(self, form: str) -> None:
        data = self.sized(form)
        if len(data) > 9:
            raise self.refused("an integer of more than 64 bits")
        self.integer(int.from_bytes(data, "little", signed=True))

    def integer(self, value: int) -> None:
        if not -(1 << 63) <= value < 1 << 64:
            raise self.refused("an integer of more than 64 bits")
        self.push(value)

    def memo_line(self) -> int:
        text = self.line()
        if not re.fullmatch(rb"[0-9]{1,10}", text):
            raise self.refused("a memo that is no number")
        return int(text)

    def float_line(self) -> None:
        text = self.line()
        try:
            self.push(float(text[:64]))
        except ValueError:
            raise self.refused("a float that is not one") from None

    def float_bytes(self) -> None:
        self.push(struct.unpack(">d", self.take(8))[0])

    def string_line(self) -> None:
        text = self.line()
        if not _QUOTED.fullmatch(text):
            raise self.refused("a text in quotes that is not one")
        self.push(codecs.escape_decode(text[1:-1])[0].decode("latin1"))

    def string(self, form: str) -> None:
        """A str of Python 2, one byte in each character, as Paddle reads it in Python 3."""
        self.push(str(self.sized(form), "latin1"))

    def text_line(self) -> None:
        self.push(str(self.line(), "raw-unicode-escape"))

    def text(self, form: str) -> None:
        self.push(str(self.sized(form), "utf-8", "surrogatepass"))

    def byte_string(self, form: str) -> None:
        self.push(bytes(self.sized(form)))

    # -- containers ---------------------------------------------------------------------------------------------

    def set_items(self, pairs: list[Item]) -> None:
        target = self.top()
        if not isinstance(target, dict):
            raise self.refused("items for a dict that is none")
        self._fill(target, pairs)

    def mapping(self) -> None:
        made: dict[str, Item] = {}
        self._fill(made, self.pop_marked())
        self.push(made)

    def _fill(self, target: dict[str, Item], pairs: list[Item]) -> None:
        if len(pairs) % 2:
            raise self.refused("a key without a value")
        for key, value in zip(pairs[::2], pairs[1::2]):
            if not isinstance(key, str):  # others may take for ever to hash, or to compare
                raise self.refused("a dict with a key that is no text")
            target[key] = value

    def append(self, items: list[Item]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise self.refused("items for a list that is none")
        target += items

    # -- names, and what is called by them --------------------------------------------------------------------------

    def global_lines(self) -> None:
        module, name = self.line(), self.line()
        self._global(str(module, "utf-8"), str(name, "utf-8"))

    def global_stack(self) -> None:
        module, name = self.pop_many(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise self.refused("a global whose name is no text", _UNSAFE)
        self._global(module, name)

    def _global(self, module: str, name: str) -> None:
        found = find_name(module, name)
        if found is None:
            asked = f"{module}.{name}"
            shown = asked if len(asked) <= 80 and asked.isprintable() else ascii(asked[:80])
            raise self.refused(f"the file asks for {shown}, which no saved state needs; it was not run", _UNSAFE)
        self.push(found)

    def reduce(self) -> None:
        called, arguments = self.pop_many(2)
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise self.refused("the file calls a value", _UNSAFE)
        self.push(self._call(called, arguments))

    def _call(self, called: Name, arguments: tuple[Item, ...]) -> Item:
        match called, arguments:
            case Name.RECONSTRUCT, (Name.NDARRAY, (0,), b"b" | "b"):
                return ArrayNode()
            case Name.DTYPE, _:
                return DTypeNode.called(arguments, objects=self._objects)
            case Name.ENCODE, (str(text), "latin1" | "latin-1"):
                self._charge(len(text))
                return bytes_of(text)
            case Name.SCALAR, _:
                return scalar_of(arguments)
            case Name.FROM_BUFFER, (raw, dtype, shape, "C" | "F" as order):
                return ArrayNode(self._charged(array_of(shape, dtype, raw, fortran=order == "F")))
            case Name.BYTES, ():
                return b""
            case Name.ORDERED_DICT, ():
                return {}
            case Name.TUPLE, (tuple(items),):
                return items
            case _:
                raise self.refused(f"the file calls {called.value} as no saved state does", _UNSAFE)

    def build(self) -> None:
        state = self.pop()
        target = self.top()
        match target:
            case DTypeNode():
                target.fill(state)
            case ArrayNode():
                target.fill(state)
                if target.array is not None:
                    self._charged(target.array)
            case _:
                raise self.refused("the file sets attributes of a value", _UNSAFE)

    def _charged(self, array: Array) -> Array:
        self._charge(array.nbytes)
        return array

    def _charge(self, count: int) -> None:
        self._allowance -= count
        if self._allowance < 0:
            raise self.refused("the file makes more out of its bytes than they are")


class _Values:
    """From items to values, with what may be in them, and how much of it, checked."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[Value, int]] = {}
        self._open: set[int] = set()

    def value(self, item: Item, depth: int) -> Value:
        """``item`` as a value; its parts that are one thing stay one.  Raises NotState."""
        return self._sized(item, depth)[0]

    def _sized(self, item: Item, depth: int) -> tuple[Value, int]:
        """The value, and how many values are seen in it."""
        if isinstance(item, ArrayNode) and item.items is None:
            if item.array is None:
                raise NotState("an array that was begun only")
            return item.array, 1
        if isinstance(item, Name | DTypeNode):
            raise NotState("a name of Python's where a value is wanted")
        if not isinstance(item, list | tuple | dict | ArrayNode):
            return item, 1
        if id(item) in self._done:
            return self._done[id(item)]
        if id(item) in self._open:
            raise NotState("a container that holds itself")
        if depth >= MAX_DEPTH:
            raise NotState(f"containers nested deeper than {MAX_DEPTH}")
        self._open.add(id(item))
        found = self._container(item, depth + 1)
        self._open.remove(id(item))
        self._done[id(item)] = found
        return found

    def _container(
        self, item: list[Item] | tuple[Item, ...] | dict[str, Item] | ArrayNode, depth: int
    ) -> tuple[Value, int]:
        inner = item.values() if isinstance(item, dict) else item.items if isinstance(item, ArrayNode) else item
        parts = [self._sized(part, depth) for part in inner or ()]
        size = 1 + sum(size for _, size in parts)
        if size > MAX_STEPS:
            raise NotState(f"more than {MAX_STEPS} values")
        values = [value for value, _ in parts]
        if isinstance(item, ArrayNode):
            return item.of_objects(values), size
        if isinstance(item, dict):
            return dict(zip(item, values)), size
        return (tuple(values) if isinstance(item, tuple) else values), size


_Step: TypeAlias = Callable[[_Machine], None]
_STOP = ord(".")

_STEPS: dict[int, _Step] = {
    ord("("): _Machine.mark,
    0x80: _Machine.protocol,
    0x95: _Machine.frame,
    # numbers and None
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("I"): _Machine.integer_line,
    ord("L"): _Machine.integer_line,
    ord("J"): lambda m: m.push(m.number("<i")),
    ord("K"): lambda m: m.push(m.number("<B")),
    ord("M"): lambda m: m.push(m.number("<H")),
    0x8A: lambda m: m.integer_bytes("<B"),
    0x8B: lambda m: m.integer_bytes("<i"),
    ord("F"): _Machine.float_line,
    ord("G"): _Machine.float_bytes,
    # texts and bytes
    ord("S"): _Machine.string_line,
    ord("T"): lambda m: m.string("<i"),
    ord("U"): lambda m: m.string("<B"),
    ord("V"): _Machine.text_line,
    0x8C: lambda m: m.text("<B"),
    ord("X"): lambda m: m.text("<I"),
    0x8D: lambda m: m.text("<Q"),
    ord("C"): lambda m: m.byte_string("<B"),
    ord("B"): lambda m: m.byte_string("<I"),
    0x8E: lambda m: m.byte_string("<Q"),
    0x96: lambda m: m.byte_string("<Q"),
    # containers
    ord(")"): lambda m: m.push(()),
    0x85: lambda m: m.push(m.pop_many(1)),
    0x86: lambda m: m.push(m.pop_many(2)),
    0x87: lambda m: m.push(m.pop_many(3)),
    ord("t"): lambda m: m.push(tuple(m.pop_marked())),
    ord("]"): lambda m: m.push([]),
    ord("l"): lambda m: m.push(m.pop_marked()),
    ord("a"): lambda m: m.append([m.pop()]),
    ord("e"): lambda m: m.append(m.pop_marked()),
    ord("}"): lambda m: m.push({}),
    ord("d"): _Machine.mapping,
    ord("s"): lambda m: m.set_items(list(m.pop_many(2))),
    ord("u"): lambda m: m.set_items(m.pop_marked()),
    # what was seen before
    ord("p"): lambda m: m.put(m.memo_line()),
    ord("q"): lambda m: m.put(m.number("<B")),
    ord("r"): lambda m: m.put(m.number("<I")),
    0x94: _Machine.memoize,
    ord("g"): lambda m: m.get(m.memo_line()),
    ord("h"): lambda m: m.get(m.number("<B")),
    ord("j"): lambda m: m.get(m.number("<I")),
    # arrays
    ord("c"): _Machine.global_lines,
    0x93: _Machine.global_stack,
    ord("R"): _Machine.reduce,
    ord("b"): _Machine.build,
}

_NEVER = {
    ord("P"): "PERSID",
    ord("Q"): "BINPERSID",
    ord("i"): "INST",
    ord("o"): "OBJ",
    0x81: "NEWOBJ",
    0x92: "NEWOBJ_EX",
    0x82: "EXT1",
    0x83: "EXT2",
    0x84: "EXT4",
    ord("0"): "POP",
    ord("1"): "POP_MARK",
    ord("2"): "DUP",
    0x8F: "EMPTY_SET",
    0x90: "ADDITEMS",
    0x91: "FROZENSET",
    0x97: "NEXT_BUFFER",
    0x98: "READONLY_BUFFER",
}
"""Opcodes that state is not made of; most of them make or call objects."""
