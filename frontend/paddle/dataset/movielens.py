"""``paddle.dataset.movielens``: ratings of films by users.

A sample is [user, gender, age, job, film, its genres, the words of its title, [the rating in -3, -1, ..., 5]], as ids.
"""

from __future__ import annotations

import itertools
import re
import zipfile
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from ....runtime.errors import DataError
from ...reader import Reader
from ..session import once
from .common import fetched, find
from .made_up import words

URL = "https://dataset.bj.bcebos.com/movielens%2Fml-1m.zip"
MD5 = "c4d9eecfca2ab87c1945afe126590906"
age_table = [1, 18, 25, 35, 45, 50, 56]

_FILES = {"movielens%2Fml-1m.zip": MD5}
_MADE_UP = "10000 synthetic ratings of 3952 films by 6040 users, for MovieLens 1M"
_FILMS, _USERS, _RATINGS, _TITLE_WORDS = 3_952, 6_040, 10_000, 5_175
_TITLE = re.compile(r"^(.*)\((\d+)\)$")
_NAMES = """
Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical Mystery Romance
Sci-Fi Thriller War Western
"""
_GENRES = _NAMES.split()


@cache
def _synthetic() -> dict[str, str]:
    """Films, users and ratings as lines of the archive's files: what a user likes depends on age and gender."""
    rng = np.random.default_rng(21)
    titles = itertools.cycle(words(_TITLE_WORDS, "t"))
    films: list[list[int]] = []
    lines: dict[str, list[str]] = {"movies": [], "users": [], "ratings": []}
    for film in range(1, _FILMS + 1):
        genres = sorted(int(g) for g in rng.choice(len(_GENRES), rng.integers(1, 4), replace=False))
        title = " ".join(word.title() for word in itertools.islice(titles, int(rng.integers(1, 5))))
        films.append(genres)
        lines["movies"].append(f"{film}::{title} ({rng.integers(1930, 2001)})::{'|'.join(_GENRES[g] for g in genres)}")
    people: list[tuple[int, int]] = []
    for user in range(1, _USERS + 1):
        gender, age = int(rng.integers(2)), int(rng.integers(len(age_table)))
        people.append((gender, age))
        lines["users"].append(f"{user}::{'MF'[gender]}::{age_table[age]}::{rng.integers(0, 21)}::{10000 + user}")
    taste = rng.normal(0, 1.2, (2, len(age_table), len(_GENRES)))
    for user, film in zip(rng.integers(1, _USERS + 1, _RATINGS), rng.integers(1, _FILMS + 1, _RATINGS)):
        liked = 3.5 + taste[people[user - 1]][films[film - 1]].mean() + rng.normal(0, 0.4)
        lines["ratings"].append(f"{user}::{film}::{int(np.clip(round(liked), 1, 5))}::978300000")
    return {name: "\n".join(text) for name, text in lines.items()}


def _lines(name: str) -> Iterator[list[str]]:
    """The fields of each line of one of the three files."""
    files = find("movielens", _FILES, _MADE_UP)
    if files is None:
        text = _synthetic()[name]
    else:
        path = files["movielens%2Fml-1m.zip"]
        try:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(f"ml-1m/{name}.dat").decode("latin")
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"no archive with ml-1m/{name}.dat: {error}", path, "put MovieLens 1M there") from None
    for line in text.splitlines():
        yield line.strip().split("::")


class MovieInfo:
    """A film.

    Attributes:
        index: Its id.
        categories: Names of its genres.
        title: Without the year.
    """

    def __init__(self, index: str, categories: list[str], title: str) -> None:
        self.index = int(index)
        self.categories = categories
        self.title = title

    def value(self) -> list[Any]:
        """[id, ids of the genres, ids of the title's words]."""
        genres, titles = movie_categories(), get_movie_title_dict()
        return [self.index, [genres[name] for name in self.categories], [titles[w.lower()] for w in self.title.split()]]

    def __repr__(self) -> str:
        return f"<MovieInfo id({self.index}), title({self.title}), categories({self.categories})>"


class UserInfo:
    """A user.

    Attributes:
        index: The id.
        is_male: Whether the gender is M.
        age: Index into `age_table`.
        job_id: 0 to 20.
    """

    def __init__(self, index: str, gender: str, age: str, job_id: str) -> None:
        self.index = int(index)
        self.is_male = gender == "M"
        self.age = age_table.index(int(age))
        self.job_id = int(job_id)

    def value(self) -> list[int]:
        """[id, 0 for M or 1 for F, index of the age, id of the job]."""
        return [self.index, 0 if self.is_male else 1, self.age, self.job_id]

    def __repr__(self) -> str:
        gender = "M" if self.is_male else "F"
        return f"<UserInfo id({self.index}), gender({gender}), age({age_table[self.age]}), job({self.job_id})>"


@once
def movie_info() -> dict[int, MovieInfo]:
    """The films by id."""
    found: dict[int, MovieInfo] = {}
    for film, title, genres in _lines("movies"):
        named = _TITLE.match(title)
        found[int(film)] = MovieInfo(film, genres.split("|"), named[1] if named else title)
    return found


@once
def user_info() -> dict[int, UserInfo]:
    """The users by id."""
    return {int(user): UserInfo(user, gender, age, job) for user, gender, age, job, _ in _lines("users")}


@once
def get_movie_title_dict() -> dict[str, int]:
    """Ids of the words of titles, in alphabetical order; Paddle's order changes from process to process."""
    return {
        w: n for n, w in enumerate(sorted({w.lower() for film in movie_info().values() for w in film.title.split()}))
    }


@once
def movie_categories() -> dict[str, int]:
    """Ids of the genres, in alphabetical order; Paddle's order changes from process to process."""
    return {
        name: n for n, name in enumerate(sorted({name for film in movie_info().values() for name in film.categories}))
    }


def max_movie_id() -> int:
    """The largest id of a film."""
    return max(movie_info())


def max_user_id() -> int:
    """The largest id of a user."""
    return max(user_info())


def max_job_id() -> int:
    """The largest id of a job."""
    return max(user.job_id for user in user_info().values())


def _ratings(is_test: bool, rand_seed: int = 0, test_ratio: float = 0.1) -> Iterator[list[Any]]:
    # As Paddle does: it seeds numpy's global generator, on which the rest of a script then depends.
    np.random.seed(rand_seed)  # noqa: NPY002
    films, users = movie_info(), user_info()
    for user, film, rating, _ in _lines("ratings"):
        if (np.random.random() < test_ratio) == is_test:  # noqa: NPY002
            yield [*users[int(user)].value(), *films[int(film)].value(), [float(rating) * 2 - 5.0]]


def _creator(is_test: bool, **options: Any) -> Reader:
    return lambda: _ratings(is_test, **options)


train = partial(_creator, False)
test = partial(_creator, True)
fetch = fetched("movielens", _FILES, _MADE_UP)
