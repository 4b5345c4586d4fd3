"""Gradients as a request: one ``backward`` record says whose gradients are wanted; the compiler makes them.

The record's slots and attributes:

- ``Targets``: what is differentiated; ``TargetGradients``: where given, what to start from instead of ones.
- ``Wrt`` and ``Grads``: variables and the names of their gradients, in parallel.
- ``parameters``: the names in ``Wrt`` that an optimizer may update; ``no_grad_set``: names not to pass through.
- ``privacy``: a `PrivacySpec`, or None; under it the gradients of parameters are the privatised ones.
- ``clip_state``: the variable that holds the bound of quantile clipping; "" for the other modes.
- ``error_clip``: ``[name, min, max]`` for variables whose own gradient is clipped on the way.
- ``checkpoints``: names after which the forward pass may be recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .errors import invalid, unsupported, wrong_type
from .framework import Block, Operator, OpRole, Program
from .layer_helper import check_variable
from .privacy_spec import PrivacySpec
from .reach import ancestors, descendants
from .variable import GRAD_SUFFIX, Parameter, Variable

NameOrVariable = str | Variable


def names_of(layer: str, argument: str, values: Iterable[NameOrVariable] | NameOrVariable | None) -> list[str]:
    """Names of a list of names and Variables; [] for None."""
    if values is None:
        return []
    if isinstance(values, str | Variable):
        values = [values]
    names: list[str] = []
    for value in values:
        if isinstance(value, Variable):
            names.append(value.name)
        elif isinstance(value, str):
            names.append(value)
        else:
            raise wrong_type(f"{layer}: {argument} holds {type(value).__name__}", "give Variables or their names")
    return names


def _gradient_names(block: Block, sources: Sequence[str]) -> list[str]:
    """``p@GRAD``; where an earlier backward has that one ``grad/grad/p@GRAD``, then one ``grad/`` more each time."""
    names: list[str] = []
    for source in sources:
        name = source + GRAD_SUFFIX
        if block.has_var(name):
            name = f"grad/grad/{name}"
            while name in block.vars:
                name = f"grad/{name}"
        names.append(name)
    return names


def _record(
    program: Program,
    targets: Sequence[Variable],
    starts: Sequence[Variable],
    sources: Sequence[Variable],
    no_grad: Sequence[str],
    privacy: PrivacySpec | None,
    checkpoints: Sequence[str],
    clip_state: str = "",
) -> list[Variable]:
    block = program.global_block()
    grads = [
        block.create_var(name=name, shape=v.shape, dtype=v.dtype, lod_level=v.lod_level)
        for name, v in zip(_gradient_names(block, [v.name for v in sources]), sources)
    ]
    clips = [[v.name, v.error_clip.min, v.error_clip.max] for v in block.vars.values() if v.error_clip is not None]
    with program.role(OpRole.BACKWARD):
        block.append_op(
            "backward",
            {"Targets": targets, "TargetGradients": starts, "Wrt": sources},
            {"Grads": grads},
            {
                "parameters": [v.name for v in sources if isinstance(v, Parameter)],
                "no_grad_set": list(no_grad),
                "privacy": privacy,
                "clip_state": clip_state,
                "error_clip": clips,
                "checkpoints": list(checkpoints),
            },
        )
    return grads


def _blocked(block: Block, no_grad: Iterable[str]) -> set[str]:
    stopped = {name for name, var in block.vars.items() if var.stop_gradient}
    return stopped | set(no_grad)


def append_backward(
    loss: Variable,
    parameter_list: Sequence[NameOrVariable] | None = None,
    no_grad_set: Iterable[NameOrVariable] | None = None,
    callbacks: Sequence[Callable[..., None]] | None = None,
    checkpoints: Sequence[NameOrVariable] | None = None,
    *,
    privacy: PrivacySpec | None = None,
    clip_state: str = "",
) -> list[tuple[Parameter, Variable]]:
    """Ask for the gradients of ``loss`` with respect to parameters.

    Args:
        loss: One element, floating point, of the program being built.
        parameter_list: Parameters or names; all trainable ones that the loss depends on if None.
        no_grad_set: Variables that no gradient passes through.
        callbacks: Not available: no gradient op exists yet when the script runs.
        checkpoints: Where the forward pass may be recomputed to save memory.
        privacy: Set by `Dpsgd` and `DpOptimizer`.
        clip_state: Set by them: the variable that holds the bound of quantile clipping.

    Returns:
        ``[(parameter, its gradient)]`` in the order in which the parameters were created, or were listed.

    Raises:
        ProgramError: The loss is not one element, or a listed parameter does not exist.
    """
    check_variable("append_backward", "loss", loss)
    if callbacks:
        raise unsupported(
            "append_backward: callbacks are not available",
            "append layers on p@GRAD between optimizer.backward() and optimizer.apply_gradients()",
        )
    program = loss.block.program
    block = program.global_block()
    if loss.block is not block:
        raise invalid(f"append_backward: {loss.name} is inside a control-flow block", "return it from the block first")
    if loss.shape not in ((1,), ()):
        raise invalid(
            f"append_backward: the loss {loss.name} has shape {list(loss.shape)}, but must have one element",
            "reduce it: fluid.layers.mean(loss)",
        )
    if not loss.dtype.is_float:
        raise wrong_type(
            f"append_backward: the loss {loss.name} holds {loss.dtype.numpy.name}", "a loss must be floating point"
        )
    no_grad = names_of("append_backward", "no_grad_set", no_grad_set)
    needed = ancestors(program, block.ops, {loss.name})
    candidates = {p.name: p for p in block.all_parameters() if p.trainable and not p.stop_gradient}
    if parameter_list is not None:
        wanted = names_of("append_backward", "parameter_list", parameter_list)
        for name in wanted:
            if not isinstance(block.vars.get(name), Parameter):
                raise invalid(
                    f"append_backward: parameter_list names {name}, which is not a parameter of the program",
                    "all_parameters() lists them",
                )
    else:
        wanted = list(candidates)
    blocked = _blocked(block, no_grad)
    sources = [
        candidates[name]
        for name in wanted
        if name in candidates
        and name in needed
        and loss.name in descendants(program, block.ops, {name} - blocked, blocked)
    ]
    grads = _record(
        program,
        [loss],
        [],
        sources,
        no_grad,
        privacy,
        names_of("append_backward", "checkpoints", checkpoints),
        clip_state,
    )
    return list(zip(sources, grads))


def gradients(
    targets: Variable | Sequence[Variable],
    inputs: Variable | Sequence[Variable],
    target_gradients: Variable | Sequence[Variable | None] | None = None,
    no_grad_set: Iterable[NameOrVariable] | None = None,
) -> list[Variable | None]:
    """Gradients of (the sum of) ``targets`` with respect to ``inputs``, each of its input's shape.

    Args:
        targets: What to differentiate.
        inputs: With respect to what; gives None for an input that no target depends on.
        target_gradients: Gradients to start from, of the targets' shapes; ones if None.
        no_grad_set: Variables that no gradient passes through.
    """
    listed = [targets] if isinstance(targets, Variable) else list(targets)
    wanted = [inputs] if isinstance(inputs, Variable) else list(inputs)
    for argument, values in (("targets", listed), ("inputs", wanted)):
        if not values:
            raise invalid(f"gradients: {argument} is empty", "give at least one Variable")
        for v in values:
            check_variable("gradients", argument, v)
    program = listed[0].block.program
    block = program.global_block()
    given = [] if target_gradients is None else target_gradients
    starts = [given] if isinstance(given, Variable) else list(given)
    if starts and len(starts) != len(listed):
        raise invalid(
            f"gradients: {len(listed)} targets but {len(starts)} target_gradients", "give one per target, or none"
        )
    for target, start in zip(listed, starts):
        if start is not None and start.shape != target.shape:
            raise invalid(
                f"gradients: {start.name} {list(start.shape)} cannot start the gradient of {target.name} "
                f"{list(target.shape)}",
                "a target's gradient has the target's shape",
            )
    no_grad = names_of("gradients", "no_grad_set", no_grad_set)
    blocked = _blocked(block, no_grad) - {v.name for v in wanted}
    goals = {v.name for v in listed}
    reached = [
        v
        for v in wanted
        if v.name not in no_grad and goals & descendants(program, block.ops, {v.name}, blocked - goals)
    ]
    if starts and any(s is None for s in starts):
        from_ones = [_ones(block, t) if s is None else s for t, s in zip(listed, starts)]
    else:
        from_ones = [s for s in starts if s is not None]
    grads = dict(zip([v.name for v in reached], _record(program, listed, from_ones, reached, no_grad, None, [])))
    return [grads.get(v.name) for v in wanted]


def _ones(block: Block, like: Variable) -> Variable:
    out = block.create_var(shape=like.shape, dtype=like.dtype, stop_gradient=True)
    block.append_op("fill_any_like", {"X": [like]}, {"Out": [out]}, {"value": 1.0})
    return out


def backward_records(program: Program) -> list[Operator]:
    """The backward records of a program, in order."""
    return [op for op in program.global_block().ops if op.type == "backward"]
