"""Code for other processors: what each name stands for, and what the runtime refuses to load."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import Any

import pytest
from linear_engine import linear_artifact
from tvm_rules import module_of

from fluidc.compiler.codegen.tvm.build import Options, compile_module
from fluidc.compiler.codegen.tvm.cpu import CPUS, LEVELS, Cpu, host_cpu, named_cpu
from fluidc.compiler.errors import TargetError
from fluidc.compiler.ir.core import Module
from fluidc.compiler.ir.types import DType, TensorType
from fluidc.runtime import processor
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.engines import engine_for
from fluidc.runtime.errors import EngineError
from fluidc.runtime.manifest import TargetSpec

ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
REGISTERS = {16: r"%xmm\d", 32: r"%ymm\d", 64: r"%zmm\d"}


def product_module() -> Module:
    types = [TensorType(DType.F32, shape) for shape in ((64, 96), (96, 64), (64, 64))]
    return module_of(types[:2], types[2:], lambda t, x, w: t.matmul(x, w, False, False))


@pytest.mark.parametrize("cpu", CPUS.values(), ids=CPUS)
def test_cross_compile(cpu: Cpu, tmp_path: Any) -> None:
    """The object is one of that architecture, and the product runs in its widest vectors and in no wider ones."""
    made = compile_module(product_module(), Options(cpu, 3))
    assert made.spec == TargetSpec("cpu", cpu.triple, cpu.name, cpu.features, 3)
    library = made.executable.mod.imports[0]
    library.write_to_file(str(tmp_path / "product.o"), "o")
    header = (tmp_path / "product.o").read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert struct.unpack("<H", header[18:20]) == (ELF_MACHINES[cpu.machine],)
    assembly = str(library.inspect_source("s"))
    if cpu.machine == "aarch64":
        inner = re.search(r"fmla\tv\d+\.4s.*fmla\tv\d+\.4s", assembly, re.DOTALL)
        # Vectors of eight floats are pairs of registers, and the product's tile fits into them, or nearly so.
        assert inner
        assert 10 * len(re.findall(r"\tq\d+, .*\[sp", inner[0])) <= inner[0].count("fmla")
        return
    for width, register in REGISTERS.items():
        assert bool(re.search(register, assembly)) or width != cpu.vector_bytes, register
        assert not re.search(register, assembly) or width <= cpu.vector_bytes, register
    assert ("vfmadd" in assembly) == ("fma" in cpu.features)


def test_levels_include_each_other() -> None:
    flags = [set(CPUS[level].features) for level in LEVELS]
    assert flags[0] < flags[1] < flags[2]
    for cpu in CPUS.values():
        if cpu.machine == "x86_64":
            assert flags[LEVELS.index({16: "x86-64-v2", 32: "x86-64-v3", 64: "x86-64-v4"}[cpu.vector_bytes])] <= set(
                cpu.features
            )


@pytest.mark.parametrize(
    ("machine", "flags", "level"),
    [
        ("x86_64", "x86-64-v2", "x86-64-v2"),
        ("x86_64", "znver3", "x86-64-v3"),
        ("x86_64", "icelake-server", "x86-64-v4"),
        ("aarch64", "neoverse-n1", "aarch64"),
    ],
)
def test_native_is_a_level(monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, level: str) -> None:
    from fluidc.compiler.codegen.tvm import cpu

    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    monkeypatch.setattr(cpu, "host_flags", lambda: frozenset(CPUS[flags].features))
    assert cpu.host_cpu.__wrapped__() == CPUS[level]


def test_a_machine_below_every_level(monkeypatch: pytest.MonkeyPatch) -> None:
    from fluidc.compiler.codegen.tvm import cpu

    monkeypatch.setattr(cpu, "host_flags", lambda: frozenset({"sse2"}))
    monkeypatch.setattr(cpu.platform, "machine", lambda: "x86_64")
    with pytest.raises(TargetError, match="needs at least an x86-64-v2 machine"):
        cpu.host_cpu.__wrapped__()


def test_names() -> None:
    assert named_cpu("aarch64+neon") is CPUS["aarch64"]
    assert named_cpu("native") is host_cpu()
    with pytest.raises(TargetError, match=r"unknown CPU 'pentium'[\s\S]*native, x86-64-v2, .*znver5.*neoverse-v2"):
        named_cpu("pentium")


# What does not run here -----------------------------------------------------------------------------------


def forged(target: TargetSpec) -> Artifact:
    """An artifact that says it was compiled for ``target``, with code that would not even load."""
    artifact = linear_artifact()
    return Artifact(replace(artifact.manifest, target=target), modules={"module.so": b"never loaded"})


@pytest.fixture
def avx2_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(processor, "host_flags", lambda: frozenset(CPUS["x86-64-v3"].features))


def spec(cpu: Cpu) -> TargetSpec:
    return TargetSpec("cpu", cpu.triple, cpu.name, cpu.features, 2)


@pytest.mark.usefixtures("avx2_machine")
@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("x86-64-v4", "avx512bw, avx512cd, avx512dq, avx512f, avx512vl"),
        ("znver3", "sse4a"),
        ("cascadelake", "avx512_vnni, avx512bw, avx512cd, avx512dq, avx512f, avx512vl"),
    ],
)
def test_missing_instruction_sets_are_named(name: str, missing: str) -> None:
    with pytest.raises(EngineError) as caught:
        engine_for(forged(spec(CPUS[name])))
    assert caught.value.what == f"this processor lacks {missing}, which the code uses"
    assert caught.value.where == f"target {name}"
    assert "--cpu of an older processor" in (caught.value.hint or "")


@pytest.mark.usefixtures("avx2_machine")
def test_another_architecture() -> None:
    with pytest.raises(EngineError, match=r"compiled for aarch64 processors, this one is x86_64"):
        engine_for(forged(spec(CPUS["neoverse-n1"])))


@pytest.mark.usefixtures("avx2_machine")
@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "haswell"])
def test_what_suits_the_machine_is_loaded(name: str) -> None:
    with pytest.raises(EngineError, match="the compiled module does not load"):
        engine_for(forged(spec(CPUS[name])))


def test_a_target_that_names_this_architecture_and_holds_another(tmp_path: Any) -> None:
    """The loader has the last word: a forged triple does not get foreign code executed."""
    made = compile_module(product_module(), Options(CPUS["aarch64"], 1))
    made.executable.mod.imports[0].write_to_file(str(tmp_path / "product.o"), "o")
    target = TargetSpec("cpu", f"{processor.machine()}-linux-gnu", "", (), 1)
    artifact = replace(forged(target), modules={"module.so": (tmp_path / "product.o").read_bytes()})
    with pytest.raises(EngineError, match="the compiled module does not load"):
        engine_for(artifact)


def test_flags_of_both_architectures() -> None:
    assert processor.flags("processor : 0\nflags\t\t: fpu avx2\n\nprocessor : 1\nflags : fpu") == {"fpu", "avx2"}
    assert processor.flags("processor\t: 0\nFeatures\t: fp asimd\n") == {"fp", "asimd"}
    assert not processor.flags("nothing of the kind")
