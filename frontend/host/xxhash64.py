"""xxHash64 (https://xxhash.com, the specification by Yann Collet), for ``layers.hash``."""

from __future__ import annotations

import struct

_MASK = (1 << 64) - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def _rotl(x: int, by: int) -> int:
    return ((x << by) | (x >> (64 - by))) & _MASK


def _round(acc: int, lane: int) -> int:
    return _rotl((acc + lane * _P2) & _MASK, 31) * _P1 & _MASK


def xxh64(data: bytes, seed: int = 0) -> int:
    """The 64-bit hash of ``data``.

    >>> hex(xxh64(b"")), hex(xxh64(b"abc"))
    ('0xef46db3751d8e999', '0x44bc2cf5ad770999')
    """
    at, size = 0, len(data)
    if size >= 32:
        lanes = [(seed + _P1 + _P2) & _MASK, (seed + _P2) & _MASK, seed & _MASK, (seed - _P1) & _MASK]
        while at + 32 <= size:
            lanes = [_round(acc, lane) for acc, lane in zip(lanes, struct.unpack_from("<4Q", data, at))]
            at += 32
        acc = sum(_rotl(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18))) & _MASK
        for lane in lanes:
            acc = ((acc ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        acc = (seed + _P5) & _MASK
    acc = (acc + size) & _MASK
    while at + 8 <= size:
        acc = (_rotl(acc ^ _round(0, struct.unpack_from("<Q", data, at)[0]), 27) * _P1 + _P4) & _MASK
        at += 8
    if at + 4 <= size:
        acc = (_rotl(acc ^ (struct.unpack_from("<I", data, at)[0] * _P1 & _MASK), 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        acc = _rotl(acc ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK
    acc = (acc ^ (acc >> 33)) * _P2 & _MASK
    acc = (acc ^ (acc >> 29)) * _P3 & _MASK
    return acc ^ (acc >> 32)
