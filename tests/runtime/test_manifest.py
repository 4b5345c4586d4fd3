from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from manifests import POISSON, small_manifest

from fluidc.runtime.artifact import DTYPES, ArtifactError, Binding, Manifest, dtype_name, numpy_dtype


def test_parts_are_found_by_name() -> None:
    manifest = small_manifest()
    assert manifest.feed("y") is manifest.feeds[1]
    assert manifest.function("infer") is manifest.functions[1]
    assert (manifest.has_function("step"), manifest.has_function("startup")) == (True, False)
    with pytest.raises(KeyError):
        manifest.feed("step")
    with pytest.raises(KeyError):
        manifest.function("x")


def test_the_privacy_hash_is_that_of_the_block() -> None:
    assert small_manifest().privacy_block_sha256() == POISSON.sha256()
    assert small_manifest(None).privacy_block_sha256() is None


def test_dtypes_go_to_numpy_and_back() -> None:
    for name in DTYPES:
        if name != "bf16":
            assert dtype_name(numpy_dtype(name, "x"), "x") == name
    with pytest.raises(ArtifactError, match="numpy has no dtype for bf16"):
        numpy_dtype("bf16", "x")
    with pytest.raises(ArtifactError, match="complex64 is not supported"):
        dtype_name(np.dtype(np.complex64), "x")


def _with_extent(rule: str, manifest: Manifest) -> Manifest:
    step, infer = manifest.functions
    infer = replace(infer, inputs=(*infer.inputs, Binding("extent", rule)))
    x, y = manifest.feeds
    return replace(manifest, functions=(step, infer), feeds=(replace(x, dtype="i64"), y))


def test_an_extent_is_written_and_read_back() -> None:
    manifest = _with_extent("max(add(x, 1))", small_manifest(None))
    assert Binding("extent", "max(add(x, 1))") in manifest.function("infer").inputs


@pytest.mark.parametrize(
    ("rule", "private", "what"),
    [
        ("longest(x)", False, "a size whose rule cannot be read"),
        ("max(w)", False, "'w' is no feed of integers that it reads"),
        ("max(x)", True, "a size that follows private data, max(x)"),
    ],
)
def test_an_extent_follows_from_feeds_of_an_ordinary_program(rule: str, private: bool, what: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        _with_extent(rule, small_manifest(POISSON if private else None))
    assert what in str(caught.value)
