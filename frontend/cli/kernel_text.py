"""The kernels of a compiled program, for people: comments behind the IR, and a table of a web page."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Sequence

from ...runtime.chips import Chip
from ...runtime.kernels import TYPICAL, FunctionKernels, KernelCall, KernelTable, Work, total, typical
from ...runtime.sizes import Size

_COLUMNS = ("kernel", "ops", "line", "reads", "writes", "workspace", "flop", "integer", "bytes", "flop/byte")


def to_comments(table: KernelTable, machine: str, chip: Chip | None = None) -> str:
    """Every kernel in the order of execution, and the memory between them, as comments that the parser skips.

    With a ``chip``, the least time that each takes there.
    """
    lines: list[str] = []
    for function in table.functions:
        lines += ["", *(f"// {line}".rstrip() for line in _function(function, machine, chip))]
    return "\n".join(lines) + "\n"


def _function(function: FunctionKernels, machine: str, chip: Chip | None) -> Iterator[str]:
    count = len(function.kernels)
    yield f"kernels of {function.name}: {count}, for {machine}"
    for number, kernel in enumerate(function.kernels):
        main = kernel.ops[kernel.main]
        yield f"{number:4} {kernel.symbol}  {main.op}" + (f"  {main.at}" if main.at else "")
        if len(kernel.ops) > 1:
            yield f"       fuses      {fused(kernel)}"
        yield f"       reads      {_buffers(function, kernel.inputs, kernel.updated) or 'nothing'}"
        if kernel.updated:
            yield f"       updates    {_buffers(function, kernel.updated)}"
        if kernel.outputs:
            yield f"       writes     {_buffers(function, kernel.outputs)}"
        if space := workspace(kernel):
            yield f"       workspace  {space}"
        yield f"       predicted  {_work(kernel.work)}{_time(kernel.work, chip)}"
    if chip is not None:
        seconds = sum(chip.seconds(kernel.work)[0] for kernel in function.kernels)
        yield f"least time of {function.name} on {chip.title}: {seconds * 1e6:.1f} µs"
    every, peak = function.memory()
    yield f"all of {function.name}: {_work(total([kernel.work for kernel in function.kernels]))}"
    yield f"memory of {function.name}: {quantity(every, 'B')} of intermediates, {quantity(peak, 'B')} at a time"


def fused(kernel: KernelCall) -> str:
    """The ops of a kernel, equal ones together."""
    counts = Counter(op.op for op in kernel.ops)
    return ", ".join(name if times == 1 else f"{name} ×{times}" for name, times in counts.items())


def _buffers(function: FunctionKernels, numbers: Sequence[int], left_out: Sequence[int] = ()) -> str:
    return ", ".join(_buffer(function, number) for number in numbers if number not in left_out)


def _buffer(function: FunctionKernels, number: int) -> str:
    """State and feeds by name; what kernels hand to each other by number."""
    buffer = function.buffers[number]
    name = buffer.name if buffer.kind == "argument" else f"#{number}"
    return f"{name} {buffer.type}"


def workspace(kernel: KernelCall) -> str:
    """What a kernel allocates for itself, or empty."""
    if kernel.workspace is None or kernel.per_thread is None:
        return "depends on the batch"
    parts = [quantity(kernel.workspace, "B")] if kernel.workspace.terms else []
    if kernel.per_thread.terms:
        parts.append(f"{quantity(kernel.per_thread, 'B')} per thread")
    return " and ".join(parts)


def _work(work: Work) -> str:
    parts = [quantity(work.flops, "flop")]
    if work.integer.terms:
        parts.append(quantity(work.integer, "integer op"))
    parts.append(f"{quantity(work.read, 'B')} read, {quantity(work.written, 'B')} written")
    if ratio := intensity(work):
        at = f" at N = {TYPICAL}" if work.flops.symbols or work.bytes.symbols else ""
        parts.append(f"{ratio} flop/B{at}")
    return ", ".join(parts)


def _time(work: Work, chip: Chip | None) -> str:
    if chip is None:
        return ""
    seconds, bound = chip.seconds(work)
    return f", at least {seconds * 1e6:.1f} µs ({bound})"


def intensity(work: Work) -> str:
    """Operations per byte (of symbolic work, at `TYPICAL`), or empty where there are none."""
    moved, flops = typical(work.bytes), typical(work.flops)
    return f"{flops / moved:.3g}" if moved and flops else ""


def quantity(size: Size, unit: str) -> str:
    """A number with its unit: three digits where it is fixed, the exact polynomial where it is symbolic."""
    fixed = size.constant
    if fixed is None:
        return f"({size}) {unit}" if len(size.terms) > 1 else f"{size} {unit}"
    for factor, prefix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if fixed >= factor:
            # Three digits, and those before the point in any case.
            return f"{fixed / factor:{'.3g' if fixed < 999 * factor else '.0f'}} {prefix}{unit}"
    return f"{fixed} {unit}"


# The page ---------------------------------------------------------------------------------------------
def to_tables(table: KernelTable, machine: str, chip: Chip | None = None) -> str:
    """A table per function; rows are marked along with the ops of their line of the script."""
    return "\n".join(_table(function, machine, chip) for function in table.functions)


def _table(function: FunctionKernels, machine: str, chip: Chip | None) -> str:
    names = (*_COLUMNS, "least µs") if chip is not None else _COLUMNS
    head = "".join(f"<th>{name}</th>" for name in names)
    rows: list[str] = []
    for kernel in function.kernels:
        main = kernel.ops[kernel.main]
        updates = _buffers(function, kernel.updated)
        written = [*([f"{updates} in place"] if updates else []), _buffers(function, kernel.outputs)]
        cells = (
            kernel.symbol, fused(kernel), main.at, _buffers(function, kernel.inputs, kernel.updated),
            "; ".join(filter(None, written)), workspace(kernel), quantity(kernel.work.flops, ""),
            quantity(kernel.work.integer, "") if kernel.work.integer.terms else "",
            quantity(kernel.work.bytes, "B"), intensity(kernel.work),
        )  # fmt: skip
        if chip is not None:
            cells = (*cells, f"{chip.seconds(kernel.work)[0] * 1e6:.1f}")
        at = f' data-at="{html.escape(main.at)}"' if main.at else ""
        rows.append(f"<tr{at}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    every, peak = function.memory()
    title = f"Kernels of {function.name} for {machine}"
    memory = f"{quantity(every, 'B')} of intermediates, {quantity(peak, 'B')} at a time"
    body = "\n".join(rows)
    return (
        f'<h2>{html.escape(title)}</h2><div class="kernels"><table><tr>{head}</tr>\n{body}\n</table></div>'
        f"<p>Memory: {html.escape(memory)}.</p>"
    )
