"""Cases of gather, scatter, sort and running sums; expectations place elements one by one."""

import math

import numpy as np
from cases import Case, ErrorCase, distinct, floats, ints, tensor

from fluidc.compiler.ops import indexing as ix
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind

E0, E1, E2 = ExampleKind(0), ExampleKind(1), ExampleKind(2)
X, CUBE = floats(4, 3, seed=1), floats(2, 4, 3, seed=2)
NAN = float("nan")


def picked(axis):
    def expect(x, index):
        out = np.zeros((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]), x.dtype)
        for before in np.ndindex(*x.shape[:axis]):
            for place in np.ndindex(*index.shape):
                out[(*before, *place)] = x[(*before, index[place])]
        return out

    return expect


def placed(axis, *, add):
    def expect(x, index, updates):
        out = x.copy()
        for before in np.ndindex(*x.shape[:axis]):
            for place in np.ndindex(*index.shape):
                target, row = (*before, index[place]), updates[(*before, *place)]
                out[target] = out[target] + row if add else row
        return out

    return expect


def along(axis):
    def expect(x, index):
        out = np.zeros(index.shape, x.dtype)
        for i in np.ndindex(*index.shape):
            out[i] = x[(*i[:axis], index[i], *i[axis + 1 :])]
        return out

    return expect


def added_along(axis):
    def expect(x, index, updates):
        out = x.copy()
        for i in np.ndindex(*index.shape):
            out[(*i[:axis], index[i], *i[axis + 1 :])] += updates[i]
        return out

    return expect


def ordered(axis, *, descending, count=None):
    """Python's stable sort, row by row."""

    def expect(x):
        moved = np.moveaxis(x, axis, -1)
        k = count or moved.shape[-1]
        values, places = np.zeros((*moved.shape[:-1], k), x.dtype), np.zeros((*moved.shape[:-1], k), np.int64)
        for o in np.ndindex(*moved.shape[:-1]):
            row = [-math.inf if v != v else v for v in moved[o].tolist()]
            order = sorted(range(len(row)), key=lambda i: -row[i] if descending else row[i])[:k]
            values[o], places[o] = [moved[o][i] for i in order], order
        return np.moveaxis(values, -1, axis), np.moveaxis(places, -1, axis)

    return expect


def running(axis, *, exclusive=False, reverse=False):
    def expect(x):
        out = np.zeros_like(x)
        n = x.shape[axis]
        for i in np.ndindex(*x.shape):
            k = i[axis]
            span = range(k + exclusive, n) if reverse else range(k + 1 - exclusive)
            terms = [x[(*i[:axis], s, *i[axis + 1 :])].item() for s in span]
            out[i] = math.fsum(terms) if x.dtype.kind == "f" else sum(terms)
        return out

    return expect


def at_tuples(x, index):
    out = np.zeros((*index.shape[:-1], *x.shape[index.shape[-1] :]), x.dtype)
    for place in np.ndindex(*index.shape[:-1]):
        out[place] = x[tuple(index[place])]
    return out


def add_at_tuples(x, index, updates):
    out = x.copy()
    for place in np.ndindex(*index.shape[:-1]):
        out[tuple(index[place])] += updates[place]
    return out


def gather(tag, axis, x, index, kinds=(), kind=None, **options):
    return Case("indexing.gather" + tag, lambda v, i: ix.Gather(v, i, axis), (x, index), picked(axis), wrt=(0,),
                kinds=kinds, kind=kind, **options)  # fmt: skip


def scatter(cls, tag, axis, x, index, updates, kinds=(), kind=None, **options):
    return Case(cls.name + tag, lambda v, i, u: cls(v, i, u, axis), (x, index, updates),
                placed(axis, add=cls.adds), wrt=options.pop("wrt", (0, 2)), kinds=kinds, kind=kind,
                **options)  # fmt: skip


I3 = np.array([2, 0, 2])
PAIRS = np.array([[3, 1], [0, 2], [3, 1]])
DUPLICATES = np.array([[2.0, 5.0, 2.0, 5.0, 1.0], [1.0, 1.0, 1.0, 0.0, 1.0]], np.float32)
WITH_NAN = np.array([[NAN, 1.0, -math.inf, NAN, 3.0]], np.float32)

CASES = (
    gather("", 0, X, I3, (PUBLIC, E0), E0),
    gather("-axis", 1, X, I3, (E0, PUBLIC), E0),
    gather("-matrix", 1, CUBE, ints(2, 2, high=4), (E0, PUBLIC), E0),
    gather("-before", 0, CUBE, ints(2, 2, high=2), (E2, PUBLIC), ExampleKind(3)),
    gather("-batch", 0, X, I3, (E0, PUBLIC), "mixed"),
    gather("-both", 1, X, ints(4, high=3), (E0, E0), "mixed"),
    gather("-scalar", 0, X, np.array(2), (PUBLIC, PUBLIC), PUBLIC),
    gather("-column-of-ids", 0, X, ints(5, 2, high=4), (PUBLIC, E1), E1),
    gather("-int32", 0, X, I3.astype(np.int32)),
    scatter(ix.ScatterAdd, "", 0, X, I3, floats(3, 3)),
    scatter(ix.ScatterAdd, "-axis", 1, X, I3, floats(4, 3), (E0, PUBLIC, E0), E0),
    scatter(ix.ScatterAdd, "-matrix", 1, CUBE, ints(2, 2, high=4), floats(2, 2, 2, 3)),
    scatter(ix.ScatterAdd, "-matrix-after", 1, CUBE, ints(2, 2, high=4), floats(2, 2, 2, 3), (E0, PUBLIC, E0), E0),
    # Every update takes the cotangent, also one that a later update covers (Paddle's rule).
    Case("indexing.scatter-covered", lambda v, i, u: ix.Scatter(v, i, u, 0),
         (np.array([1, 2], np.float32), np.array([0, 0]), np.array([5, 6], np.float32)),
         lambda x, i, u: np.array([6, 2]), at_kink=([0.0, 1.0], [1.0, 1.0])),
    scatter(ix.ScatterAdd, "-inner-batch", 0, X, I3, floats(3, 3), (E1, PUBLIC, E1), E1),
    scatter(ix.ScatterAdd, "-examples", 0, X, I3, floats(3, 3), (PUBLIC, E0, E0), "mixed"),
    scatter(ix.Scatter, "", 0, X, np.array([2, 0]), floats(2, 3)),
    scatter(ix.Scatter, "-last-wins", 0, X, I3, floats(3, 3), wrt=(0,)),
    scatter(ix.Scatter, "-axis", 1, X, np.array([2, 0]), floats(4, 2), (E0, PUBLIC, E0), E0),
    Case("indexing.gather_nd", ix.GatherNd, (CUBE, ints(5, 2, high=2)), at_tuples, wrt=(0,)),
    Case("indexing.gather_nd-full", ix.GatherNd, (X, PAIRS[:, :2] % 3), at_tuples, wrt=(0,)),
    Case("indexing.gather_nd-rows", ix.GatherNd, (X, ints(2, 2, 1, high=4)), at_tuples, wrt=(0,), kinds=(PUBLIC,
         PUBLIC), kind=PUBLIC),
    Case("indexing.scatter_nd_add", ix.ScatterNdAdd, (X, PAIRS, floats(3)), add_at_tuples, wrt=(0, 2)),
    Case("indexing.scatter_nd_add-rows", ix.ScatterNdAdd, (CUBE, ints(3, 1, high=2), floats(3, 4, 3)), add_at_tuples,
         wrt=(0, 2)),
    Case("indexing.take_along", lambda v, i: ix.TakeAlong(v, i, 1), (X, ints(4, 2, high=3)), along(1), wrt=(0,),
         kinds=(E0, E0), kind=E0),
    Case("indexing.take_along-first", lambda v, i: ix.TakeAlong(v, i, 0), (X, ints(6, 3, high=4)), along(0), wrt=(0,)),
    Case("indexing.take_along-batch", lambda v, i: ix.TakeAlong(v, i, 0), (X, ints(4, 3, high=4)), along(0),
         kinds=(E0, E0), kind="mixed"),
    Case("indexing.add_along", lambda v, i, u: ix.AddAlong(v, i, u, 1), (X, ints(4, 5, high=3), floats(4, 5)),
         added_along(1),
         wrt=(0, 2), kinds=(E0, E0, E0), kind=E0),
    Case("indexing.add_along-middle", lambda v, i, u: ix.AddAlong(v, i, u, 1), (CUBE, ints(2, 3, 3, high=4), floats(2,
         3, 3)),
         added_along(1), wrt=(0, 2)),
    Case("indexing.top_k", lambda v: ix.TopK(v, 2), (distinct(3, 5),), ordered(-1, descending=True, count=2), wrt=(0,),
         kinds=(E0,), kind=(E0, E0)),
    Case("indexing.top_k-ties", lambda v: ix.TopK(v, 4), (DUPLICATES,), ordered(-1, descending=True, count=4)),
    Case("indexing.top_k-all", lambda v: ix.TopK(v, 6), (distinct(6),), ordered(-1, descending=True), wrt=(0,)),
    Case("indexing.top_k-nan", lambda v: ix.TopK(v, 5), (WITH_NAN,), ordered(-1, descending=True)),
    Case("indexing.top_k-int", lambda v: ix.TopK(v, 3), (ints(2, 6, high=4),), ordered(-1, descending=True, count=3)),
    Case("indexing.top_k-batch", lambda v: ix.TopK(v, 2), (distinct(3, 5),), ordered(-1, descending=True, count=2),
         kinds=(ExampleKind(0),), kind=E0),
    Case("indexing.argsort", lambda v: ix.Argsort(v, 1), (distinct(3, 5),), ordered(1, descending=False), wrt=(0,),
         kinds=(E0,), kind=(E0, E0)),
    Case("indexing.argsort-down", lambda v: ix.Argsort(v, 0, True), (distinct(5, 2),), ordered(0, descending=True),
         wrt=(0,),
         kinds=(E0,), kind="mixed"),
    Case("indexing.argsort-ties", lambda v: ix.Argsort(v, 1), (DUPLICATES,), ordered(1, descending=False)),
    Case("indexing.argsort-ties-down", lambda v: ix.Argsort(v, 1, True), (DUPLICATES,), ordered(1, descending=True)),
    Case("indexing.argsort-nan", lambda v: ix.Argsort(v, 1), (WITH_NAN,), ordered(1, descending=False)),
    Case("indexing.cumsum", lambda v: ix.Cumsum(v, 1), (X,), running(1), wrt=(0,), kinds=(E0,), kind=E0),
    Case("indexing.cumsum-exclusive", lambda v: ix.Cumsum(v, 0, True), (X,), running(0, exclusive=True), wrt=(0,),
         kinds=(E0,), kind="mixed"),
    Case("indexing.cumsum-reverse", lambda v: ix.Cumsum(v, 1, False, True), (CUBE,), running(1, reverse=True), wrt=(0,
         )),
    Case("indexing.cumsum-both", lambda v: ix.Cumsum(v, 1, True, True), (CUBE,), running(1, exclusive=True,
         reverse=True), wrt=(0,)),
    Case("indexing.cumsum-int", lambda v: ix.Cumsum(v, 0), (ints(6, high=9),), running(0)),
)  # fmt: skip

ERRORS = (
    ErrorCase("indexing.gather-float", lambda x, i: ix.Gather(x, i, 0), (tensor("f32[4]"), tensor("f32[2]")),
              "index is integer"),
    ErrorCase("indexing.gather-axis", lambda x, i: ix.Gather(x, i, 1), (tensor("f32[4]"), tensor("i64[2]")), "axis 1"),
    ErrorCase("indexing.scatter_add-updates", lambda x, i, u: ix.ScatterAdd(x, i, u, 0),
              (tensor("f32[4,3]"), tensor("i64[2]"), tensor("f32[3,3]")), "f32[2,3]"),
    ErrorCase("indexing.gather_nd-scalar", ix.GatherNd, (tensor("f32[4,3]"), tensor("i64[]")), "1 to 2 coordinates"),
    ErrorCase("indexing.gather_nd-depth", ix.GatherNd, (tensor("f32[4,3]"), tensor("i64[2,3]")), "1 to 2 coordinates"),
    ErrorCase("indexing.scatter_nd_add-updates", ix.ScatterNdAdd, (tensor("f32[4]"), tensor("i64[2,1]"),
              tensor("f32[3]")), "f32[2]"),
    ErrorCase("indexing.take_along-shape", lambda x, i: ix.TakeAlong(x, i, 1), (tensor("f32[4,3]"),
              tensor("i64[5,2]")), "differ outside axis 1"),
    ErrorCase("indexing.add_along-shape", lambda x, i, u: ix.AddAlong(x, i, u, 0), (tensor("f32[4]"),
              tensor("i64[2]"), tensor("f32[3]")), "do not agree"),
    ErrorCase("indexing.top_k-many", lambda x: ix.TopK(x, 4), (tensor("f32[2,3]"),), "no 4 largest"),
    ErrorCase("indexing.argsort-axis", lambda x: ix.Argsort(x, 2), (tensor("f32[2,3]"),), "no order"),
    ErrorCase("indexing.cumsum-bool", lambda x: ix.Cumsum(x, 0), (tensor("bool[3]"),), "no running sums"),
)  # fmt: skip
