"""The text that TVM writes, as compilers get it."""

from __future__ import annotations

import re

_PREAMBLE = re.compile(r"\A.*?#define ushort unsigned short\n#endif\n", re.S)
_HEADERS = re.compile(r"#include <(?:cuda_fp\w+|cuda_bf\w+|mma|cooperative_groups)\.h>")
_LONG_LOOP = re.compile(r"(?<!#pragma unroll\n)^( *)(for \(\w+ \w+ = [^;]*; \w+ < (?:\(int64_t\))?\d{3,}; )", re.M)
_KERNEL = re.compile(r'^extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(.*\{$', re.M)

_TYPES = """\
#ifdef __CUDACC_RTC__
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#else
#include <cmath>
#include <cstdint>
#endif
#define CUDART_INF_F __int_as_float(0x7f800000)
#define CUDART_NAN_F __int_as_float(0x7fffffff)
#define CUDART_INF __longlong_as_double(0x7ff0000000000000LL)
#define CUDART_NAN __longlong_as_double(0xfff8000000000000LL)
#define uint unsigned int
#define uchar unsigned char
#define ushort unsigned short
"""


def needs_headers(code: str) -> bool:
    """Whether kernels use types that headers of the toolkit define: float16, bfloat16 and the like."""
    return _HEADERS.search(code) is not None


def prepared(code: str) -> str:
    """The text as compilers get it: without TVM's preamble where its kernels do without, since no headers are needed
    then; and with long loops unrolled a few times at most, since they would unroll one whose values are all known in
    advance (a seeded generator) into megabytes."""
    code = _LONG_LOOP.sub(r"\1#pragma unroll 4\n\1\2", code)
    return code if needs_headers(code) else _TYPES + _PREAMBLE.sub("", code)


def kernels(code: str) -> tuple[str, ...]:
    """The names of the kernels, in the order of the text."""
    return tuple(_KERNEL.findall(code))


def kernel_at(code: str, line: int) -> str | None:
    """The name of the kernel that a line (counted from 1) belongs to; None before the first."""
    text = "\n".join(code.split("\n")[:line])
    found = _KERNEL.findall(text)
    return found[-1] if found else None
