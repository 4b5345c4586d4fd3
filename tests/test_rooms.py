"""Who may import whom.  The tables below are the architecture; a new edge is a decision, not an accident."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
from imports import ROOT, Import, imports, imports_of, modules

# A module belongs to the longest prefix that it matches, and may import that prefix and what it lists.  A listed
# prefix that has a line of its own stands for the modules of that line only.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    # The runtime stands alone: a machine that only runs artifacts needs neither compiler nor frontend.
    "runtime": (),
    # From the runtime: the base of all errors, and per part what it shares with the reader of artifacts.
    "compiler.errors": ("runtime.errors",),
    "compiler.folders": (),
    "compiler.ir": ("compiler.errors",),
    "compiler.ops": ("compiler.errors", "compiler.ir", "runtime.keystream"),
    "compiler.privacy": ("compiler.errors", "compiler.folders", "runtime.limits"),
    "compiler.passes": ("compiler.errors", "compiler.ir", "compiler.ops"),
    "compiler.pipeline": ("compiler.errors", "compiler.ir", "compiler.passes"),
    # A target names its machine as the manifest does, and runs what it built by the runtime's engine.
    "compiler.codegen": (
        "compiler.errors", "compiler.folders", "compiler.ir", "compiler.ops", "runtime.errors",
        "runtime.manifest", "runtime.engine", "runtime.cuda", "runtime.tvm_engine", "runtime.tvm_abi",
        "runtime.onnx_engine", "runtime.threads", "runtime.processor", "runtime.kernels", "runtime.sizes",
        "runtime.roofline", "runtime.libraries", "compiler.codegen.onnx.join",
    ),
    # Sums are written as ONNX Runtime computes them best.
    "compiler.codegen.onnx.join": ("compiler.passes", "compiler.ir", "compiler.ops"),
    # For on-device training a step is taken apart before it is exported.
    "compiler.codegen.onnx.on_device": (
        "compiler.codegen", "compiler.passes", "compiler.errors", "compiler.ir", "compiler.ops",
    ),
    "compiler.driver": ("compiler", "runtime.artifact", "runtime.manifest", "runtime.privacy"),
    # Programs and layers are records: of the compiler they know its errors only, and of the runtime its warning; and
    # the memory of state, which tensors are, and the devices that a script may choose its place among.
    "frontend": (
        "frontend.host.functions", "frontend.io", "frontend.dygraph", "frontend.formats",
        "frontend.compat.program_desc", "compiler.errors",
        "runtime.errors", "runtime.limits", "runtime.buffers", "runtime.cuda",
    ),
    # Models of other formats become Programs; types of their Variables come from lowering them.
    "frontend.compat": (
        "frontend", "frontend.formats", "frontend.lower", "compiler.errors", "compiler.ir", "compiler.ops",
    ),
    # Programs are parsed from and serialised to ProgramDescs.
    "frontend.compat.program_desc": (
        "frontend", "frontend.lower", "frontend.formats", "compiler.errors", "runtime.errors",
    ),
    "frontend.io": ("frontend", "frontend.formats", "frontend.compat", "frontend.compat.program_desc"),
    # Bytes of saved state: no Program, scope or layer is known there.
    "frontend.formats": ("runtime.errors", "runtime.files"),
    # The bridges to the compiler and the runtime.
    "frontend.lower": (
        "frontend", "compiler.errors", "compiler.ir", "compiler.ops", "compiler.privacy", "compiler.driver",
        "runtime.limits", "runtime.extents",
    ),
    "frontend.open_sizes": ("frontend", "compiler.ir"),
    "frontend.feed_types": ("frontend", "frontend.open_sizes", "compiler.errors", "compiler.ir"),
    "frontend.steps": ("frontend", "compiler", "runtime"),
    # Programs with host ops are taken apart into segments, which are programs with typed feeds.
    "frontend.host": ("frontend", "frontend.feed_types", "compiler.errors", "compiler.ir", "runtime.buffers"),
    "frontend.hosted": ("frontend", "frontend.host", "frontend.lower", "compiler.errors", "runtime.errors"),
    # Eager mode records what layers do, and gives it to the compiler when a value is looked at.
    "frontend.dygraph": (
        "frontend", "frontend.host", "frontend.formats", "frontend.dygraph.execution", "frontend.dygraph.traced_layer",
        "frontend.dygraph.program_translator", "frontend.dygraph.private_execution", "compiler.errors",
        "runtime.buffers", "runtime.errors", "runtime.keystream",
    ),
    # What was traced is run by an Executor, and saved as other programs are.
    "frontend.dygraph.traced_layer": ("frontend", "frontend.dygraph", "frontend.io", "frontend.executor"),
    "frontend.dygraph.program_translator": (
        "frontend", "frontend.dygraph", "frontend.dygraph.traced_layer", "frontend.io",
    ),
    "frontend.dygraph.execution": (
        "frontend", "frontend.dygraph", "frontend.lower", "compiler", "runtime",
    ),
    "frontend.dygraph.private_execution": (
        "frontend", "frontend.dygraph", "frontend.dygraph.execution", "frontend.lower", "frontend.steps", "compiler",
        "runtime",
    ),
    "frontend.compiled_program": ("frontend", "compiler"),
    # From programs to steps that run: compiled code, on the buffers of a scope, kept for the next run.
    "frontend.compiled_code": ("frontend", "frontend.lower", "compiler", "runtime"),
    "frontend.bound_step": ("frontend", "frontend.compiled_code", "frontend.steps", "compiler.ir", "runtime"),
    "frontend.step_cache": (
        "frontend", "frontend.bound_step", "frontend.compiled_code", "frontend.feed_types", "frontend.open_sizes",
    ),
    "frontend.executor": (
        "frontend", "frontend.bound_step", "frontend.compiled_code", "frontend.compiled_program",
        "frontend.feed_types", "frontend.host", "frontend.hosted", "frontend.step_cache", "frontend.steps", "compiler",
        "runtime",
    ),
    "frontend.fleet": ("frontend", "frontend.compiled_program", "frontend.io"),
    "frontend.parallel_executor": ("frontend", "frontend.compiled_program", "frontend.executor"),
    "frontend.install_check": ("frontend", "frontend.compiled_program", "frontend.executor"),
    "frontend.privacy": (
        "frontend", "frontend.dygraph", "frontend.dygraph.private_execution", "frontend.feed_types", "frontend.lower",
        "frontend.steps", "compiler", "runtime",
    ),
    # Scripts of Paddle find modules of fluid under Paddle's names, and data sets, whatever these are made of.
    "frontend.paddle": (
        "frontend", "frontend.io", "frontend.dygraph", "frontend.formats", "frontend.executor", "compiler.errors",
        "runtime.errors",
    ),
    # An audit looks at artifacts, not at programs.
    "frontend.audit": ("runtime",),
    # A bundle is made of the runtime's files.
    "frontend.bundle": ("runtime",),
    # A benchmark compiles programs of its own and times their steps.
    "frontend.bench": ("frontend", "frontend.lower", "compiler", "runtime"),
    "frontend.cli": (
        "frontend", "frontend.lower", "frontend.executor", "frontend.privacy", "frontend.audit", "frontend.bench",
        "frontend.bundle", "frontend.compat", "frontend.compat.program_desc", "frontend.formats", "frontend.paddle",
        "frontend.dygraph.traced_layer", "compiler", "runtime",
    ),
}  # fmt: skip

# Families of ops do not import each other: rules get a builder.  The exceptions are layers of one subject.
FAMILY_IMPORTS: dict[str, tuple[str, ...]] = {
    "activation": ("unary",),  # activations decompose into unary ops
    "branching": ("control",),  # while with a trip count is a scan
    "dp_noise": ("dp",),  # noise is of the clip bound, and stands in the same stages
    "indexing": ("embedding", "reduce"),  # row look-up and accumulation loops
    "loss_layers": ("loss",),  # fluid's loss layers decompose into the core losses
    "ragged_move": ("ragged",),  # the rows of a ragged value
    "ragged_pad": ("ragged",),  # ragged values as numpy has them, and the lengths of their rows
}
# Modules of compiler/ops that are no family: what families share, and what sees all families.
SHARED = {
    "apart",
    "base",
    "emit",
    "kinds",
    "composite",
    "loops",
    "region",
    "minstd",
    "logf",
    "norm_bound",
    "optim_base",
    "pool_base",
    "factors",
    "by_example",
    "onnx_conv",
    "onnx_pool",
    "onnx_places",
    "onnx_forms",
    "onnx_loops",
    "onnx_rows",
    "drawing",
}
ABOVE_FAMILIES = {"construct", "matrix"}

# Where a package outside the standard library may be imported; numpy everywhere.
THIRD_PARTY: dict[str, tuple[str, ...]] = {
    "numpy": ("compiler", "frontend", "runtime"),
    "ml_dtypes": ("compiler.ir.types", "runtime.tensors"),
    "onnx": ("compiler.codegen.onnx", "frontend.compat.onnx"),
    "tvm": ("compiler.codegen.tvm",),
    "tvm_ffi": ("compiler.codegen.tvm",),
    "onnxruntime": ("runtime.onnx_engine", "compiler.codegen.onnx.on_device.checkpoint"),
    "dp_accounting": ("compiler.privacy",),
    "scipy": ("compiler.privacy", "frontend.audit", "frontend.paddle.dataset.flowers"),
    "cryptography": ("runtime.keystream", "runtime.signature"),
    "safetensors": ("runtime.tensors",),
    "click": ("frontend.cli",),
    "google": ("frontend.compat.onnx", "frontend.compat.program_desc"),
    "rich": ("frontend.cli", "frontend.bench.report", "runtime.progress"),
    # Extras, loaded where they are asked for.
    "cv2": ("frontend.paddle.dataset.image",),
    "PIL": ("frontend.paddle.dataset.voc2012",),
    "pyarrow": ("runtime.table_files",),
    "tensorboardX": ("runtime.event_log",),
    "matplotlib": ("frontend.paddle.plot", "frontend.cli.privacy", "frontend.bench.report", "runtime.profile_plot"),
}
# Slow to import: only inside functions, or in modules that are themselves loaded on first use.
HEAVY = (
    "tvm",
    "tvm_ffi",
    "dp_accounting",
    "scipy",
    "onnx",
    "onnxruntime",
    "sklearn",
    "matplotlib",
    "pyarrow",
    "tensorboardX",
    "cv2",
    "PIL",
)
# Distributions whose name is not that of their module, and modules that come with a declared distribution.
DISTRIBUTIONS = {
    "tvm": "apache-tvm",
    "tvm_ffi": "apache-tvm",
    "ml_dtypes": "ml_dtypes",
    "dp_accounting": "dp-accounting",
    "scipy": "dp-accounting",
    "sklearn": "scikit-learn",
    "google": "protobuf",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
}


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def breaks_a_room(found: Import) -> bool:
    """Whether the import of a module of fluidc is not in the table."""
    room = max((prefix for prefix in MAY_IMPORT if within(found.importer, prefix)), key=len, default=None)
    if room is None:
        return found.importer in modules() and "." in found.importer
    target = max((prefix for prefix in MAY_IMPORT if within(found.imported, prefix)), key=len, default="")
    if target == room:
        return False
    return not any(
        within(found.imported, prefix) and (target == prefix or prefix not in MAY_IMPORT) for prefix in MAY_IMPORT[room]
    )


def listed(found: list[Import]) -> str:
    return "\n".join(map(str, found))


def test_every_import_is_in_the_table() -> None:
    wrong = [found for found in imports() if found.own and breaks_a_room(found)]
    # The fluid package offers its lazily loaded names to type checkers.
    wrong = [found for found in wrong if not (found.importer == "frontend" and found.typing_only)]
    assert not wrong, listed(wrong)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("runtime/stepper.py", "from ..compiler.driver import Source"),
        ("runtime/stepper.py", "from ..frontend import layers"),
        ("compiler/ir/core.py", "from ..ops.base import Op"),
        ("compiler/ops/linear.py", "from ..passes.base import Pass"),
        ("compiler/ops/linear.py", "from ..codegen.target import TARGETS"),
        ("compiler/passes/cse.py", "from ...runtime.ledger import Ledger"),
        ("compiler/driver.py", "from ..frontend.framework import Program"),
        ("frontend/layers/nn.py", "from ...compiler.ops import linear"),
        ("frontend/framework.py", "from .executor import Executor"),
        ("frontend/layers/nn.py", "import importlib\nimportlib.import_module('fluidc.compiler.driver')"),
    ],
)
def test_the_table_refuses(file: str, line: str) -> None:
    found = [each for each in imports_of(Path(file), line) if each.own]
    assert found
    assert all(breaks_a_room(each) for each in found)


def test_no_module_imports_itself_through_others() -> None:
    """No cycles among imports that run, those inside functions included."""
    edges: dict[str, set[str]] = {name: set() for name in modules()}
    for found in imports():
        if found.own and not found.typing_only and found.imported in edges and found.imported != found.importer:
            edges[found.importer].add(found.imported)
    assert not (cycle := find_cycle(edges)), " -> ".join(cycle)


def find_cycle(edges: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        done.add(name)
        return next((cycle for after in sorted(edges[name]) if (cycle := visit(after, [*path, name]))), [])

    return next((cycle for name in sorted(edges) if (cycle := visit(name, []))), [])


def test_find_cycle() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_families_of_ops_stand_alone() -> None:
    wrong: list[Import] = []
    for found in imports():
        family, other = found.importer.removeprefix("compiler.ops."), found.imported.removeprefix("compiler.ops.")
        if not (within(found.importer, "compiler.ops") and within(found.imported, "compiler.ops") and family):
            continue
        if family in ABOVE_FAMILIES or found.importer == "compiler.ops" or found.imported == "compiler.ops":
            continue
        if other not in SHARED and other not in FAMILY_IMPORTS.get(family, ()):
            wrong.append(found)
    assert not wrong, listed(wrong)


def test_third_party_packages_are_imported_where_the_table_says() -> None:
    wrong: list[Import] = []
    for found in imports():
        top = found.imported.split(".")[0]
        if found.own or top in sys.stdlib_module_names:
            continue
        if not any(within(found.importer, prefix) for prefix in THIRD_PARTY.get(top, ())):
            wrong.append(found)
    assert not wrong, listed(wrong)


def test_the_op_rules_see_no_target() -> None:
    """Rules get an emitter; only code generators know a target's library."""
    for found in imports():
        if within(found.importer, "compiler.ops") or within(found.importer, "compiler.ir"):
            assert found.imported.split(".")[0] not in HEAVY, str(found)
            assert not within(found.imported, "compiler.codegen"), str(found)


def declared() -> set[str]:
    """Names of the distributions in pyproject.toml, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return {re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0].lower() for line in lines}


def test_what_is_imported_is_declared() -> None:
    """Also by the tests, examples and benchmarks."""
    files = [p for folder in ("tests", "examples", "benchmarks") for p in sorted((ROOT / folder).rglob("*.py"))]
    own_modules = {part.stem for path in files for part in (path, path.parent)}
    own_modules = {path.parent.name if path.name == "__init__.py" else path.stem for path in files}
    missing: list[str] = []
    outside = [each for path in files for each in imports_of(path.relative_to(ROOT), path.read_text())]
    for found in (*imports(), *outside):
        top = found.imported.split(".")[0]
        # Paddle makes goldens, and what benchmarks compare with runs, in environments of their own.
        elsewhere = {"paddle", "torch", "opacus", "jax", "conftest"}
        if found.own or top in sys.stdlib_module_names or top in own_modules or top in elsewhere:
            continue
        if DISTRIBUTIONS.get(top, top).lower() not in declared():
            missing.append(str(found))
    assert not missing, "\n".join(missing)
