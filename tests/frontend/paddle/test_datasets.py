"""paddle.dataset: files in the original formats give what Paddle 1.8.5 makes of them; without files data is made up.

``golden/paddle185/datasets.json`` is what the real Paddle made of the same files.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import WRITERS, described, write_files
from trees import GOLDENS

from fluidc.frontend.paddle.dataset import common, image
from fluidc.frontend.paddle.session import Session, noting
from fluidc.runtime.errors import DataError, EngineError

GOLDEN: dict[str, Any] = json.loads((GOLDENS / "datasets.json").read_text())


def dataset(name: str) -> Any:
    return importlib.import_module(f"fluidc.frontend.paddle.dataset.{name}")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Of a script whose data sets are in ``tmp_path``."""
    with noting(Session()) as current, common.data_home(tmp_path):
        yield current


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_files_give_what_paddle_gives(name: str, session: Session, tmp_path: Path) -> None:
    write_files(tmp_path, name)
    found = json.loads(json.dumps(described(dataset(name), name)))
    assert found == GOLDEN[name]
    assert not session.substituted
    assert all(str(tmp_path) in where for where in session.found.values())


def test_voc2012_reads_its_archive(session: Session, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    write_files(tmp_path, "voc2012")
    pictures = list(dataset("voc2012").train()())
    assert [p.shape for p, _ in pictures] == [(5, 6, 3)] * 2
    assert [label.shape for _, label in pictures] == [(5, 6)] * 2
    assert len(list(dataset("voc2012").val()())) == 1
    assert not session.substituted


def made_up(name: str) -> dict[str, list[Any]]:
    """The first samples of each part of a data set."""
    module = dataset(name)
    np.random.seed(0)  # pictures are cropped anywhere
    match name:
        case "imdb":
            words = module.word_dict()
            readers = {"train": module.train(words), "test": module.test(words)}
        case "imikolov":
            words = module.build_dict()
            readers = {"train": module.train(words, 5), "test": module.test(words, 5)}
        case "wmt14":
            readers = {"train": module.train(30000), "test": module.test(30000)}
        case "wmt16":
            readers = {"train": module.train(1000, 1000), "test": module.test(1000, 1000)}
        case "cifar":
            readers = {"train": module.train10(), "test": module.test10()}
        case "conll05":
            readers = {"test": module.test()}
        case "sentiment" | "mq2007":
            readers = {"train": module.train, "test": module.test}
        case _:
            readers = {"train": module.train(), "test": module.test()}
    return {part: [sample for sample, _ in zip(reader(), range(8))] for part, reader in readers.items()}


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_without_files_data_is_made_up(name: str, session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    first = made_up(name)
    told = capsys.readouterr().err
    assert told.count("IS SUBSTITUTED") == 1
    assert f"paddle.dataset.{name}" in told
    assert "nothing is ever downloaded" in told
    assert len(session.substituted) == 1
    with noting(Session()):
        again = made_up(name)
    assert list(map(str, first.items())) == list(map(str, again.items())), "made-up data differs from run to run"


def test_shapes_and_types_of_made_up_data(session: Session) -> None:
    pixels, label = made_up("mnist")["train"][0]
    assert (pixels.shape, pixels.dtype, type(label)) == ((784,), np.float32, int)
    assert -1 <= pixels.min() < pixels.max() <= 1
    pixels, label = made_up("cifar")["test"][0]
    assert (pixels.shape, pixels.dtype, type(label)) == ((3072,), np.float32, int)
    features, price = made_up("uci_housing")["train"][0]
    assert (features.shape, price.shape, features.dtype) == ((13,), (1,), np.float64)
    words, label = made_up("imdb")["train"][0]
    assert all(type(word) is int for word in words)
    assert label in (0, 1)
    assert {len(window) for window in made_up("imikolov")["train"]} == {5}
    user, gender, age, job, film, genres, title, rating = made_up("movielens")["train"][0]
    assert isinstance(genres, list)
    assert isinstance(title, list)
    assert rating[0] in (-3, -1, 1, 3, 5)
    assert 0 <= gender <= 1
    assert age < 7
    assert job <= 20
    assert user <= dataset("movielens").max_user_id()
    assert film <= dataset("movielens").max_movie_id()
    sample = made_up("conll05")["test"][0]
    assert len(sample) == 9
    assert len({len(column) for column in sample}) == 1
    words, verbs, labels = dataset("conll05").get_dict()
    vectors = np.fromfile(dataset("conll05").get_embedding(), np.float32)[4:]
    assert vectors.size == 32 * len(words)
    assert max(sample[-1]) < len(labels)
    assert max(sample[6]) < len(verbs)
    source, before, after = made_up("wmt14")["train"][0]
    assert (source[0], source[-1], before[0], after[-1]) == (0, 1, 0, 1)
    assert before[1:] == after[:-1]
    assert len(dataset("wmt14").get_dict(30000)[0]) == 30000
    pixels, label = made_up("flowers")["test"][0]
    assert pixels.shape == (3 * 224 * 224,)
    assert 0 <= label < 102
    picture, classes = made_up("voc2012")["test"][0]
    assert (picture.shape, classes.shape, picture.dtype) == ((120, 160, 3), (120, 160), np.uint8)
    one, left, right = made_up("mq2007")["train"][0]
    assert (one.tolist(), left.shape, right.shape) == ([1], (46,), (46,))


def test_made_up_dictionaries_are_as_large_as_the_real_ones(session: Session) -> None:
    assert len(dataset("imikolov").build_dict(50)) == 2074
    assert len(dataset("imdb").word_dict()) == 5147
    assert [len(ids) for ids in dataset("conll05").get_dict()] == [44068, 3162, 59]
    assert [len(dataset("wmt16").get_dict(lang, 10000)) for lang in ("en", "de")] == [10000, 10000]
    assert [len(dataset("wmt16").get_dict(lang, 30000)) for lang in ("en", "de")] == [11250, 19220]
    assert [len(ids) for ids in dataset("wmt14").get_dict(30000)] == [30000, 30000]
    assert len(dataset("sentiment").get_word_dict()) == 39768
    films = dataset("movielens")
    assert (films.max_movie_id(), films.max_user_id(), films.max_job_id()) == (3952, 6040, 20)
    assert (len(films.movie_categories()), len(films.get_movie_title_dict())) == (18, 5175)
    assert films.movie_info()[783].title
    assert {user.age for user in films.user_info().values()} == set(range(7))


def test_a_linear_model_learns_made_up_digits(session: Session) -> None:
    samples = list(dataset("mnist").train()())
    x, y = np.array([pixels for pixels, _ in samples]), np.array([label for _, label in samples])
    weights = np.linalg.lstsq(x, np.eye(10)[y], rcond=None)[0]
    tests = list(dataset("mnist").test()())
    right = [np.argmax(pixels @ weights) == label for pixels, label in tests]
    assert np.mean(right) > 0.9


def test_some_files_are_not_mixed_with_made_up_data(session: Session, tmp_path: Path) -> None:
    write_files(tmp_path, "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        dataset("mnist").train()
    assert caught.value.what == "paddle.dataset.mnist: t10k-labels-idx1-ubyte.gz is missing"
    assert (caught.value.where or "").startswith(__file__)


def test_files_that_are_not_what_they_should_be(session: Session, tmp_path: Path) -> None:
    write_files(tmp_path, "mnist")
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="no gzipped IDX file"):
        list(dataset("mnist").train()())
    write_files(tmp_path, "uci_housing")
    (tmp_path / "uci_housing" / "housing.data").write_text("1 2 three")
    with pytest.raises(DataError, match="no rows of 14 numbers"):
        dataset("uci_housing").train()
    write_files(tmp_path, "sentiment")
    (tmp_path / "corpora" / "movie_reviews.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="no archive of the movie reviews"):
        dataset("sentiment").get_word_dict()


def test_files_other_than_paddles_are_told(session: Session, tmp_path: Path) -> None:
    write_files(tmp_path, "uci_housing")
    dataset("uci_housing").train()
    assert session.found["paddle.dataset.uci_housing"].endswith("(not the files that Paddle downloads: housing.data)")


def test_nothing_is_downloaded(session: Session, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing is ever downloaded") as caught:
        common.download("http://example.invalid/a.tgz", "mine", "")
    assert f"save it as {tmp_path / 'mine' / 'a.tgz'}" in (caught.value.hint or "")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.tgz").write_bytes(b"content")
    assert common.download("http://example.invalid/a.tgz", "mine", "") == str(tmp_path / "mine" / "a.tgz")


def test_split_and_cluster(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    common.split(lambda: iter([(n, np.full(2, n)) for n in range(7)]), 3, "part-%d.pickle")
    assert [path.name for path in sorted(tmp_path.glob("*.pickle"))] == ["part-0.pickle", "part-1.pickle"]
    both = [list(common.cluster_files_reader("part-*.pickle", 2, n)()) for n in range(2)]
    assert [[n for n, _ in part] for part in both] == [[0, 1, 2, 3], [4, 5, 6]]


def test_pictures(session: Session) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    np.testing.assert_array_equal(image.load_image_bytes(image.bitmap(picture)), picture)
    assert image.resize_short(picture, 6) is picture
    np.testing.assert_array_equal(image.center_crop(picture, 4), picture[1:5, 2:6])
    np.testing.assert_array_equal(image.left_right_flip(picture)[:, 0], picture[:, -1])
    made = image.simple_transform(picture, 6, 4, False, mean=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(made, picture[1:5, 2:6].transpose(2, 0, 1).astype(np.float32) - [[[1]], [[2]], [[3]]])


def test_pictures_of_other_forms_need_opencv(session: Session) -> None:
    try:
        import cv2  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(EngineError, match="load_image_bytes needs OpenCV"):
            image.load_image_bytes(b"\xff\xd8")
