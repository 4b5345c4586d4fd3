"""Random ops: kinds with a batch axis, long streams, independence of streams."""

import numpy as np
import pytest
from cases import tensor

from fluidc.compiler.errors import VerifyError
from fluidc.compiler.ir.core import Value
from fluidc.compiler.ir.types import TensorType
from fluidc.compiler.ops import minstd
from fluidc.compiler.ops.drawing import Generator
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, Kind, MixedKind, TotalKind
from fluidc.compiler.ops.logf import logf
from fluidc.compiler.ops.random import Dropout, Normal, Uniform

KEY = np.arange(8, dtype=np.uint32)


def source(generator: Generator) -> tuple[Value | None, Value | None]:
    if generator == "paddle":
        return None, None
    return Value(tensor("u32[8]")), Value(tensor("u64[]"))


def test_skipping_ahead_is_stepping() -> None:
    x, stepped = minstd.start(123456789), []
    for _ in range(1000):
        x = x * 48271 % (2**31 - 1)
        stepped.append(x)
    np.testing.assert_array_equal(minstd.states(123456789, 1000), stepped)
    assert minstd.start(0) == minstd.start(2**31 - 1) == 1


def test_polar_method_far_into_the_stream() -> None:
    """Pairs are rejected where libstdc++ rejects them: gaussian_random(0.5, 2, seed=7) of paddlepaddle 1.8.5."""
    observed = [1.2735486030578613, -1.5852253437042236, 1.3959344625473022]
    found = minstd.normals(7, 100003)[99990:99993] * np.float32(2) + np.float32(0.5)
    np.testing.assert_array_equal(found, np.array(observed, np.float32))


def test_logf_is_the_c_librarys() -> None:
    """glibc's results where they are not the nearest float32, and where they are."""
    x = np.array([274 / 1024, 457 / 1024, 469 / 1024, 1003 / 1024, 0.5, 1.0, 1e-30, 3e38], np.float32)
    wanted = [-1.3183436393737793, -0.806788444519043, -0.7808690071105957, -0.020721016451716423,
              -0.6931471824645996, 0.0, -69.07755279541016, 88.59684753417969]  # fmt: skip
    np.testing.assert_array_equal(logf(x), np.array(wanted, np.float32))
    assert (logf(x) != np.log(x.astype(np.float64)).astype(np.float32))[:4].all()


@pytest.mark.parametrize(("generator", "mixed"), [("chacha20", False), ("paddle", True)])
def test_rows_of_a_batch(generator: Generator, mixed: bool) -> None:
    op = Uniform(*source(generator), tensor("f32[3,4*N,2]"), 0.0, 1.0, seed=7, generator=generator)
    kind = op.example_axis([PUBLIC] * len(op.operands))
    if mixed:
        assert isinstance(kind, MixedKind)
        assert kind.remedy == "leave out the seed"
    else:
        assert kind == ExampleKind(1, 1, 4)


def test_a_key_from_data_is_refused() -> None:
    op = Normal(*source("chacha20"), tensor("f32[3]"), 0.0, 1.0)
    assert isinstance(op.example_axis([TotalKind("sum"), PUBLIC]), MixedKind)


@pytest.mark.parametrize(
    ("shape", "x", "expected"),
    [
        ("f32[N,3]", ExampleKind(0), (ExampleKind(0), ExampleKind(0))),
        ("f32[4*N,3]", ExampleKind(0, 4, 1), (ExampleKind(0, 4, 1), ExampleKind(0, 4, 1))),
        ("f32[N,3]", PUBLIC, (ExampleKind(0), ExampleKind(0))),
        ("f32[5,3]", PUBLIC, (PUBLIC, PUBLIC)),
        ("f32[5,3]", ExampleKind(0), (ExampleKind(0), PUBLIC)),
        ("f32[3]", TotalKind("mean"), ("mixed", PUBLIC)),
    ],
)
def test_dropout_keeps_the_axis(shape: str, x: Kind, expected: tuple[Kind | str, ...]) -> None:
    op = Dropout(*source("chacha20"), Value(tensor(shape)), 0.5)
    for have, want in zip(op.example_axis([PUBLIC, PUBLIC, x]), expected, strict=True):
        assert isinstance(have, MixedKind) if want == "mixed" else have == want


def test_seeded_dropout_in_a_private_program_is_refused() -> None:
    op = Dropout(None, None, Value(tensor("f32[N,3]")), 0.5, seed=7, generator="paddle")
    assert all(isinstance(kind, MixedKind) for kind in op.example_axis([ExampleKind(0)]))


def test_streams_and_draws_differ_and_shapes_do_not_matter() -> None:
    def draw(shape: str, stream: int, counter: int) -> np.ndarray:
        kind: TensorType = tensor(shape)
        op = Uniform(*source("chacha20"), kind, 0.0, 1.0, stream=stream)
        return op.evaluate(KEY, np.array(counter, np.uint64)).ravel()

    first = draw("f32[40]", 0, 0)
    np.testing.assert_array_equal(first, draw("f32[5,8]", 0, 0))
    np.testing.assert_array_equal(first[:24], draw("f32[3,8]", 0, 0))
    for other in (draw("f32[40]", 1, 0), draw("f32[40]", 0, 1), draw("f32[40]", 0, 2**32)):
        assert not np.any(first == other)


def test_keep_rate() -> None:
    x = np.ones(200_000, np.float32)
    op = Dropout(*source("chacha20"), Value(tensor("f32[200000]")), 0.1)
    _, mask = op.evaluate(KEY, np.array(3, np.uint64), None, x)
    assert abs(mask.mean() - 0.9) < 5 * (0.1 * 0.9 / len(x)) ** 0.5


def test_a_stream_never_begins_again() -> None:
    """2^32 blocks of 16 words or 10 normals under one counter, and not one more."""
    key, counter = source("chacha20")
    Uniform(key, counter, tensor("f32[65536,1048576]"), 0.0, 1.0)
    Normal(key, counter, tensor("f32[40960,1048576]"), 0.0, 1.0)
    with pytest.raises(VerifyError, match="more than the 68,719,476,736 of one stream"):
        Uniform(key, counter, tensor("f32[65537,1048576]"), 0.0, 1.0)
    with pytest.raises(VerifyError, match="more than the 42,949,672,960 of one stream"):
        Normal(key, counter, tensor("f32[40961,1048576]"), 0.0, 1.0)
    with pytest.raises(VerifyError, match="of one stream"):
        Dropout(key, counter, Value(tensor("f32[N,65537,1048576]")), 0.5)
    open_ = Value(tensor("f32[N,1048576]"))
    assert Dropout(key, counter, open_, 0.5).most_rows(open_.tensor.shape) == 65536
    assert Dropout(key, counter, Value(tensor("f32[3,5]")), 0.5).most_rows((3, 5)) is None
    of_lots = Dropout(key, counter, Value(tensor("f32[16,1048576]")), 0.5, row=Value(tensor("i64[]")))
    most = of_lots.most_rows(of_lots.x.tensor.shape)
    assert most is not None
    # Whole groups are made from the group in which an example begins.
    assert (most * 2**20 + 160) // 16 <= 2**32 < (most * 2**20 + 2**20 + 160) // 16
