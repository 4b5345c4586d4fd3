"""Small files in the formats of the data sets that paddle.dataset reads, and what its functions make of them.

Runs under Python 3.7 too: there the real Paddle reads the same files, for the golden.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import struct
import tarfile
import zipfile
from typing import Any

import numpy as np

_TEXT = "the cat sat on a mat and dog ran far away from bird that sang"
WORDS = _TEXT.split(" ")


def _add(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _tar(path, members, mode: Any = "w:gz"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            _add(archive, name, content)


def _text(rng, least, most):
    return " ".join(WORDS[n] for n in rng.randint(0, len(WORDS), rng.randint(least, most)))


def _mnist(home, rng):
    os.makedirs(os.path.join(home, "mnist"))
    for part in ("train", "t10k"):
        with gzip.open(os.path.join(home, "mnist", part + "-images-idx3-ubyte.gz"), "wb") as file:
            file.write(struct.pack(">IIII", 2051, 100, 28, 28) + rng.randint(0, 256, 100 * 784).astype("u1").tobytes())
        with gzip.open(os.path.join(home, "mnist", part + "-labels-idx1-ubyte.gz"), "wb") as file:
            file.write(struct.pack(">II", 2049, 100) + rng.randint(0, 10, 100).astype("u1").tobytes())


def _python2_batch(data, key, labels):
    """A pickle as CIFAR's are: written by Python 2, texts and the array's bytes as its str."""

    def text(value):
        return b"U" + struct.pack("<B", len(value)) + value

    shape = b"".join(b"M" + struct.pack("<H", n) if n > 255 else b"K" + struct.pack("<B", n) for n in data.shape)
    numbers = b"".join(b"K" + struct.pack("<B", n) for n in labels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R(K\x01" + shape
        + b"\x86cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", data.size) + data.tobytes() + b"tb"
    )  # fmt: skip
    return b"\x80\x02}(" + text(b"data") + array + text(key) + b"](" + numbers + b"eu."


def _cifar(home, rng):
    for name, parts, key, classes in (
        ("cifar-10-python.tar.gz", ("data_batch_1", "data_batch_2", "test_batch"), b"labels", 10),
        ("cifar-100-python.tar.gz", ("train", "test"), b"fine_labels", 100),
    ):
        folder = name.split("-python")[0]
        members = []
        for part in parts:
            data = rng.randint(0, 256, (4, 3072)).astype("u1")
            members.append((folder + "/" + part, _python2_batch(data, key, rng.randint(0, classes, 4))))
        _tar(os.path.join(home, "cifar", name), members)


def _uci_housing(home, rng):
    os.makedirs(os.path.join(home, "uci_housing"))
    rows = rng.uniform(0, 100, (20, 14)).round(3)
    with open(os.path.join(home, "uci_housing", "housing.data"), "w") as file:
        file.write("\n".join(" " + "  ".join(map(str, row)) for row in rows) + "\n")


def _imdb(home, rng):
    members = [
        (f"aclImdb/{part}/{opinion}/{n}_7.txt", (_text(rng, 5, 20) + ', it\'s "Good"!<br />\n').encode())
        for part in ("train", "test")
        for opinion in ("pos", "neg")
        for n in range(6)
    ]
    _tar(os.path.join(home, "imdb", "imdb%2FaclImdb_v1.tar.gz"), members)


def _imikolov(home, rng):
    # As many <unk> as lines would be as many as <s>, which Paddle cannot order: a text beside bytes.
    lines = {
        part: "".join(" {} {}\n".format(_text(rng, 1, 9), "<unk> " * (n % 2)) for n in range(12))
        for part in ("train", "valid")
    }
    members = [(f"./simple-examples/data/ptb.{part}.txt", text.encode()) for part, text in lines.items()]
    _tar(os.path.join(home, "imikolov", "imikolov%2Fsimple-examples.tgz"), members)


def _movielens(home, rng):
    os.makedirs(os.path.join(home, "movielens"))
    with zipfile.ZipFile(os.path.join(home, "movielens", "movielens%2Fml-1m.zip"), "w") as archive:
        films = ["3::Caf\u00e9 Noir (1990)::Drama|War", "7::The Bird: Dogs (2000) (1999)::Comedy", "9::Far (1980)::War"]
        users = ["1::F::1::10::48067", "2::M::56::16::70072", "5::M::25::20::x"]
        ratings = [f"{u}::{m}::{r}::97" for u, m, r in
                   zip(rng.choice([1, 2, 5], 40), rng.choice([3, 7, 9], 40), rng.randint(1, 6, 40))]  # fmt: skip
        for name, lines in (("movies", films), ("users", users), ("ratings", ratings)):
            archive.writestr(f"ml-1m/{name}.dat", "\n".join(lines).encode("latin") + b"\n")


def _conll05(home, rng):
    folder = os.path.join(home, "conll05st")
    sentences = [
        ("the cat sat far away .", [["-", "sat", "-"], ["(A0*", "*", "(V*)", "(AM-LOC*", "*)", "*"]]),
        (
            "dog ran and bird sang",
            [["-", "ran", "-", "-", "sang"], ["(A0*)", "(V*)", "*", "*", "*"], ["*", "*", "*", "(A0*)", "(V*)"]],
        ),
    ]
    sentences[0][1][0] = ["-", "-", "sat", "-", "-", "-"]
    texts, props = [], []
    for text, columns in sentences:
        texts += [*text.split(), ""]
        props += [*(" ".join(row) for row in zip(*columns)), ""]
    members = [
        (
            f"conll05st-release/test.wsj/{kind}/test.wsj.{kind}.gz",
            gzip.compress(("\n".join(lines) + "\n").encode()),
        )
        for kind, lines in (("words", texts), ("props", props))
    ]
    _tar(os.path.join(folder, "conll05st-tests.tar.gz"), members)
    for name, lines in (
        ("wordDict", ["<unk>", "bos", "eos", *WORDS[:10]]),
        ("verbDict", ["sat", "ran", "sang"]),
        ("targetDict", ["B-A0", "I-A0", "B-AM-LOC", "I-AM-LOC", "B-V", "I-V", "O"]),
    ):
        with open(os.path.join(folder, "conll05st%2F" + name + ".txt"), "w") as file:
            file.write("\n".join(lines) + "\n")


def _wmt14(home, rng):
    marks = ["<s>", "<e>", "<unk>"]
    members = [
        (f"wmt14/{side}.dict", ("\n".join(marks + WORDS[at:]) + "\n").encode()) for at, side in ((0, "src"), (3, "trg"))
    ]
    for name, count in (("train/train", 6), ("test/test", 3), ("gen/gen", 2)):
        pairs = [f"{_text(rng, 1, 8)}\t{_text(rng, 1, 8)}" for _ in range(count)]
        pairs += ["no second field", _text(rng, 81, 90) + "\ta cat"]
        members.append(("wmt14/" + name, ("\n".join(pairs) + "\n").encode()))
    _tar(os.path.join(home, "wmt14", "wmt14.tgz"), members)


def _wmt16(home, rng):
    members = []
    for name, count in (("train", 12), ("test", 3), ("val", 2)):
        pairs = [f"{_text(rng, 1, 8)}\t{_text(rng, 1, 8).upper()}" for _ in range(count)]
        members.append(("wmt16/" + name, ("\n".join([*pairs, "alone"]) + "\n").encode()))
    _tar(os.path.join(home, "wmt16", "wmt16.tar.gz"), members)


def _flowers(home, rng):
    from scipy.io import savemat

    folder = os.path.join(home, "flowers")
    members = [(f"jpg/image_{n:05d}.jpg", rng.bytes(20)) for n in (3, 1, 2, 5, 4)]
    _tar(os.path.join(folder, "102flowers.tgz"), members)
    savemat(os.path.join(folder, "imagelabels.mat"), {"labels": np.array([[4, 1, 102, 7, 7]], "u1")})
    savemat(
        os.path.join(folder, "setid.mat"),
        {"trnid": np.array([[2]]), "valid": np.array([[4]]), "tstid": np.array([[1, 3, 5]])},
    )


def _sentiment(home, rng):
    os.makedirs(os.path.join(home, "corpora"))
    with zipfile.ZipFile(os.path.join(home, "corpora", "movie_reviews.zip"), "w") as archive:
        for category in ("neg", "pos"):
            for n in (10, 2, 1):
                text = _text(rng, 4, 12) + " , it's n't \" so-so \" ( 7/10 ) .\nend\n"
                archive.writestr(f"movie_reviews/{category}/cv{n:03d}_1.txt", text)
        archive.writestr("movie_reviews/README", "nothing")


def _mq2007(home, rng):
    folder = os.path.join(home, "MQ2007", "MQ2007", "MQ2007", "Fold1")
    os.makedirs(folder)
    for name in ("train", "test"):
        lines = []
        for query, scores in ((10, (0, 2, 1, 2)), (11, (0, 0)), (12, (1, 0))):
            for score in scores:
                row = " ".join(f"{at}:{value:.6f}" for at, value in enumerate(rng.uniform(0, 1, 46), 1))
                lines.append(f"{score} qid:{query} {row} #docid = GX{len(lines)} inc = 1")
        with open(os.path.join(folder, name + ".txt"), "w") as file:
            file.write("\n".join(lines) + "\n")


def _voc2012(home, rng):
    from PIL import Image

    def png(array):
        content = io.BytesIO()
        Image.fromarray(array).save(content, "png")
        return content.getvalue()

    base = "VOCdevkit/VOC2012/"
    members = [(base + f"ImageSets/Segmentation/{part}.txt", text) for part, text in
               (("trainval", b"a1\nb2\n"), ("train", b"a1\n"), ("val", b"b2\n"))]  # fmt: skip
    for name in ("a1", "b2"):
        members.append((base + f"JPEGImages/{name}.jpg", png(rng.randint(0, 256, (5, 6, 3)).astype("u1"))))
        members.append((base + f"SegmentationClass/{name}.png", png(rng.randint(0, 21, (5, 6)).astype("u1"))))
    _tar(os.path.join(home, "voc2012", "VOCtrainval_11-May-2012.tar"), members, "w")


WRITERS = {
    "mnist": _mnist, "cifar": _cifar, "uci_housing": _uci_housing, "imdb": _imdb, "imikolov": _imikolov,
    "movielens": _movielens, "conll05": _conll05, "wmt14": _wmt14, "wmt16": _wmt16, "flowers": _flowers,
    "sentiment": _sentiment, "mq2007": _mq2007, "voc2012": _voc2012,
}  # fmt: skip


def write_files(home, dataset):
    """The files of one data set, under the folder ``home``."""
    WRITERS[dataset](str(home), np.random.RandomState(sorted(WRITERS).index(dataset)))


# What the functions make of them ------------------------------------------------------------------------------


def shown(value):
    """A sample in JSON's terms: arrays as type, shape and digest; bytes, as such."""
    if isinstance(value, np.ndarray):
        return [
            str(value.dtype),
            list(value.shape),
            hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16],
        ]
    if isinstance(value, bytes):
        return "bytes " + value.decode("latin1")
    if isinstance(value, (list, tuple)):
        return [type(value).__name__] + [shown(each) for each in value]
    if isinstance(value, (np.integer, np.floating)):
        return [type(value).__name__, value.item()]
    return value


def _pairs(mapping):
    return [[shown(key), shown(value)] for key, value in mapping.items()]


def _whole(reader):
    return [shown(sample) for sample in reader()]


def _described_mnist(module):
    return {"train": _whole(module.train()), "test": _whole(module.test())}


def _described_cifar(module):
    names = ("train10", "test10", "train100", "test100")
    cycled = module.train10(cycle=True)()
    found = {name: _whole(getattr(module, name)()) for name in names}
    found["cycled"] = [shown(next(cycled)) for _ in range(10)]
    return found


def _described_uci_housing(module):
    return {
        "train": _whole(module.train()),
        "test": _whole(module.test()),
        "predict": shown(module.predict_reader()),
        "names": list(module.feature_names),
    }


def _described_imdb(module):
    words = module.build_dict(re.compile(r"aclImdb/.*\.txt$"), 3)
    return {"words": _pairs(words), "train": _whole(module.train(words)), "test": _whole(module.test(words))}


def _described_imikolov(module):
    words = module.build_dict(3)
    known = dict(words)
    known.setdefault("<s>", 90)
    known.setdefault("<e>", 91)
    sequences = module.DataType.SEQ
    return {
        "words": _pairs(words),
        "train": _whole(module.train(known, 3)),
        "test": _whole(module.test(known, 5)),
        "sequences": _whole(module.train(known, 6, sequences)),
        "all sequences": _whole(module.test(known, -1, sequences)),
    }


def _described_movielens(module):
    genres = {number: name for name, number in module.movie_categories().items()}
    words = {number: word for word, number in module.get_movie_title_dict().items()}

    def named(sample):
        return shown([*sample[:5], [genres[n] for n in sample[5]], [words[n] for n in sample[6]], sample[7]])

    return {
        "train": [named(sample) for sample in module.train()()],
        "test": [named(sample) for sample in module.test()()],
        "drawn next": float(np.random.random()),
        "largest": [module.max_movie_id(), module.max_user_id(), module.max_job_id()],
        "ages": module.age_table,
        "films": [repr(film) for film in module.movie_info().values()],
        "users": [repr(user) for user in module.user_info().values()],
    }


def _described_conll05(module):
    words, verbs, labels = module.get_dict()
    back = {number: name for name, number in labels.items()}
    return {
        "words": _pairs(words),
        "verbs": _pairs(verbs),
        "labels": sorted(labels),
        "last": max(labels, key=labels.get),
        "test": [shown([*sample[:-1], [back[n] for n in sample[-1]]]) for sample in module.test()()],
    }


def _described_wmt14(module):
    parts = {name: _whole(getattr(module, name)(12)) for name in ("train", "test", "gen")}
    parts["words"] = [_pairs(each) for each in module.get_dict(12)]
    return parts


def _described_wmt16(module):
    found = {name: _whole(getattr(module, name)(10, 8)) for name in ("train", "test", "validation")}
    found["german"] = _whole(module.train(8, 10, src_lang="de"))
    found["words"] = [_pairs(module.get_dict("en", 10)), _pairs(module.get_dict("de", 8, reverse=True))]
    return found


def _described_flowers(module):
    def itself(sample):
        return sample

    found = {}
    for name in ("train", "test", "valid"):
        found[name] = _whole(getattr(module, name)(mapper=itself, use_xmap=False))
    return found


def _described_sentiment(module):
    return {
        "words": shown(module.get_word_dict()),
        "train": [shown(sample) for sample in module.train()],
        "test": [shown(sample) for sample in module.test()],
    }


def _described_mq2007(module):
    formats = ("plain_txt", "pointwise", "pairwise", "listwise")
    found = {name: [shown(sample) for sample in module.train(format=name)] for name in formats}
    found["test"] = [shown(sample) for sample in module.test()]
    return found


def _described_voc2012(module):
    return {name: _whole(getattr(module, name)()) for name in ("train", "test", "val")}


def described(module, dataset):
    """What the functions of ``paddle.dataset.DATASET`` give, in JSON's terms."""
    return globals()["_described_" + dataset](module)
