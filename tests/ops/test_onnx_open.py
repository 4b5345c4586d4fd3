"""ONNX forms where extents are open: loops of no steps, rows without tokens; and products of what is turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from cases import floats, tensor
from onnx_jobs import argument_names, exported, session
from op_jobs import Job

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.errors import TargetError
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, RaggedType, Sym, TensorType, Type
from fluidc.compiler.ops import branching, control, ragged, ragged_pad
from fluidc.compiler.ops.base import OpBuilder as Builder
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.dp import ClippedSum
from fluidc.compiler.ops.elementwise import Where
from fluidc.compiler.ops.loss import SoftmaxCrossEntropy
from fluidc.compiler.ops.ragged import RaggedArray
from fluidc.compiler.ops.shape import Extent

T = Sym("T")


class Program:
    """A function of open extents, by ``evaluate`` and in ONNX Runtime."""

    def __init__(self, b: OpBuilder, params: Sequence[Value], results: Sequence[Value]) -> None:
        found = [b(ragged.Data(v)) if isinstance(v.type, RaggedType) else v for v in results]
        self.function = Function(
            "f",
            tuple(Param(f"p{i}", v) for i, v in enumerate(params)),
            tuple(b.ops),
            tuple(Output(f"o{i}", v) for i, v in enumerate(found)),
        )
        self.reference = Reference(Module(Stage.TARGET, (), (self.function,)))
        self.job = Job(self.function, (), ())
        self.session: ort.InferenceSession = session(exported(self.job))

    def check(self, *arguments: Any) -> list[np.ndarray]:
        """The results, which are the same both ways."""
        expected = self.reference.run("f", {f"p{i}": x for i, x in enumerate(arguments)})
        buffers = [part for x in arguments for part in ((x.data, x.offsets) if isinstance(x, RaggedArray) else (x,))]
        wanted = {value.name for value in self.session.get_inputs()}
        given = dict(zip(argument_names(self.job), buffers, strict=True))
        found = self.session.run(None, {name: array for name, array in given.items() if name in wanted})
        for have, want in zip(found, expected.values(), strict=True):
            assert (have.dtype, have.shape) == (np.asarray(want).dtype, np.shape(want))
            np.testing.assert_allclose(have, want, rtol=2e-6, atol=1e-6)
        return found


def values(*kinds: Type) -> tuple[Value, ...]:
    return tuple(Value(kind) for kind in kinds)


# Loops ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_of_any_number_of_steps(reverse: bool) -> None:
    """Two open extents; of no steps, what is stacked has the batch's extent all the same."""
    b, (h, x) = OpBuilder(), values(tensor("f32[N,2]"), tensor("f32[T,N,2]"))

    def step(inner: Builder, i: Value, h: Value, x: Value) -> Sequence[Value]:
        new = inner.add(inner.scale(h, 0.5), x)
        return new, new, inner.scale(inner.cast(i, DType.F32), 1.0)

    program = Program(b, (h, x), control.scan(b, [h], [x], [], T, step, reverse))
    for steps in (3, 0, 1, 5):
        for rows in (2, 1):
            program.check(floats(rows, 2), floats(steps, rows, 2, seed=steps))


def test_a_scan_of_a_fixed_number_of_no_steps() -> None:
    b, (h, x) = OpBuilder(), values(tensor("f32[N,2]"), tensor("f32[0,N,2]"))

    def step(inner: Builder, i: Value, h: Value, x: Value) -> Sequence[Value]:
        return inner.add(h, x), inner.mul(h, x)

    program = Program(b, (h, x), control.scan(b, [h], [x], [], 0, step))
    program.check(floats(3, 2), floats(0, 3, 2))


@pytest.mark.parametrize("trip", [3, T])
def test_loops_within_loops(trip: Any) -> None:
    """The inner loop reads what the outer one carries, slices and passes whole."""
    b, (h, x, w) = OpBuilder(), values(tensor("f32[2]"), tensor("f32[T,4,2]" if trip is T else "f32[3,4,2]"),
                                       tensor("f32[2]"))  # fmt: skip

    def outer(inner: Builder, i: Value, h: Value, x: Value, w: Value) -> Sequence[Value]:
        def step(innermost: Builder, j: Value, g: Value, row: Value, w: Value, i: Value) -> Sequence[Value]:
            place = innermost.cast(innermost.add(i, j), DType.F32)
            new = innermost.add(innermost.mul(g, w), innermost.mul(row, place))
            return new, new

        last, rows = control.scan(inner, [h], [x], [w, i], 4, step, reverse=True)
        return last, inner.reduce_sum(rows, (0,))

    program = Program(b, (h, x, w), control.scan(b, [h], [x], [w], trip, outer))
    for steps in (3,) if trip == 3 else (3, 0, 1):
        program.check(floats(2), floats(steps, 4, 2, seed=1), floats(2, seed=2))


def test_a_map_over_no_examples() -> None:
    b, (x, w) = OpBuilder(), values(tensor("f32[3,N]"), tensor("f32[3]"))

    def body(inner: Builder, x: Value, w: Value) -> Sequence[Value]:
        return (inner.mul(inner.reduce_sum(x, (1,)), w),)

    program = Program(b, (x, w), control.map_over(b, [x, w], [1, -1], Sym("N"), body))
    for count in (2, 0, 3):
        program.check(floats(3, count), floats(3, seed=1))


def test_a_loop_that_carries_rows() -> None:
    """A ragged value is two tensors on every way into a loop, through it and out of it."""
    kind = RaggedType(tensor("f32[T,2]"), Sym("N"))
    b, (x, times) = OpBuilder(), values(kind, tensor("i64[]"))

    def goes_on(inner: Builder, times: Value, x: Value, like: Value) -> Sequence[Value]:
        return (inner.less(inner.fill((), DType.I64, 0), times),)

    def body(inner: Builder, times: Value, x: Value, like: Value) -> Sequence[Value]:
        summed = inner(ragged.Expand(inner(ragged.Pool(x, "sum")), like))
        return inner.sub(times, inner.fill((), DType.I64, 1)), summed

    program = Program(b, (x, times), branching.loop(b, [times, x], [x], goes_on, body))
    rows = RaggedArray(floats(5, 2), np.asarray([0, 2, 2, 5]))
    for count in (0, 1, 2):
        found, tokens = program.check(rows, np.asarray(count))
        assert found == 0
        assert (tokens[0] == tokens[1]).all() == (count > 0)


def test_a_bounded_loop_ends_by_its_condition_or_its_bound() -> None:
    """The condition reads entry n of a table before step n; there is none for a step beyond the bound."""
    b, (n, table) = OpBuilder(), values(tensor("i64[]"), tensor("f32[T]"))

    def goes_on(inner: Builder, n: Value, table: Value) -> Sequence[Value]:
        return (inner.less(inner.fill((), DType.F32, 0.0), inner.gather(table, n, 0)),)

    def body(inner: Builder, n: Value, table: Value) -> Sequence[Value]:
        return (inner.add(n, inner.fill((), DType.I64, 1)),)

    program = Program(b, (n, table), branching.loop(b, [n], [table], goes_on, body, 3))
    for entries, steps in (([1, 1, 1], 3), ([1, 0, 1], 1), ([0, 1, 1], 0)):
        assert program.check(np.asarray(0), np.asarray(entries, np.float32))[0] == steps


# Rows -------------------------------------------------------------------------------------------------------

OFFSETS = ([0, 2, 2, 5], [0, 0, 0], [0], [0, 0, 4], [0, 3, 3, 3], [0, 1, 2, 3, 4])


@pytest.mark.parametrize("how", ["sum", "average", "sqrt", "max", "first", "last"])
def test_rows_of_any_lengths(how: Any) -> None:
    """Also none at all, and tokens that are not finite."""
    kind = RaggedType(tensor("f32[T,2]"), Sym("N"))
    b, (x, y, ct) = OpBuilder(), values(kind, kind, tensor("f32[N,2]"))
    results = [b(ragged.Pool(x, how, 0.25)), b(ragged.PoolGrad(x, ct, how)), b(ragged.Lengths(x))]
    results += [b(ragged.PoolTaken(x, y)), b(ragged.Softmax(x)), b(ragged.Expand(ct, x))]
    program = Program(b, (x, y, ct), results)
    for offsets in OFFSETS:
        data = floats(offsets[-1], 2, seed=len(offsets))
        for odd in (None, np.nan, np.inf, -np.inf):
            if odd is not None:
                data[-1:, 0] = data[:1, 1] = odd
            given = RaggedArray(data, np.asarray(offsets))
            other = RaggedArray(floats(offsets[-1], 2, seed=9), given.offsets)
            with np.errstate(invalid="ignore"):
                program.check(given, other, floats(len(offsets) - 1, 2, seed=3))


def test_rows_padded_to_an_open_width() -> None:
    """The width is the extent of an argument that nobody reads; narrower rows, none, and rows that are cut."""
    kind = RaggedType(tensor("f32[T,2]"), Sym("N"))
    b, (x, wide, size) = OpBuilder(), values(kind, tensor("f32[N,S,2]"), tensor("bool[S]"))
    mask = ragged_pad.step_mask(b, x, Sym("S"), DType.F32)
    program = Program(b, (x, wide, size), [b(ragged_pad.Pad(x, Sym("S"), 0.5)), b(ragged_pad.Unpad(wide, x)), mask])
    for offsets in OFFSETS:
        for width in (3, 1, 0, 5):
            rows = RaggedArray(floats(offsets[-1], 2, seed=width), np.asarray(offsets))
            program.check(rows, floats(len(offsets) - 1, width, 2, seed=3), np.zeros(width, np.bool_))


def test_lengths_that_do_not_add_up_reach_no_token_that_is_not_there() -> None:
    b, (data, lengths) = OpBuilder(), values(tensor("f32[T]"), tensor("i64[N]"))
    program = Program(b, (data, lengths), [b(ragged.Lengths(b(ragged.FromLengths(data, lengths))))])
    for given, kept in (([2, 5], [2, 1]), ([1, 1], [1, 1]), ([-1, 2], [0, 2]), ([9, 9], [3, 0]), ([], [])):
        feeds = {"p0": floats(3), "p1": np.asarray(given, np.int64)}
        (found,) = program.session.run(None, {v.name: feeds[v.name] for v in program.session.get_inputs()})
        assert found.tolist() == kept


def test_sizes_are_read_where_an_input_tells_them() -> None:
    b, (x,) = OpBuilder(), values(TensorType(DType.F32, (Sym("T", 4),)))
    Program(b, (x,), [b(Extent(Sym("T", scale), DType.I64)) for scale in (1, 2, 4, 6)]).check(floats(12))
    lost = b(Extent(Sym("M"), DType.I64))
    with pytest.raises(TargetError, match="no input of the function tells the size M"):
        Program(b, (x,), [lost])


def test_places_outside_an_open_axis() -> None:
    b, (table, ids) = OpBuilder(), values(TensorType(DType.F32, (T, 2)), tensor("i64[5]"))
    program = Program(b, (table, ids), [b.gather(table, ids, 0)])
    for rows in (1, 3):
        given = floats(rows, 2)
        (found,) = program.session.run(None, {"p0": given, "p1": np.array([0, rows - 1, rows, rows + 1, -1])})
        np.testing.assert_array_equal(found, [given[0], given[-1], *[[np.nan] * 2] * 3])


def test_labels_of_an_open_number_of_classes() -> None:
    b, (x, label) = OpBuilder(), values(TensorType(DType.F32, (4, T)), tensor("i64[4,1]"))
    program = Program(b, (x, label), b.emit(SoftmaxCrossEntropy(x, label)))
    for classes in (1, 3):
        program.check(floats(4, classes), np.array([[0], [classes - 1], [classes], [-1]]))


# Products ---------------------------------------------------------------------------------------------------


def test_products_in_float64_of_what_is_turned() -> None:
    """ONNX Runtime joins transposes and products, and has no such kernel for float64."""
    b, (x, w) = OpBuilder(), values(tensor("f32[3,N,2]"), tensor("f32[2,4]"))
    wide = b.cast(b.transpose(x, (1, 0, 2)), DType.F64)
    flat = b.cast(b.transpose(w, (1, 0)), DType.F64)
    results = [
        b.matmul(wide, wide, tb=True),
        b.matmul(b.transpose(wide, (0, 2, 1)), wide),
        b.matmul(flat, flat, ta=True),
    ]
    results += [b.matmul(flat, b.transpose(flat, (1, 0))), b.scale(b.matmul(wide, b.cast(w, DType.F64)), 0.5)]
    program = Program(b, (x, w), results)
    for rows in (2, 1):
        program.check(floats(3, rows, 2), floats(2, 4, seed=1))


def test_a_sum_over_no_live_rows_is_zero() -> None:
    """Whatever stood in the memory before: ONNX Runtime writes products of no terms, too."""
    b, (g, c) = OpBuilder(), values(tensor("f32[N,40]"), tensor("f32[N]"))
    program = Program(b, (g, c), [b(ClippedSum(g, c))])
    for rows in (8, 3, 8, 0):
        program.check(floats(rows, 40, seed=rows), np.ones(rows, np.float32))
        (found,) = program.check(floats(rows, 40) * np.float32(np.inf), np.zeros(rows, np.float32))
        assert not found.any()


def test_a_dead_row_leaves_every_bit_of_the_sum() -> None:
    """Whatever it holds."""
    b, (g, c) = OpBuilder(), values(tensor("f32[N,6,50]"), tensor("f32[N]"))
    program = Program(b, (g, c), [b(ClippedSum(g, c))])
    rows, factors = floats(33, 6, 50), np.where(np.arange(33) % 5, np.float32(0.3), np.float32(0))
    (expected,) = program.check(rows, factors)
    for value in (np.nan, np.inf, 0.0, 3e38):
        rows[::5] = value
        rows[0, 0, 0] = -rows[0, 0, 0]
        (found,) = program.check(rows, factors)
        np.testing.assert_array_equal(found, expected)


def test_a_sum_over_no_live_rows_is_no_nan_that_lay_in_memory() -> None:
    b, (g, c) = OpBuilder(), values(tensor("f32[4,6]"), tensor("f32[4]"))
    program = Program(b, (g, c), [b(ClippedSum(g, c))])
    found, binding = np.full(6, np.nan, np.float32), program.session.io_binding()
    arguments = np.full((4, 6), np.nan, np.float32), np.zeros(4, np.float32)
    for value, array in zip(program.session.get_inputs(), arguments, strict=True):
        binding.bind_cpu_input(value.name, array)
    binding.bind_ortvalue_output(program.session.get_outputs()[0].name, ort.OrtValue.ortvalue_from_numpy(found))
    program.session.run_with_iobinding(binding)
    assert not found.any()


@pytest.mark.parametrize("dtype", [dtype for dtype in DType if dtype is not DType.BF16])
def test_a_choice_between_a_value_and_zero(dtype: DType) -> None:
    b, (condition, x, y) = OpBuilder(), values(tensor("bool[2,3]"), *(TensorType(dtype, (2, 3)) for _ in range(2)))
    chosen = [b(Where(condition, x, z)) for z in (b.fill((2, 3), dtype, 0), y)]
    program = Program(b, (condition, x, y), chosen)
    numbers = np.arange(6).reshape(2, 3)
    program.check(numbers % 2 == 0, (numbers % 4).astype(dtype.numpy), (5 - numbers).astype(dtype.numpy))
