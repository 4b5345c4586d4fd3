"""Whole modules: a program's step, the startup that makes its state, and its test form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...compiler.driver import Source
from ...compiler.errors import LoweringError, PrivacyError
from ...compiler.ir.core import Function, Module, Output, PrivacyConfig
from ...compiler.ir.stage import Stage
from ...compiler.ir.types import Dim, DType, Sym, TensorType
from ...compiler.ops.state import Write
from ...compiler.privacy import FLOAT32_SLACK, PhaseRequest, PrivacyPlan, Run, resolve
from ...runtime.limits import DEFAULT_GRID_BITS, MAX_SCALE
from ..framework import Operator, Program
from ..lod import LENGTHS, OUTER
from ..privacy_spec import PrivacySpec
from ..reach import ancestors
from ..token_symbols import token_symbol, token_symbols
from ..variable import GRAD_SUFFIX, Variable
from . import (
    arrange,
    arrays,
    control,
    conv,
    creation,
    crf,
    ctc,
    detection,
    drawn,
    elementwise,
    geometry,
    if_else,
    later,
    linalg,
    lod,
    loops,
    loss,
    many_classes,
    norm,
    onnx,
    printing,
    reading,
    recurrent,
    select,
    sequence,
    training,
    vision,
    volume,
)
from .clipping import clip_of, with_clipping
from .context import BATCH, FunctionLowering, Rules, Shared, dtype_of

_FAMILIES: tuple[Rules, ...] = (
    elementwise.RULES,
    creation.RULES,
    detection.RULES,
    drawn.RULES,
    arrange.RULES,
    loss.RULES,
    conv.RULES,
    norm.RULES,
    vision.RULES,
    volume.RULES,
    linalg.RULES,
    geometry.RULES,
    select.RULES,
    later.RULES,
    control.RULES,
    arrays.RULES,
    loops.RULES,
    if_else.RULES,
    crf.RULES,
    ctc.RULES,
    many_classes.RULES,
    sequence.RULES,
    lod.RULES,
    recurrent.RULES,
    training.RULES,
    reading.RULES,
    onnx.RULES,
    printing.RULES,
)


def rules() -> Rules:
    """Every op type that can be lowered, with its rule."""
    found = {name: rule for family in _FAMILIES for name, rule in family.items()}
    assert len(found) == sum(map(len, _FAMILIES)), "two families lower one op type"
    return found


def feed_types_of(var: Variable, shape: Sequence[int] | None = None, where: str | None = None) -> dict[str, TensorType]:
    """The types under which a data variable is fed: one, or for sequences their rows and their lengths.

    Nested sequences take two arrays of lengths: how many rows each has, and how many sequences each group.

    Args:
        var: A data variable; the one open extent is the batch N, of sequences their rows T (`token_symbols`).
        shape: Extents to use instead of the declared ones (-1 on axis 0 for the batch).
        where: A line that reads it, for errors.

    Raises:
        LoweringError: Several extents are open, or sequences are nested more than twice.
    """
    extents = list(var.shape if shape is None else shape)
    if sum(d < 0 for d in extents) > 1:
        stated = ",".join("N" if i == 0 else str(abs(d)) for i, d in enumerate(extents))
        raise LoweringError(
            f"{var.name} has the shape {extents}: only one extent, the batch, may be open",
            where=where,
            hint=f"state the others, such as --feed {var.name}={stated}",
        )
    if var.lod_level > 2:
        what = f"{var.name} has lod_level {var.lod_level}"
        raise LoweringError(what, where, "two levels of sequences can be compiled")
    dtype = dtype_of(var.dtype)
    if var.lod_level:
        symbol = token_symbol(var.block.program, var.name)
        rows = {var.name: TensorType(dtype, (Sym(symbol), *extents[1:]))}
        if var.lod_level == 1:
            return {**rows, var.name + LENGTHS: TensorType(DType.I64, (BATCH,))}
        sequences = TensorType(DType.I64, (Sym(f"S_{symbol}"),))
        return {**rows, var.name + LENGTHS: sequences, var.name + OUTER: TensorType(DType.I64, (BATCH,))}
    # Labels of the rows of sequences need not be declared as such.
    rows = Sym(token_symbols(var.block.program).get(var.name, BATCH.name))
    dims: list[Dim] = [d if d >= 0 else rows if axis == 0 else BATCH for axis, d in enumerate(extents)]
    return {var.name: TensorType(dtype, tuple(dims))}


def default_feeds(
    program: Program,
    ops: Sequence[Operator] | None = None,
    stated: Mapping[str, TensorType] | None = None,
    fetches: Sequence[str] = (),
) -> dict[str, TensorType]:
    """Types of the data variables that are fetched or read by the ops (the program's, if None), in their order.

    Types in ``stated`` take the place of the declared ones.
    """
    block = program.global_block()
    read = {name for op in (block.ops if ops is None else ops) for name in op.input_arg_names} | set(fetches)
    found: dict[str, TensorType] = {}
    for name, var in block.vars.items():
        if var.is_data and name in read:
            known = {n: stated[n] for n in (name, name + LENGTHS, name + OUTER) if n in stated} if stated else {}
            reader = next((op for op in (block.ops if ops is None else ops) if name in op.input_arg_names), None)
            found.update(known or feed_types_of(var, where=None if reader is None else reader.loc.place))
    return found


def privacy_spec(program: Program) -> PrivacySpec | None:
    """The privacy specification of the program's backward, if it is private.

    Raises:
        PrivacyError: The program has a second backward.
    """
    records = [op for op in program.global_block().ops if op.type == "backward"]
    private = [op for op in records if op.attr("privacy") is not None]
    if private and len(records) > 1:
        other = next(op for op in records if op is not private[0])
        raise PrivacyError(
            "a program with Dpsgd has a second backward, whose gradients would not be accounted for",
            where=other.loc.place,
            hint="train the other model in a program of its own, or use one Dpsgd for one sum of losses",
        )
    return private[0].attr("privacy") if private else None


def privacy_config(record: Operator, prior: Sequence[Run] = ()) -> tuple[PrivacyConfig, PrivacyPlan]:
    """The compiler's constants and the accountant's plan for a private backward; may calibrate sigma (seconds).

    Args:
        record: The backward record, with what the script states.
        prior: Earlier runs on the same data, which the stated epsilon covers too.
    """
    spec: PrivacySpec = record.attr("privacy")
    where = record.loc.place
    discrete = spec.mechanism == "discrete"
    clip, groups = clip_of(spec, record.attr("parameters"), where)
    plan = resolve(
        clip=clip,
        lot=spec.lot,
        sigma=spec.sigma,
        dataset_size=spec.dataset_size,
        sample_rate=spec.sample_rate,
        delta=spec.delta,
        max_steps=spec.max_steps,
        epsilon=spec.epsilon,
        sampler=spec.sampler,
        adjacency=spec.adjacency,
        slack=0.0 if discrete else FLOAT32_SLACK,
        where=where,
        prior=prior,
        phases=[PhaseRequest(p.steps, p.sigma, p.batch_size, p.sample_rate) for p in spec.phases],
    )
    bits = int((spec.clipping_options or {}).get("grid_bits", DEFAULT_GRID_BITS)) if discrete else 0
    if discrete and plan.sigma * 2.0**bits > MAX_SCALE:
        raise PrivacyError(
            f"sigma = {plan.sigma:g} on a grid of 2^{bits} units is noise of {plan.sigma * 2.0**bits:.3g} units, more "
            "than the 2^40 that are drawn exactly",
            where=where,
            hint="state a smaller clipping_options={'grid_bits': ...}, or a smaller sigma",
        )
    config = PrivacyConfig(
        clip=plan.clip,
        lot=plan.lot,
        sigma=plan.sigma,
        mechanism=spec.mechanism,
        slack=plan.slack,
        phases=tuple((phase.steps, phase.sigma, phase.lot) for phase in plan.phases),
        grid_bits=bits,
    )
    return with_clipping(config, spec, groups, record.attr("clip_state"), where), plan


def lower(
    program: Program,
    *,
    startup: Program | None = None,
    fetches: Sequence[str] = (),
    feed_types: Mapping[str, TensorType] | None = None,
    infer_fetches: Sequence[str] | None = None,
    skip_unknown: bool = False,
) -> Source:
    """Lower a program, and where asked for its startup and its test form.

    Args:
        program: Becomes the function ``step``.
        startup: Becomes the function ``startup``; None leaves it out.
        fetches: Names of variables, gradients (``h@GRAD``) included; of sequences also their lengths are returned,
            as ``NAME@lengths``.
        feed_types: Types of what is fed; those of `default_feeds` if None. Sequences are two feeds: their rows
            under the variable's name, and under ``NAME@lengths`` their lengths, i64[N].
        infer_fetches: What the function ``infer``, the test form pruned to them, returns; None leaves it out.
        skip_unknown: Leave out fetches that nothing computes (scratch results of Paddle's ops), which is an error else.

    Raises:
        LoweringError: A program without meaning as IR: an op that cannot be compiled, a name without value.
        PrivacyError: A gradient that exists only privatised is fetched, or the privacy constants do not fit.
    """
    block = program.global_block()
    for name in fetches:
        if name.endswith(GRAD_SUFFIX):
            block.var(name)  # puts a gradient on the backward record, or says why it cannot
    shared = Shared()
    spec = privacy_spec(program)
    config, plan = None, None
    trained: list[str] = []
    if spec is not None:
        record = block.private_backward()
        assert record is not None
        trained = record.attr("parameters")
        clip_state: str = record.attr("clip_state")
        if clip_state:
            shared.declare(block.var(clip_state), "optimizer")
        config, plan = privacy_config(record)
        public = sorted(name for name, var in block.vars.items() if var.is_public)
        config = replace(config, public_feeds=tuple(public))
    functions: list[Function] = []
    step = _function(
        "step", shared, program, block.ops, feed_types, fetches, private=spec is not None, skip_unknown=skip_unknown
    )
    if startup is not None:
        made = _function("startup", shared, startup, startup.global_block().ops, {}, (), initialises=True)
        if any(isinstance(op, Write) for op in made.ops):  # of a model whose values are all given, it makes nothing
            functions.append(made)
    functions.append(step)
    if infer_fetches is not None:
        test = program.clone(for_test=True)
        ops = test.global_block().ops
        needed = ancestors(test, ops, set(infer_fetches))
        kept = [op for op in ops if needed.intersection(op.output_arg_names)]
        # What is joined in training only is fed as one there.
        stated = default_feeds(program, fetches=fetches) if feed_types is None else feed_types
        types = default_feeds(test, kept, stated, infer_fetches)
        functions.append(_function("infer", shared, test, kept, types, infer_fetches))
    if spec is not None:
        # What gets no gradient is frozen: neither in the norm nor among the tensors that get noise.
        shared.freeze_all_but(trained)
    return Source(
        module=Module(Stage.CAPTURED, tuple(shared.state.values()), tuple(functions), config),
        fetches=tuple(output.name for output in step.outputs),
        ranges=shared.ranges,
        initial=shared.initial,
        plan=plan,
        seed=program.random_seed or None,
    )


def _function(
    name: str,
    shared: Shared,
    program: Program,
    ops: Sequence[Operator],
    feeds: Mapping[str, TensorType] | None,
    fetches: Sequence[str],
    *,
    private: bool = False,
    initialises: bool = False,
    skip_unknown: bool = False,
) -> Function:
    types = default_feeds(program, ops, fetches=fetches) if feeds is None else feeds
    lowering = FunctionLowering(shared, program, types, rules(), private=private, initialises=initialises)
    lowering.run(ops)
    outputs: list[Output] = []
    for fetch in fetches:
        value = lowering.read(fetch)
        if value is None and skip_unknown:
            continue
        if value is None:
            raise LoweringError(
                f"{fetch} is fetched, but nothing in the program computes it",
                hint="fetch a Variable of this program; list_vars() gives all names",
            )
        outputs += lowering.fetched(fetch, value)
    lowering.finish()
    return Function(name, tuple(lowering.params), tuple(lowering.b.ops), tuple(outputs))
