"""Damage to files: bytes, texts, JSON documents, and the containers that fluidc reads, with their hashes repaired.

Every function takes a random generator and gives the same result for the same state of it.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from fluidc.runtime.archive import pack

Change = Callable[[Random, bytes], bytes]

NUMBERS: tuple[Any, ...] = (
    -1, 0, 1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, -(2**63),
    -(10**40),
    0.0, -0.0, 0.5, 1e-300, 1e300, -1.5, 1e16,
)  # fmt: skip
TEXTS: tuple[str, ...] = (
    "", " ", "x", "w", "N", "0", "\0", "\n", "\x1b[31mred", "\ud800", "\u202edlrow", "é" * 3, "../../etc/passwd",
    "/dev/zero", "a" * 5000,
    "%s%n", "{}", "nan", "step", "infer", "manifest.json", "__class__", "module.so", "f32", "bool", "N*N", "1e999",
)  # fmt: skip
RAW: tuple[str, ...] = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "[" * 100_000, '{"a":' * 5000, "9" * 5000, '"\\ud800"',
    '"\\u0000"',
    "1.", "01", "'x'", "null", "true", '"\\x"', "\ufeff{}", "// no", '{"a":1,"a":2}', "[[[[[[[[]]]]]]]]", "{}", "[]",
)  # fmt: skip


# Bytes ---------------------------------------------------------------------------------------------------------


def damaged_bytes(random: Random, data: bytes) -> bytes:
    """One to three of: bits flipped, a range cut out, doubled, moved, filled, the end lost, bytes put in."""
    made = bytearray(data)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(made) + 1)
        size = min(random.choice((1, 2, 4, 8, 64, 1000)), max(1, len(made)))
        match random.randrange(9):
            case 0 | 1 if made:
                for _ in range(random.randint(1, 4)):
                    made[random.randrange(len(made))] ^= 1 << random.randrange(8)
            case 2:
                del made[at : at + size]
            case 3:
                made[at:at] = made[at : at + size] * random.randint(1, 50)
            case 4:
                made[at : at + size] = bytes([random.choice((0, 255, 127, 128))]) * size
            case 5:
                del made[at:]
            case 6:
                made[at:at] = random.randbytes(size)
            case 7:
                width = random.choice("<BHIQ")
                width = "Q" if width == "<" else width
                number = struct.pack(f"<{width}", random.choice((0, 1, 2**8 - 1, 2**7)) & 0xFF)
                if width == "Q":
                    number = struct.pack("<Q", random.choice((2**63, 2**64 - 1, 2**32, 2**31)))
                made[at : at + len(number)] = number
            case _:
                source = random.randrange(len(made) + 1)
                made[at:at] = made[source : source + size]
    return bytes(made)


# Texts -----------------------------------------------------------------------------------------------------------

_TOKENS = re.compile(r'"(?:[^"\\\n]|\\.)*"|[%@]?[\w.#]+|\s+|.', re.DOTALL)
_STRANGE = (
    "", "{", "}", "(", ")", "[", "]", "<", ">", ",", ":", ";", "=", "^", "*", "%x", "%0", "@w", "@", "%", '"', '"x"',
    "-1", "0",
    "1", "99999999999999999999", "9" * 5000, "1e999", "-inf", "nan", "1.5", "f32[N]", "f32[]", "f64", "bf16",
    "bool[N,3]",
    "f32[999999999,999999999]", "ragged<f32[T,2], N>", "2*N", "none", "true", "inf", "return", "yield", "func",
    "state", "module",
    "loc(", "{axes=(0,)}", "{ ^() : yield }", "( " * 20_000, "[" * 20_000, "{ ^() :" * 300, "\0", "\ud7ff", "// c",
    "²", "٣",
    "elementwise.add(%x, %x)", "linear.matmul(%x, %x)", "shape.reshape(%x) {shape=(0,)}", "public", "clipped<%c>",
    "mixed",
)  # fmt: skip


def damaged_text(random: Random, data: bytes) -> bytes:
    """One to four of: tokens lost, doubled, swapped, replaced by others of the text or by strange ones; lines moved."""
    text = data.decode("utf-8", "replace")
    for _ in range(random.randint(1, 4)):
        tokens = _TOKENS.findall(text)
        if not tokens:
            return random.choice(_STRANGE).encode("utf-8", "surrogatepass")
        solid = [i for i, token in enumerate(tokens) if not token.isspace()] or [0]
        at, other = random.choice(solid), random.choice(solid)
        match random.randrange(8):
            case 0:
                del tokens[at]
            case 1:
                tokens[at : at + 1] = [tokens[at]] * 2
            case 2:
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case 3:
                tokens[at] = tokens[other]
            case 4:
                tokens[at] = random.choice(_STRANGE)
            case 5:
                tokens[at] = str(random.choice(NUMBERS))
            case 6:
                lines = "".join(tokens).splitlines(keepends=True)
                first, second = random.randrange(len(lines)), random.randrange(len(lines))
                if random.random() < 0.5:
                    lines[first], lines[second] = lines[second], lines[first]
                elif random.random() < 0.5:
                    del lines[first]
                else:
                    lines.insert(first, lines[second])
                tokens = lines
            case _:
                number = [i for i in solid if tokens[i].isdecimal() and len(tokens[i]) < 1000]
                if number:
                    at = random.choice(number)
                    tokens[at] = str(max(0, int(tokens[at]) + random.choice((-1, 1, 2))))
        text = "".join(tokens)
    return text.encode("utf-8", "surrogatepass")


# JSON ------------------------------------------------------------------------------------------------------------


def damaged_document(random: Random, document: Any) -> Any:
    """A copy with one to three values or keys changed, exchanged, removed or put in."""
    made = [copy.deepcopy(document)]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(made))
        holder, key = random.choice(places)
        other_holder, other_key = random.choice(places)
        value = holder[key]
        match random.randrange(9):
            case 0 if holder is not made:
                del holder[key]
                continue
            case 1:
                holder[key] = random.choice(NUMBERS)
            case 2:
                holder[key] = random.choice(TEXTS)
            case 3:
                holder[key] = random.choice((None, True, False, [], {}, [None], {"x": 1}, [[]], [1] * 300))
            case 4:
                holder[key] = copy.deepcopy(other_holder[other_key])
            case 5 if isinstance(value, int | float) and not isinstance(value, bool):
                holder[key] = value + random.choice((-1, 1, 0.5, -value, value))
            case 6 if isinstance(value, str):
                at = random.randrange(len(value) + 1)
                holder[key] = value[:at] + random.choice(TEXTS) + value[at + 1 :]
            case 7 if isinstance(value, dict):
                value[random.choice((*TEXTS, "extra"))] = random.choice(NUMBERS)
            case 7 if isinstance(value, list):
                value.insert(random.randrange(len(value) + 1), copy.deepcopy(value[0]) if value else 1)
            case _:
                holder[key] = random.choice((*NUMBERS, *TEXTS, None))
    return made[0]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in ``value``."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        for key in range(len(holder)) if isinstance(holder, list) else list(holder):
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found


def damaged_json(random: Random, data: bytes) -> bytes:
    """A JSON document with its values changed, or text in it that no JSON writer makes."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return damaged_bytes(random, data)
    if random.random() < 0.8:
        return json.dumps(damaged_document(random, document), indent=random.choice((None, 1))).encode("utf-8")
    made = [copy.deepcopy(document)]
    holder, key = random.choice(list(_places(made)))
    holder[key] = "@@"
    return json.dumps(made[0]).replace('"@@"', random.choice(RAW)).encode(random.choice(("utf-8", "utf-8", "utf-16")))


# Containers ----------------------------------------------------------------------------------------------------


def damaged_safetensors(random: Random, data: bytes) -> bytes:
    """Header and data that do not fit each other, in safetensors form."""
    (size,) = struct.unpack_from("<Q", data)
    header, rest = data[8 : 8 + size], data[8 + size :]
    match random.randrange(6):
        case 0:
            rest = damaged_bytes(random, rest)
        case 1:
            size = random.choice((0, 1, size - 1, size + 1, len(data), 2**31, 2**63, 2**64 - 1))
            return struct.pack("<Q", size) + header + rest
        case 2:
            header = damaged_bytes(random, header)
        case _:
            header = damaged_json(random, header)
    return struct.pack("<Q", len(header)) + header + rest


def listed(members: Mapping[str, bytes], manifest: bytes) -> bytes:
    """``manifest`` with the sizes and hashes of ``members``, where it is still a document that has a list of them."""
    try:
        document = json.loads(manifest)
        document["members"] = [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in members.items()
            if name not in ("manifest.json", "signature.json")
        ]
    except (ValueError, TypeError, KeyError, RecursionError):
        return manifest
    return (json.dumps(document, indent=1) + "\n").encode("utf-8")


def members_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def damaged_member(random: Random, name: str, data: bytes) -> bytes:
    """One member of an artifact, damaged in the terms of what it is."""
    if random.random() < 0.1:
        return damaged_bytes(random, data)
    if name.endswith(".json"):
        return damaged_json(random, data)
    if name.endswith(".safetensors"):
        return damaged_safetensors(random, data)
    if name.endswith((".ir", ".txt")):
        return damaged_text(random, data)
    return damaged_bytes(random, data)


def damaged_artifact(random: Random, data: bytes) -> bytes:
    """An archive with damaged, exchanged, missing or strange members; its hashes repaired three times out of four."""
    members = members_of(data)
    repaired = random.random() < 0.75
    for _ in range(random.choice((1, 1, 2))):
        name = random.choice(list(members))
        match random.randrange(10):
            case 0:
                del members[name]
            case 1:
                members[random.choice(("ir/x.ir", "x.so", "step.onnx", "kernels.json", "proof.txt", "x.txt"))] = (
                    members[name]
                )
            case 2:
                other = random.choice(list(members))
                members[name], members[other] = members[other], members[name]
            case 3 if "manifest.json" in members:
                members["manifest.json"] = damaged_json(random, members["manifest.json"])
            case _:
                members[name] = damaged_member(random, name, members[name])
        if not members:
            break
    if "manifest.json" in members and repaired:
        members["manifest.json"] = listed(members, members["manifest.json"])
    if random.random() < 0.9:
        return pack(members)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(random.choice((name, name, f"./{name}", f"/{name}")), content)
    return made.getvalue()


def damaged_npy(random: Random, data: bytes) -> bytes:
    """A .npy file with another header than its data have."""
    (size,) = struct.unpack_from("<H", data, 8)
    header, rest = data[10 : 10 + size], data[10 + size :]
    if random.random() < 0.5:
        header = header.replace(
            random.choice((b"'<f4'", b"'<i8'", b"False", b"(", b")", b"'descr'", b"'shape'", b",")),
            random.choice((
                b"'|O'", b"'<f8'", b"'|V3'", b"'<U9'", b"[('a','<f4'),('b','|O')]", b"True", b"(-1,",
                b"(99999999999,", b"", b"1.5",
                b"__import__('os').system('true')", b"lambda: 0", b"(" * 300, b"'>f4'", b"'M8[ns]'", b"None", b"{}",
            )),
        )  # fmt: skip
    else:
        header = damaged_text(random, header)
    if len(header) > 65535:
        header = header[:65535]
    version = random.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x09\x00"))
    return data[:6] + version + struct.pack("<H", len(header)) + header + rest


def damaged_npz(random: Random, data: bytes) -> bytes:
    """An .npz archive with damaged, renamed, doubled or missing arrays."""
    members = members_of(data)
    name = random.choice(list(members))
    match random.randrange(6):
        case 0:
            del members[name]
        case 1:
            members[random.choice(("z.npy", "../x.npy", "x", "x.npy.npy", ""))] = members.pop(name)
        case 2:
            members[name] = damaged_bytes(random, members[name])
        case _:
            members[name] = damaged_npy(random, members[name])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(name or "x", content)
    return made.getvalue()


def garbage(random: Random, data: bytes) -> bytes:
    """What is no file of the kind at all, or ``data`` damaged."""
    match random.randrange(6):
        case 0:
            return b""
        case 1:
            return random.randbytes(random.randint(1, 3000))
        case 2:
            return b"PK\x03\x04" + random.randbytes(200)
        case 3:
            return random.choice(RAW).encode("utf-8", "surrogatepass")
        case 4:
            return random.choice(
                (b"module {stage = core} {", b"\x7fELF\2\1\1", b"\x80\x04\x95\0\0.", b"\xff\xfe", b"\0" * 5000)
            )
        case _:
            return damaged_bytes(random, data)
