"""From Programs to ProgramDescs that Paddle 1.8.5 loads and runs.

Op types and slots are Paddle's in the records already.  Added are the types of attributes, those that records keep in
another form, and descriptions of the variables.  The same program always gives the same bytes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import invalid
from ...op_role import OpRole
from ...reach import pruned
from ...source import user_location
from ...variable import GRAD_SUFFIX, Variable
from ...vartype import VarType, convert_dtype
from .attributes import AttrType, write_attr
from .errors import ProgramDescError
from .op_protos import OpProto, op_protos
from .schema import program_desc_class

if TYPE_CHECKING:
    from ...framework import Operator, Program

VERSION = 1008005
"""Paddle 1.8.5."""

FEED, FETCH = "feed", "fetch"
"""Variables, and types of ops, through which Paddle's executor passes what goes in and out."""

_OWN = {("range", "values"), ("linspace", "values"), ("assign_value", "values")}
"""Attributes with numbers that fluidc folds early, and Paddle has in other attributes or in variables."""

_KERNELS = {"use_cudnn", "use_mkldnn"}
"""Attributes that only choose a kernel of Paddle's."""

_FILLS = ("fill_constant", "fill_constant_batch_size_like")


def program_to_bytes(program: Program) -> bytes:
    """What `fluid.save` writes as ``.pdmodel``: the forward part of a program.

    A training program's gradients are one record here and hundreds of ops in Paddle, so its backward, its optimizer and
    its schedule of learning rates are left out, with what is computed from gradients; all persistable variables are
    declared, accumulators too. Ops are in the mode that they have in the program, training or test.

    Raises:
        ProgramDescError: Ops that Paddle does not have: all of them are listed.
    """
    return _serialised(program, _forward(program), set())


def inference_to_bytes(program: Program, feeds: Sequence[str], targets: Sequence[str]) -> tuple[bytes, list[str]]:
    """What `fluid.io.save_inference_model` writes as ``__model__``: the test form of a program, pruned.

    Args:
        program: Not changed.
        feeds: Names of what is fed, in the order of Paddle's feed ops.
        targets: Names of the results.

    Returns:
        The bytes, and the names under which the targets are fetched: ``save_infer_model/scale_0.tmp_0``, ...

    Raises:
        ProgramError: A name that the program lacks, or targets that need more than the feeds.
        ProgramDescError: Ops that Paddle does not have: all of them are listed.
    """
    test = inference_program(program, feeds, targets)
    names = [_scaled(test, position, target) for position, target in enumerate(targets)]
    return _serialised(test, list(test.global_block().ops), {*feeds}, feeds, names), names


def inference_program(program: Program, feeds: Sequence[str], targets: Sequence[str]) -> Program:
    """A test clone with the ops and variables alone that compute ``targets`` from ``feeds``.

    Raises:
        ProgramError: A name that the program lacks, or targets that need more than the feeds.
    """
    test = program.clone(for_test=True)
    block = test.global_block()
    for what, names in (("is fed", feeds), ("is a target", targets)):
        for name in names:
            if name not in block.vars:
                raise invalid(
                    f"save_inference_model: {name} {what}, but the program's forward part has no variable of that name",
                    "give names of data variables and of layers' results; list_vars() gives all names",
                )
    given = set(feeds)
    block.ops[:], needed = pruned(test, block.ops, set(targets), given)
    inner = [op for number in _blocks(test, block.ops) if number for op in test.blocks[number].ops]
    used = {name for op in (*block.ops, *inner) for name in (*op.input_arg_names, *op.output_arg_names)}
    used |= {*feeds, *targets}
    made = {name for op in block.ops for name in op.output_arg_names}
    missing = [name for name, var in block.vars.items() if name in needed and name not in made and not var.persistable]
    if missing:
        raise invalid(
            f"save_inference_model: the targets depend on {', '.join(missing)}, which is not fed",
            "add it to feeded_var_names, or choose targets that do not need it: predictions in place of a loss",
        )
    for name in [name for name in block.vars if name not in used]:
        del block.vars[name]
    test.edited()
    return test


def _scaled(program: Program, position: int, target: str) -> str:
    """Append the op of scale 1 that Paddle puts on each target, so that no pass removes it; gives its result's name."""
    block = program.global_block()
    source = block.vars[target]
    if not source.has_dtype or source.dtype is VarType.BOOL:
        return target  # Paddle has no kernel for it
    stem, number = f"save_infer_model/scale_{position}.tmp_", 0
    while f"{stem}{number}" in block.vars:
        number += 1
    out = block.create_var(
        name=f"{stem}{number}", dtype=source.dtype, shape=source.shape, lod_level=source.lod_level, stop_gradient=True
    )
    block.append_op("scale", {"X": [source]}, {"Out": [out]}, {"scale": 1.0, "bias": 0.0, "bias_after_scale": True})
    return out.name


def _forward(program: Program) -> list[Operator]:
    """Ops of the global block that have a form in Paddle: all of them where nothing is differentiated."""
    ops = program.global_block().ops
    if not any(op.type == "backward" for op in ops):
        return list(ops)
    persistable = {name for name, var in program.global_block().vars.items() if var.persistable}
    lost: set[str] = set()
    kept: list[Operator] = []
    for op in ops:
        if op.role is not OpRole.FORWARD or lost.intersection(op.input_arg_names):
            lost.update(name for name in op.output_arg_names if name not in persistable)
        else:
            kept.append(op)
    return kept


def _serialised(
    program: Program,
    ops: Sequence[Operator],
    wanted: set[str],
    feeds: Sequence[str] = (),
    fetches: Sequence[str] = (),
) -> bytes:
    """The program with these ops in its global block, the blocks that they need, and the variables of both."""
    numbers = _blocks(program, ops)
    ops_of = {number: program.blocks[number].ops if number else ops for number in numbers}
    every = [op for number in numbers for op in ops_of[number]]
    _check(every)
    used = wanted | {name for op in every for name in (*op.input_arg_names, *op.output_arg_names)}
    desc = program_desc_class()()
    for number, new in numbers.items():
        block = program.blocks[number]
        message = desc.blocks.add(idx=new, parent_idx=numbers[block.parent_idx] if number else -1, forward_block_idx=-1)
        for name, var in block.vars.items():
            # A program that is not pruned keeps its state, and what it may be fed.
            state = var.persistable or (var.is_data and not name.endswith(GRAD_SUFFIX))
            if name in used or (state and number == 0 and not fetches):
                _describe(message.vars.add(), var)
        if number == 0:
            _pass_in(message, feeds)
        for op in ops_of[number]:
            _write_op(message.ops.add(), op, numbers)
        if number == 0:
            _pass_out(message, fetches)
    desc.version.version = VERSION
    return desc.SerializeToString(deterministic=True)


def _blocks(program: Program, ops: Iterable[Operator]) -> dict[int, int]:
    """The blocks that the ops need, the global one first, and their numbers in the file."""
    found = {0}
    todo = list(ops)
    while todo:
        op = todo.pop()
        if op.has_attr("sub_block") and op.attr("sub_block") not in found:
            found.add(op.attr("sub_block"))
            todo += program.blocks[op.attr("sub_block")].ops
    return {number: new for new, number in enumerate(sorted(found))}


def _check(ops: Iterable[Operator]) -> None:
    """Refuse ops that Paddle 1.8.5 does not have in this form."""
    wrong: Counter[str] = Counter()
    places: dict[str, str] = {}
    for op in ops:
        proto = op_protos().get(op.type)
        for what in [op.type] if proto is None else _unknown(op, proto):
            wrong[what] += 1
            places.setdefault(what, op.loc.place)
    if wrong:
        listed = ", ".join(f"{count} x {what} (first at {places[what]})" for what, count in wrong.items())
        raise ProgramDescError(
            f"the program has ops that Paddle 1.8.5 does not have: {listed}",
            user_location().place,
            "an artifact or an ONNX file can hold them: fluidc compile; else write these layers with others",
        )


def _unknown(op: Operator, proto: OpProto) -> list[str]:
    slots = [s for s, names in op.inputs.items() if names and s not in proto.inputs]
    slots += [s for s, names in op.outputs.items() if names and s not in proto.outputs]
    own = (name for kind, name in _OWN if kind == op.type)
    attrs = op.attrs.keys() - proto.attrs.keys() - _KERNELS - set(own)
    return [f"{op.type} with the slot {slot}" for slot in slots] + [
        f"{op.type} with the attribute {name}" for name in sorted(attrs)
    ]


def _describe(message: Any, var: Variable) -> None:
    """Fill the description of one variable."""
    message.name = var.name
    message.type.type = int(var.type)
    message.persistable = var.persistable
    if var.need_check_feed:
        message.need_check_feed = True
    tensor = None
    if var.type is VarType.LOD_TENSOR:
        message.type.lod_tensor.lod_level = var.lod_level
        tensor = message.type.lod_tensor.tensor
    elif var.type is VarType.LOD_TENSOR_ARRAY:
        message.type.tensor_array.lod_level = var.lod_level
        tensor = message.type.tensor_array.tensor
    elif var.type is VarType.SELECTED_ROWS:
        tensor = message.type.selected_rows
    elif var.type is VarType.READER:
        for each in var.fields:
            described = message.type.reader.lod_tensor.add(lod_level=each.lod_level)
            described.tensor.data_type = int(each.dtype)
            described.tensor.dims.extend(each.shape)
    if tensor is not None:
        tensor.data_type = int(var.dtype if var.has_dtype else VarType.FP32)
        tensor.dims.extend(var.shape)


def _pass_in(message: Any, feeds: Sequence[str]) -> None:
    if feeds:
        message.vars.add(name=FEED, persistable=True).type.type = int(VarType.FEED_MINIBATCH)
    for column, name in enumerate(feeds):
        op = message.ops.add(type=FEED)
        op.inputs.add(parameter="X", arguments=[FEED])
        op.outputs.add(parameter="Out", arguments=[name])
        write_attr(op, "col", AttrType.INT, column)
        write_attr(op, "op_role", AttrType.INT, 0)


def _pass_out(message: Any, fetches: Sequence[str]) -> None:
    if fetches:
        message.vars.add(name=FETCH, persistable=True).type.type = int(VarType.FETCH_LIST)
    for column, name in enumerate(fetches):
        op = message.ops.add(type=FETCH)
        op.inputs.add(parameter="X", arguments=[name])
        op.outputs.add(parameter="Out", arguments=[FETCH])
        write_attr(op, "col", AttrType.INT, column)
        write_attr(op, "op_role", AttrType.INT, 0)


def _write_op(message: Any, op: Operator, numbers: dict[int, int]) -> None:
    message.type = op.type
    for slots, written in ((op.inputs, message.inputs), (op.outputs, message.outputs)):
        for slot, names in slots.items():
            written.add(parameter=slot, arguments=names)
    types = op_protos()[op.type].attrs
    values = _values(op, numbers)
    for name in sorted(values):
        if name in types:
            try:
                write_attr(message, name, types[name], values[name])
            except ValueError as error:
                raise ProgramDescError(
                    f"{op.loc.layer or op.type}: attribute {name} = {values[name]!r} does not fit into a ProgramDesc: "
                    f"{error}",
                    op.loc.place,
                    "change the layer's argument",
                ) from None
    write_attr(message, "op_namescope", AttrType.STRING, op.namescope)
    write_attr(message, "op_role", AttrType.INT, int(op.role))


def _values(op: Operator, numbers: dict[int, int]) -> dict[str, Any]:
    """The attributes as Paddle has them."""
    values = {name: value for name, value in op.attrs.items() if value is not None}
    if "sub_block" in values:
        values["sub_block"] = numbers[values["sub_block"]]
    if op.type == "assign_value" and "values" in values:
        values |= _constant(np.asarray(values["values"]))
    if op.type in ("slice", "strided_slice"):
        # Which bounds are numbers; Paddle's strided_slice crashes without.
        values.setdefault("infer_flags", [1] * len(values["axes"]))
    if op.type in _FILLS:
        values["str_value"] = _number(values["value"], values["dtype"])
    return values


def _constant(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    dtype = convert_dtype(array.dtype)
    field = {VarType.BOOL: "bool", VarType.INT32: "int32", VarType.INT64: "int64"}.get(dtype, "fp32")
    if field == "fp32" and dtype is not VarType.FP32:
        array, dtype = array.astype(np.float32), VarType.FP32
    numbers = array.reshape(-1).astype(np.int32) if field == "bool" else array.reshape(-1)
    return {"shape": list(array.shape), "dtype": dtype, f"{field}_values": numbers.tolist()}


def _number(value: float, dtype: VarType) -> str:
    """The text from which Paddle's kernel reads what a float32 cannot hold; "" where it takes the float."""
    if not math.isfinite(value):
        return ""
    return str(int(value)) if not dtype.is_float else repr(float(value))
