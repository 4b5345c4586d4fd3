"""Pickles that attack whoever loads them, and small files of state to break: what the readers are tried on."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidc.frontend.formats.pickle_writer import write

STATE: dict[str, Any] = {
    "fc_0.w_0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "@LR_DECAY_COUNTER@": np.array([3]),
    "LR_Scheduler": {"step_num": 3},
    "StructuredToParameterName@@": {"fc.weight": "fc_0.w_0"},
}


def encoded(value: object) -> bytes:
    return b"".join(write(value, "state"))


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def held(item: bytes, start: bytes = b"\x80\x02") -> bytes:
    """A dict with one value, which these opcodes leave on the stack."""
    return start + b"}" + text("w") + item + b"s."


UNSET = b"J\xff\xff\xff\xff"
DTYPE = b"cnumpy\ndtype\n" + text("f4") + b"\x89\x88\x87R(K\x03" + text("<") + b"NNN" + UNSET * 2 + b"K\x00tb"
OBJECTS = DTYPE.replace(b"f4", b"O8").replace(b"<NNN", b"|NNN")
BEGUN = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


def array(shape: bytes, raw: bytes, dtype: bytes = DTYPE) -> bytes:
    """Opcodes of an array: ``shape`` are those of its tuple, ``raw`` those of its bytes."""
    return BEGUN + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb"


def attacks(command: str) -> Iterator[tuple[str, bytes]]:
    """Each kind of attack by name; those that can run ``command`` in a shell when Python unpickles them."""
    shell = text(command) + b"\x85"
    code = text(f"__import__('os').system({command!r})") + b"\x85"
    yield "reduce of os.system", held(b"cposix\nsystem\n" + shell + b"R")
    yield "global eval", held(b"cbuiltins\neval\n" + code + b"R")
    yield "global eval of Python 2", held(b"c__builtin__\neval\n" + code + b"R")
    yield "stack global", held(text("os") + text("system") + b"\x93" + shell + b"R", b"\x80\x04")
    yield "dotted stack global", held(text("numpy") + text("os.system") + b"\x93" + shell + b"R", b"\x80\x04")
    yield "inst", held(b"(" + text(command) + b"iposix\nsystem\n")
    yield "obj", held(b"(cposix\nsystem\n" + text(command) + b"o")
    yield "newobj", held(b"csubprocess\nPopen\n" + shell + b"\x81")
    yield "newobj of an allowed class", held(b"cnumpy\nndarray\n(K\x00\x85t\x81")
    yield "newobj_ex", held(b"csubprocess\nPopen\n" + shell + b"}\x92", b"\x80\x04")
    yield "build with __setstate__", held(b"}" + text("__setstate__") + b"cposix\nsystem\ns" + text(command) + b"b")
    yield "build on an allowed class", held(b"cnumpy\nndarray\n}" + text("__reduce__") + b"K\x01sb")
    yield "getattr of an allowed global", held(b"cbuiltins\ngetattr\ncnumpy\nndarray\n" + text("tofile") + b"\x86R")
    yield "numpy's own loader", held(b"cnumpy\nload\n" + text("/etc/passwd") + b"\x85R")
    yield "numpy.testing's exec", held(b"cnumpy.testing._private.utils\nrunstring\n" + shell + b"R")
    yield "encode with another codec", held(b"c_codecs\nencode\n" + text("61") + text("hex_codec") + b"\x86R")
    yield "a call of ndarray", held(b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85\x85R")
    yield "a call of a dtype", held(DTYPE + b")R")
    yield "a call of bytes", held(b"cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R")
    yield "a subclass of ndarray", held(BEGUN.replace(b"numpy\nndarray", b"numpy\nmatrix"))
    yield "a name left over", held(b"cnumpy\ndtype\n")
    yield "ext1", held(b"\x82\x01")
    yield "ext4", held(b"\x84\x01\x00\x00\x00")
    yield "persid", held(b"Ps3://bucket\n")
    yield "binpersid", held(text("s3://bucket") + b"Q")
    yield "an array of objects", held(array(b"K\x01\x85", b"]cposix\nsystem\na", OBJECTS))
    yield "an array of objects as bytes", held(array(b"K\x01\x85", b"C\x08" + bytes(8), OBJECTS))
    yield "a dtype with fields", held(
        b"cnumpy\ndtype\nX\x02\x00\x00\x00V4\x89\x88\x87R(K\x03X\x01\x00\x00\x00|N(X\x01\x00\x00\x00at}"
        + text("a") + DTYPE + b"K\x00\x86sK\x04K\x01K\x00tb"
    )  # fmt: skip
    yield "a dtype with a long description", held(b"cnumpy\ndtype\n" + text("f4,(1000000,)O") + b"\x89\x88\x87R")
    yield (
        "a dtype with the flags of objects",
        held(array(b"K\x01\x85", b"C\x04abcd", DTYPE.replace(b"K\x00tb", b"K?tb"))),
    )
    yield "a dtype filled twice", held(DTYPE + DTYPE[DTYPE.index(b"(") :])
    yield (
        "an array filled twice",
        held(array(b"K\x01\x85", b"C\x04abcd") + b"(K\x01K\x01\x85" + DTYPE + b"\x89C\x04abcdtb"),
    )
    yield "an array that is begun only", held(BEGUN)
    yield "a huge shape", held(array(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", b"C\x04abcd"))
    yield "a shape that wraps", held(array(b"\x8a\x09" + (1 << 63).to_bytes(9, "little") + b"K\x02\x86", b"C\x00"))
    yield "no elements, huge extents", held(array(b"K\x00\x8a\x08" + (2**62).to_bytes(8, "little") + b"\x86", b"C\x00"))
    yield "a negative shape", held(array(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", b"C\x04abcd"))
    yield "a shape of booleans", held(array(b"\x88\x85", b"C\x04abcd"))
    yield "fewer bytes than elements", held(array(b"K\x02\x85", b"C\x04abcd"))
    yield "a huge text", held(b"\x8d" + (1 << 62).to_bytes(8, "little") + b"abc")
    yield "huge bytes", held(b"B\xff\xff\xff\xffabc")
    yield "a negative count", held(b"T\xff\xff\xff\xffabc")
    yield "a huge frame", b"\x80\x04\x95" + (1 << 62).to_bytes(8, "little") + b"}."
    yield "a huge integer", held(b"\x8b\x00\x00\x01\x00" + b"\xff" * 65536)
    yield "a huge integer in digits", held(b"L" + b"9" * 5000 + b"L\n")
    yield "a huge memo", held(b"Np" + b"9" * 30 + b"\n")
    yield "a memo that is not there", held(b"h\x07")
    yield "deep nesting", held(b"]" * 100_000 + b"a" * 99_999)
    yield "deep nesting of tuples", held(b")" + b"\x85" * 100_000)
    yield "deep nesting of marks", b"\x80\x02" + b"(" * 100_000 + b"}."
    yield "a list that holds itself", held(b"]q\x00h\x00a")
    yield "a dict that holds itself", b"\x80\x02}q\x00" + text("w") + b"h\x00s."
    yield (
        "billion laughs",
        held(b"(]q\x00" + b"".join(b"](" + b"h%c" % i * 10 + b"eq%c" % (i + 1) for i in range(20)) + b"t"),
    )
    yield (
        "laughing keys",
        held(b"()q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"}h\x3cNst"),
    )
    yield "one array many times", held(
        b"B" + (100_000).to_bytes(4, "little") + bytes(100_000) + b"q\x00" + DTYPE + b"q\x01]("
        + array(b"J\xa8\x61\x00\x00\x85", b"h\x00", b"h\x01") * 50 + b"e"
    )  # fmt: skip
    yield (
        "one text encoded many times",
        held(
            text("a" * 100_000)
            + b"q\x00"
            + text("latin1")
            + b"q\x01]("
            + b"c_codecs\nencode\nh\x00h\x01\x86R" * 50
            + b"e"
        ),
    )
    yield "a key that is no text", held(b"}K\x01Ns")
    yield "no dict", encoded(STATE["fc_0.w_0"])
    yield "two pickles", encoded(STATE) + encoded(STATE)
    yield "a set", pickle.dumps({"w": {1, 2}}, 4)
    yield "a complex number", pickle.dumps({"w": 1j}, 2)
    yield "complex elements", pickle.dumps({"w": np.zeros(2, np.complex64)}, 2)
    yield "texts as elements", pickle.dumps({"w": np.array(["a", "b"])}, 2)
    yield "times as elements", pickle.dumps({"w": np.zeros(2, "M8[s]")}, 2)
    yield "protocol 6", b"\x80\x06}."


def flipped(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """``count`` copies of ``data``, each with one to three bits changed."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        copy = np.frombuffer(data, np.uint8).copy()
        for _ in range(int(draw.integers(1, 4))):
            copy[int(draw.integers(len(copy)))] ^= 1 << int(draw.integers(8))
        yield copy.tobytes()


def is_state(value: object) -> bool:
    """Whether a value is of the types that a reader may make."""
    if isinstance(value, dict):
        return all(type(key) is str and is_state(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_state, value))
    if isinstance(value, np.ndarray):
        whole: NDArray[Any] = value
        return type(whole) is np.ndarray and whole.dtype.kind in "biuf"
    return value is None or type(value) in (bool, int, float, str, bytes)
