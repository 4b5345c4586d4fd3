"""fluid.io: readers, saved state, and models of other formats."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .dataloader.mapped import BatchSampler, DataLoader, Dataset, default_collate_fn
from .dataloader.py_reader import PyReader
from .formats.errors import StateFileError
from .missing import MissingName, missing_name
from .program_state import load, load_program_state, save, set_program_state
from .reader import (
    ComposeNotAligned,
    batch,
    buffered,
    cache,
    chain,
    compose,
    firstn,
    map_readers,
    multiprocess_reader,
    shuffle,
    xmap_readers,
)
from .saved_variables import (
    get_parameter_value,
    get_parameter_value_by_name,
    get_program_parameter,
    get_program_persistable_vars,
    is_parameter,
    is_persistable,
)
from .saving import load_params, load_persistables, load_vars, save_params, save_persistables, save_vars
from .variable import Variable

if TYPE_CHECKING:
    from .compat.onnx import OnnxModel
    from .compat.program_desc.inference_model import InferenceModel
    from .compat.program_desc.loading import LoadedProgram
    from .framework import Program


def load_onnx(
    path: str | os.PathLike[str],
    *,
    inputs: Mapping[str, Variable | np.ndarray] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    trainable: str | Sequence[str] | None = None,
) -> OnnxModel:
    """Append a forward model in ONNX to the default main program, as a layer does.

    What the file holds as initialisers become parameters, under the file's names; the startup program gives them the
    file's values. The model then trains like any other: `program.clone(for_test=True)`, privately too, on every target.

        model = fluid.io.load_onnx("classifier.onnx")
        label = fluid.data("label", [None, 1], dtype="int64")
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(model.outputs[0], label))
        fluid.optimizer.Adam(1e-4).minimize(loss)

    Args:
        path: The ``.onnx`` file; external data must lie in its folder.
        inputs: Variables, or arrays for constants, to be taken for inputs of the model, by the file's names; the others
            become data variables.
        shapes: Shapes for inputs, None for what stays open, at best the batch only: extents that the file leaves open
            are fixed, and one that it fixes (the batch of a model exported for one row) is opened.
        trainable: A glob pattern, or several, of the initialisers that become parameters (``["fc.*"]`` to train the
            last layers); the others are constants. By default those of floating point are parameters that have at least
            one axis and finite elements; running statistics of batch normalisation never are.

    Returns:
        ``OnnxModel(program, feeds, outputs, parameters, startup)``, a named tuple.

    Raises:
        OnnxError: The file is damaged, unsafe or of an opset that cannot be imported, or has ops that cannot: all of
            them are listed.
        LoweringError: A node, which is named, asks for what the compiler cannot do.
    """
    from .compat.onnx import load_onnx as load  # onnx and the compiler take time to load

    return load(path, inputs=inputs, shapes=shapes, trainable=trainable)


def save_inference_model(
    dirname: str | os.PathLike[str],
    feeded_var_names: Sequence[str] | str,
    target_vars: Sequence[Variable | str] | Variable,
    executor: object,
    main_program: Program | None = None,
    model_filename: str | None = None,
    params_filename: str | None = None,
    export_for_deployment: bool = True,
    program_only: bool = False,
) -> list[str]:
    """Write what predicts ``target_vars``, and the values it needs, as Paddle 1.8.5 loads them.

    The program is pruned to what computes the targets from what is fed, in test mode. It is not changed itself. All
    files are written, or none: those of an earlier model stay as they were.

    Args:
        dirname: The folder; made if it is not there.
        feeded_var_names: Names of the data variables, in the order in which Paddle's predictor takes them.
        target_vars: What is predicted.
        executor: Fluid's; values are those of the global scope.
        main_program: The default main program if None.
        model_filename: ``__model__`` if None.
        params_filename: One file for all values; one for each variable, under its name, if None.
        export_for_deployment: Fluid's; without effect.
        program_only: Write no values.

    Returns:
        Names of the targets in the file: ``save_infer_model/scale_0.tmp_0``, ...

    Raises:
        ProgramError: A name that the program lacks, targets that need more than is fed, or a variable without a value.
        ProgramDescError: Ops that Paddle does not have: all of them are listed.
        StateFileError: The folder cannot be written.
    """
    from .compat.program_desc.inference_model import save_inference_model as save  # loads protobuf

    return save(
        dirname,
        feeded_var_names,
        target_vars,
        executor,
        main_program,
        model_filename,
        params_filename,
        export_for_deployment,
        program_only,
    )


def load_inference_model(
    dirname: str | os.PathLike[str],
    executor: object,
    model_filename: str | None = None,
    params_filename: str | None = None,
    pserver_endpoints: Sequence[str] | None = None,
) -> InferenceModel:
    """Read an inference model that Paddle 1.x, or `save_inference_model`, wrote; its values go into the global scope.

        program, feed_names, fetch_targets = fluid.io.load_inference_model("model", exe)
        (prediction,) = exe.run(program, feed={feed_names[0]: images}, fetch_list=fetch_targets)

    The program trains on like any other: parameters are its persistable tensors of floating point that its ops read,
    those with running statistics frozen. Either the whole model is loaded, or nothing.

    Args:
        dirname: The folder.
        executor: Fluid's; not needed.
        model_filename: ``__model__`` if None.
        params_filename: The file that holds all values; one for each variable if None.
        pserver_endpoints: Fluid's; without effect.

    Returns:
        ``(program, feed_names, fetch_targets)``.

    Raises:
        ProgramDescError: No ProgramDesc, a damaged one, or one with ops that cannot be compiled: all are listed.
        StateFileError: Values that are missing or damaged.
    """
    from .compat.program_desc.inference_model import load_inference_model as load  # loads protobuf and the compiler

    return load(dirname, executor, model_filename, params_filename, pserver_endpoints)


def load_program(
    model: str | os.PathLike[str] | bytes,
    startup: str | os.PathLike[str] | bytes | None = None,
    *,
    trainable: str | Sequence[str] | None = None,
    mechanism: str = "gaussian",
    clip: float | None = None,
    batch_size: float | None = None,
    sigma: float | None = None,
    dataset_size: int | None = None,
    sample_rate: float | None = None,
    delta: float | None = None,
    max_steps: int | None = None,
    epsilon: float | None = None,
    sampler: str | None = None,
    adjacency: str | None = None,
) -> LoadedProgram:
    """Read a program that Paddle 1.x saved: a ``.pdmodel``, a ``__model__``, or ``program.desc.serialize_to_string()``.

    A training program trains here as it does there: its gradient ops become one backward for each loss; clips, decay,
    schedules and updates are kept.

        main, startup, feeds, _, (loss,), _ = fluid.io.load_program("train.pdmodel", "startup.pdmodel")
        exe.run(startup)
        exe.run(main, feed=batch, fetch_list=[loss])

    Paddle's ``dpsgd`` ops are not private. They are replaced by differentially private SGD, as `fluid.optimizer.Dpsgd`
    trains, and what was replaced is printed. Clips and decay that the program applies before ``dpsgd`` are then applied
    to the private gradient. The constants are the ops' own unless stated; to keep the ops for comparison, say
    ``mechanism="paddle"``.

    Args:
        model: A file, a folder with a ``__model__``, or the bytes.
        startup: The program that initialises it, likewise; None: load values with `fluid.load` or `fluid.io.load_vars`.
        trainable: A glob, or several, of the parameters to be trained, for programs without an optimizer of their own.
        mechanism: gaussian, discrete, or paddle.
        clip: C; the ops' ``clip`` if None.
        batch_size: L; the ops' ``batch_size`` if None.
        sigma: Noise multiplier; from ``epsilon`` where that is stated, else the ops' ``sigma``, if None.
        dataset_size, sample_rate, delta, max_steps, epsilon, sampler, adjacency: As in `fluid.optimizer.Dpsgd`.

    Returns:
        ``LoadedProgram(program, startup, feeds, outputs, losses, parameters)``, a named tuple.

    Raises:
        ProgramDescError: No ProgramDesc, a damaged one, or one with ops that cannot be compiled: all are listed.
        PrivacyError: What is stated does not fit the program, or cannot be part of a guarantee.
    """
    from .compat.program_desc.dpsgd import PrivacyRequest  # loads protobuf and the compiler
    from .compat.program_desc.loading import load_program as load

    request = PrivacyRequest(
        mechanism,
        clip,
        batch_size,
        sigma,
        dataset_size,
        sample_rate,
        delta,
        max_steps,
        epsilon,
        sampler,
        adjacency,
    )
    return load(model, startup, trainable=trainable, request=request)


def __getattr__(name: str) -> MissingName:
    return missing_name("fluid.io", name, {}, "feed arrays to Executor.run")


__all__ = [
    "BatchSampler",
    "ComposeNotAligned",
    "DataLoader",
    "Dataset",
    "PyReader",
    "StateFileError",
    "batch",
    "buffered",
    "cache",
    "chain",
    "compose",
    "default_collate_fn",
    "firstn",
    "get_parameter_value",
    "get_parameter_value_by_name",
    "get_program_parameter",
    "get_program_persistable_vars",
    "is_parameter",
    "is_persistable",
    "load",
    "load_inference_model",
    "load_onnx",
    "load_params",
    "load_persistables",
    "load_program",
    "load_program_state",
    "load_vars",
    "map_readers",
    "multiprocess_reader",
    "save",
    "save_inference_model",
    "save_params",
    "save_persistables",
    "save_vars",
    "set_program_state",
    "shuffle",
    "xmap_readers",
]
