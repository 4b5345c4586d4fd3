"""CSV and Parquet files as data: columns, types, missing values, and folders that are made of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_engine import LinearEngine, linear_artifact, linear_data, linear_manifest
from numpy.typing import NDArray

from fluidc.runtime import table_files, tables
from fluidc.runtime.columns import parse_columns
from fluidc.runtime.convert import convert
from fluidc.runtime.data import load_data
from fluidc.runtime.errors import DataError
from fluidc.runtime.feeds import FeedCheck
from fluidc.runtime.manifest import FeedSpec
from fluidc.runtime.session import Session
from fluidc.runtime.tables import read_table

CHECKS = (FeedCheck(FeedSpec("x", "f32", ("N", 3))), FeedCheck(FeedSpec("y", "i64", ("N", 1), 0, 4)))


@pytest.fixture(scope="module")
def arrow() -> Any:
    """pyarrow with its reader and writer of Parquet."""
    pytest.importorskip("pyarrow")
    importlib.import_module("pyarrow.parquet")
    return importlib.import_module("pyarrow")


def from_csv(folder: Path, text: str, columns: Iterable[str] = (), name: str = "t.csv") -> dict[str, NDArray[Any]]:
    (folder / name).write_text(text, encoding="utf-8")
    return read_table(folder / name, CHECKS, parse_columns(columns))


@pytest.mark.parametrize(
    ("text", "columns", "name"),
    [
        ("x0,x1,x2,y\n1,2,3,0\n4,5,6.5,3\n", (), "t.csv"),
        ("\ufeffx0,x1,x2,y\r\n1,2,3,0\r\n4,5,6.5,3", (), "t.csv"),
        ("x0\tx1\tx2\ty\n1\t2\t3\t0\n4\t5\t6.5\t3\n", (), "t.tsv"),
        ('y,note,a,b,c\n0,"no, not this",1,2,3\n3,,4,5,6.5\n', ("x=a..c",), "t.csv"),
        ("c,b,label,a\n3,2,0,1\n6.5,5,3,4\n", ("x=a, b,c", "y=label"), "t.csv"),
    ],
)
def test_text_becomes_feeds(arrow: Any, text: str, columns: tuple[str, ...], name: str, tmp_path: Path) -> None:
    found = from_csv(tmp_path, text, columns, name)
    np.testing.assert_array_equal(found["x"], np.array([[1, 2, 3], [4, 5, 6.5]], np.float32))
    np.testing.assert_array_equal(found["y"], np.array([[0], [3]]))
    assert found["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("text", "columns", "told"),
    [
        ("x0,x1,x2,y\n1,2,3,0\n4,,6.5,3\n", (), "column 'x1' has no value in row 1"),
        ("x0,x1,x2,y\n1,nan,3,0\n", (), "column 'x1' has no value in row 0"),
        ("x0,x1,x2,y\n1,2,3,0\n4,1,abc,3\n", (), "column 'x2' holds 'abc' in row 1, which is no float32"),
        ("x0,x1,x2,y\n1,2,3,0\n4,1,6.5,1.5\n", (), "column 'y' holds '1.5' in row 1, which is no int64"),
        ("x0,x1,x2,y\n1,2,3,0\n4,1,6.5,7\n", (), "feed 'y' holds 7 in row 1, values must be in [0, 4)"),
        ("x0,x1,x2,y\n1,2,3,0\n4,1,6.5\n", (), "Expected 4 columns, got 3"),
        ("1,2,3,0\n4,1,6.5,1\n", (), "the first line of the table holds numbers, and no names of columns"),
        ("x0,x1,x2,y\n", (), "the table has no rows"),
        ("", (), "the table is empty"),
        ("a,b,c,y\n1,2,3,0\n", (), "the table has no column 'x', nor 'x0' to 'x2'"),
        ("a,b,c,d\n1,2,3,0\n", ("x=a..c",), "the table has no column 'y'"),
        ("a,b,c,y\n1,2,3,0\n", ("x=a..d",), "the table has no column 'd'"),
        ("a,b,c,y\n1,2,3,0\n", ("x=c..a",), "column 'a' comes before 'c'"),
        ("a,b,c,y\n1,2,3,0\n", ("x=a,b",), "feed 'x' has 3 numbers in a row, and 2 columns are given"),
        ("a,b,c,y\n1,2,3,0\n", ("x=a",), "column 'a' holds single values, and a row of 'x' has 3"),
        ("a,b,c,y\n1,2,3,0\n", ("z=a",), "'z' is no feed of the program"),
        ("x0,x1,x1,y\n1,2,3,0\n", (), "the table has two columns 'x1'"),
    ],
)
def test_what_is_wrong_in_a_text_is_named(
    arrow: Any, text: str, columns: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        from_csv(tmp_path, text, columns)
    assert told in caught.value.what
    assert caught.value.hint
    assert "t.csv" in (caught.value.where or "") or "--columns" in (caught.value.where or "")


@pytest.mark.parametrize("text", ["x", "=a", "x=", "x=a,,b"])
def test_columns_are_named_in_one_way(text: str) -> None:
    with pytest.raises(DataError, match="does not say which columns"):
        parse_columns([text])
    with pytest.raises(DataError, match="given twice"):
        parse_columns(["x=a", "x=b"])


def test_the_row_of_an_error_counts_through_all_blocks(
    arrow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "_BLOCK_BYTES", 512)
    lines = [f"{row},1,2,{row % 4}" for row in range(700)]
    text = "x0,x1,x2,y\n" + "\n".join(lines)
    assert from_csv(tmp_path, text)["x"][699].tolist() == [699, 1, 2]
    for spoiled, told in (("x,1,2,0", "in row 555, which is no float32"), (",1,2,0", "has no value in row 555"),
                          ("1,1,2,9", "holds 9 in row 555")):  # fmt: skip
        with pytest.raises(DataError, match=told):
            from_csv(tmp_path, text.replace("555,1,2,3", spoiled))


def from_parquet(arrow: Any, folder: Path, columns: dict[str, Any], **options: Any) -> dict[str, NDArray[Any]]:
    arrow.parquet.write_table(arrow.table(columns), folder / "t.parquet", **options)
    return read_table(folder / "t.parquet", CHECKS, {})


def test_lists_of_every_kind_are_rows(arrow: Any, tmp_path: Path) -> None:
    rows = [[1, 2, 3], [4, 5, 6]]
    for type_ in (
        arrow.list_(arrow.float32(), 3), arrow.list_(arrow.float64()), arrow.large_list(arrow.int16()),
        arrow.list_(arrow.uint8(), 3),
    ):  # fmt: skip
        found = from_parquet(arrow, tmp_path, {"x": arrow.array(rows, type_), "y": arrow.array([0, 1], arrow.uint8())})
        np.testing.assert_array_equal(found["x"], np.array(rows, np.float32))
        assert found["y"].dtype == np.int64
    image = FeedCheck(FeedSpec("image", "u8", ("N", 2, 2)))
    nested = arrow.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], arrow.list_(arrow.list_(arrow.int64(), 2)))
    arrow.parquet.write_table(arrow.table({"image": nested}), tmp_path / "i.parquet")
    found = read_table(tmp_path / "i.parquet", [image], {})
    assert found["image"].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        ([[1, 2, 3], [4, 5]], [0, 1], "have different lengths: row 1"),
        ([[1, 2], [4, 5]], [0, 1], "hold 2 numbers, a row of 'x' 3"),
        ([[1.0, 2, 3], [4, 5, None]], [0, 1], "column 'x' has no value in row 1"),
        ([[1.0, 2, 3], None], [0, 1], "column 'x' has no value in row 1"),
        ([[1.0, 2, 3], [1, 2, float("nan")]], [0, 1], "column 'x' has no value in row 1"),
        ([[1.0, 2, 3], [1, 2, 1e300]], [0, 1], "holds 1e+300 in row 1, which no float32 can hold"),
        ([[1, 2, 3], [1, 2, 2**40 + 1]], [0, 1], "holds 1099511627777 in row 1, which no float32 can hold"),
        ([[1, 2, 3]] * 2, [0.0, 1.0], "column 'y' is of type double, the feed 'y' wants int64"),
        ([[1, 2, 3]] * 2, ["a", "b"], "column 'y' is of type string, the feed 'y' wants int64"),
        ([[1, 2, 3]] * 2, [True, False], "column 'y' is of type bool, the feed 'y' wants int64"),
        ([[1, 2, 3]] * 2, np.array([1, 2**63], np.uint64), "which no int64 can hold"),
        ([[1, 2, 3]] * 2, [1, 4], "feed 'y' holds 4 in row 1"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(arrow: Any, x: Any, y: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        from_parquet(arrow, tmp_path, {"x": x, "y": y})
    assert told in caught.value.what


def test_files_that_are_no_tables_are_refused(arrow: Any, tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and then nothing of use, PAR1")
    with pytest.raises(DataError, match="not a Parquet table"):
        read_table(tmp_path / "t.parquet", CHECKS, {})
    (tmp_path / "t.csv").write_bytes(b"x0,x1,x2,y\n\xff\xfe,1,1,1\n")
    with pytest.raises(DataError, match=r"row 0, which is no float32|not a table of text"):
        read_table(tmp_path / "t.csv", CHECKS, {})
    with pytest.raises(DataError, match="does not exist"):
        read_table(tmp_path / "none.csv", CHECKS, {})
    fixed = FeedCheck(FeedSpec("x", "f32", (3, "N")))
    (tmp_path / "t.csv").write_text("x\n1\n")
    with pytest.raises(DataError, match="is not made of rows"):
        read_table(tmp_path / "t.csv", [fixed], {})


def test_without_pyarrow_the_command_that_installs_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="not installed") as caught:
        from_csv(tmp_path, "x0,x1,x2,y\n1,2,3,0\n")
    assert "pip install pyarrow" in (caught.value.hint or "")


def save_csv(path: Path, data: dict[str, NDArray[Any]]) -> Path:
    names = [f"{name}{place}" if a.shape[1] > 1 else name for name, a in data.items() for place in range(a.shape[1])]
    rows = np.concatenate([array.astype(object) for array in data.values()], axis=1)
    path.write_text("\n".join([",".join(names), *(",".join(map(repr, map(_plain, row))) for row in rows)]))
    return path


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def test_training_from_a_table_is_training_from_its_arrays(arrow: Any, tmp_path: Path) -> None:
    data = linear_data(90)
    csv = save_csv(tmp_path / "t.csv", data)
    arrow.parquet.write_table(
        arrow.table({name: arrow.FixedSizeListArray.from_arrays(a.ravel(), a.shape[1]) for name, a in data.items()}),
        tmp_path / "t.parquet",
        row_group_size=17,
    )
    folder = tmp_path / "made"
    made = convert(csv, folder, linear_manifest(), "step")
    assert made.rows == 90
    found = {}
    for name, source in {"arrays": data, "csv": csv, "parquet": tmp_path / "t.parquet", "folder": folder}.items():
        session = Session.load(linear_artifact(), LinearEngine())
        session.train(source, epochs=2, batch=16)
        found[name] = session.model.state["w"].tobytes()
    assert len(set(found.values())) == 1


def test_a_large_table_is_converted_once(arrow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MEMORY_BYTES", 2000)
    monkeypatch.setattr(table_files, "_BLOCK_BYTES", 512)
    data = linear_data(90)
    csv = save_csv(tmp_path / "t.csv", data)
    with pytest.raises(DataError, match="decoded, the table takes more than") as caught:
        load_data(csv, linear_manifest(), "step")
    assert "fluidc data convert ARTIFACT t.csv -o FOLDER" in (caught.value.hint or "")
    made = convert(csv, tmp_path / "made", linear_manifest(), "step")
    for name, array in data.items():
        np.testing.assert_array_equal(made.arrays[name], array)
        np.testing.assert_array_equal(np.load(tmp_path / "made" / f"{name}.npy"), array)
    with pytest.raises(DataError, match="exists already"):
        convert(csv, tmp_path / "made", linear_manifest(), "step")


def test_a_failed_conversion_leaves_nothing(arrow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "_BLOCK_BYTES", 512)
    csv = save_csv(tmp_path / "t.csv", linear_data(90))
    csv.write_text(csv.read_text().rsplit(",", 1)[0] + ",9")
    with pytest.raises(DataError, match="holds 9 in row 89"):
        convert(csv, tmp_path / "made", linear_manifest(), "step")
    with pytest.raises(DataError, match="cannot be written"):
        convert(csv, tmp_path / "no" / "made", linear_manifest(), "step")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_compressed_archive_is_converted_too(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "t.npz", **linear_data(90))  # pyright: ignore[reportArgumentType]
    made = convert(tmp_path / "t.npz", tmp_path / "made", linear_manifest(), "step")
    np.testing.assert_array_equal(made.arrays["x"], linear_data(90)["x"])
