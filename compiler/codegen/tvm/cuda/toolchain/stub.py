"""A ``libcuda.so.1`` for machines without a driver: TVM's CUDA runtime loads with it, and every call says: no device.

The file is written as it is, without compiler or linker: two instructions, and a name for each function.
"""

from __future__ import annotations

import struct

from .....errors import TargetError

SYMBOLS = (
    "cuDeviceGetName", "cuFuncSetAttribute", "cuGetErrorName", "cuGetErrorString", "cuLaunchKernelEx",
    "cuModuleGetFunction", "cuModuleLoadData", "cuModuleUnload", "cuTensorMapEncodeTiled",
)  # fmt: skip
"""What ``libtvm_runtime_cuda.so`` imports of the driver."""

# return CUDA_ERROR_NO_DEVICE
_CODE = {
    "x86_64": (62, bytes.fromhex("b864000000c3")),  # mov eax, 100; ret
    "aarch64": (183, bytes.fromhex("800c8052c0035fd6")),  # mov w0, #100; ret
}
_PAGE = 1 << 16
_HEADER, _SEGMENT, _SYMBOL, _ENTRY = 64, 56, 24, 16
_LOAD, _DYNAMIC, _STACK = 1, 2, 0x6474E551
_HASH, _STRTAB, _SYMTAB, _STRSZ, _SYMENT, _SONAME = 4, 5, 6, 10, 11, 14


def stub_driver(machine: str) -> bytes:
    """The shared library for a machine (``x86_64``, ``aarch64``); raises TargetError for another."""
    if machine not in _CODE:
        raise TargetError(f"CUDA artifacts are built on x86_64 and aarch64, not on {machine}")
    number, code = _CODE[machine]
    names = ("libcuda.so.1", *SYMBOLS)
    strings = b"\0" + b"\0".join(name.encode() for name in names) + b"\0"
    offsets = [strings.index(b"\0" + name.encode() + b"\0") + 1 for name in names]
    count = len(SYMBOLS) + 1
    # One bucket: the chain of all symbols.
    table = struct.pack(f"<{3 + count}I", 1, count, 1, 0, *range(2, count), 0)
    at = _HEADER + 3 * _SEGMENT
    code_at = (at + 15) // 16 * 16
    symbols_at = (code_at + len(code) + 7) // 8 * 8
    strings_at = symbols_at + _SYMBOL * count
    table_at = (strings_at + len(strings) + 7) // 8 * 8
    read_end = table_at + len(table)
    # The dynamic section is on a page of its own, as the loader writes into it.
    dynamic_at = (read_end + _PAGE - 1) // _PAGE * _PAGE
    function = 1 << 4 | 2  # global, a function
    symbols = bytes(_SYMBOL) + b"".join(
        struct.pack("<IBBHQQ", offset, function, 0, 1, code_at, len(code)) for offset in offsets[1:]
    )
    dynamic = b"".join(
        struct.pack("<QQ", tag, value)
        for tag, value in (
            (_SONAME, offsets[0]), (_HASH, table_at), (_STRTAB, strings_at), (_SYMTAB, symbols_at),
            (_STRSZ, len(strings)), (_SYMENT, _SYMBOL), (0, 0),
        )
    )  # fmt: skip
    segments = (
        struct.pack("<IIQQQQQQ", _LOAD, 5, 0, 0, 0, read_end, read_end, _PAGE)
        + struct.pack("<IIQQQQQQ", _LOAD, 6, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), _PAGE)
        + struct.pack("<IIQQQQQQ", _DYNAMIC, 6, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8)
    )
    identity = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = identity + struct.pack("<HHIQQQIHHHHHH", 3, number, 1, 0, _HEADER, 0, 0, _HEADER, _SEGMENT, 3, 0, 0, 0)
    content = bytearray(dynamic_at + len(dynamic))
    for place, part in (
        (0, header), (_HEADER, segments), (code_at, code), (symbols_at, symbols), (strings_at, strings),
        (table_at, table), (dynamic_at, dynamic),
    ):  # fmt: skip
        content[place : place + len(part)] = part
    return bytes(content)
