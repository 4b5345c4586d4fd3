"""Programs with ops that run on the host, for Paddle 1.8.5 and for this package: each builder is given the module
``fluid`` and returns feeds and fetches.

A feed is an array, or (array, lengths of each LoD level).
"""

# The generator of the goldens runs under Python 3.7.

import numpy as np


def uniform(seed, *shape):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype("float32")


def integers(seed, high, *shape):
    return np.random.RandomState(seed).randint(0, high, shape).astype("int64")


def translation(
    fluid, beam=3, words=12, end=1, steps=6, sources=(3, 1, 4), accumulated=True, by_parents=False, recurrent=False
):
    """Translating by beam search: arrays of ids, scores and states, in a While until all have ended."""
    layers = fluid.layers
    source = layers.data("source", [1], dtype="int64", lod_level=1)
    embedded = layers.embedding(source, [words, 8], param_attr=fluid.ParamAttr(name="embedding"))
    if recurrent:
        hidden, _ = layers.dynamic_lstm(layers.fc(embedded, 40, act="tanh"), 40, use_peepholes=False)
        context = layers.sequence_last_step(hidden)
    else:
        context = layers.sequence_pool(layers.fc(embedded, 10, act="tanh"), "last")
    limit = layers.fill_constant([1], "int64", steps)
    at = layers.fill_constant([1], "int64", 0)
    first_ids = layers.data("first_ids", [1], dtype="int64", lod_level=2)
    first_scores = layers.data("first_scores", [1], lod_level=2)
    states, ids, scores = (layers.create_array(kind) for kind in ("float32", "int64", "float32"))
    layers.array_write(context, at, states)
    layers.array_write(first_ids, at, ids)
    layers.array_write(first_scores, at, scores)
    going_on = layers.less_than(at, limit)
    with layers.While(going_on).block():
        before, score, state = layers.array_read(ids, at), layers.array_read(scores, at), layers.array_read(states, at)
        if not by_parents:
            state = layers.sequence_expand(state, score)
        word = layers.embedding(before, [words, 8], param_attr=fluid.ParamAttr(name="embedding"))
        new = layers.fc([state, word], 10, act="tanh")
        odds = layers.fc(layers.lod_reset(new, y=score), words, act="softmax")
        best, which = layers.topk(odds, beam + 1)
        if accumulated:
            best = layers.elementwise_add(layers.log(best), layers.reshape(score, [-1]), axis=0)
        chosen = layers.beam_search(
            before, score, which, best, beam, end, is_accumulated=accumulated, return_parent_idx=True
        )
        layers.increment(at, 1, in_place=True)
        layers.array_write(layers.gather(new, chosen[2]) if by_parents else new, at, states)
        layers.array_write(chosen[0], at, ids)
        layers.array_write(chosen[1], at, scores)
        alive = layers.logical_not(layers.is_empty(chosen[0]))
        layers.logical_and(layers.less_than(at, limit), alive, out=going_on)
    found = layers.beam_search_decode(ids, scores, beam, end)
    count = len(sources)
    ones = [[1] * count] * 2
    feeds = {
        "source": (integers(5, words, sum(sources), 1), [list(sources)]),
        "first_ids": (np.zeros((count, 1), "int64"), ones),
        "first_scores": (np.zeros((count, 1), "float32"), ones),
    }
    return feeds, [*found, at]


class Case:
    """One host op: builds a program from feeds.

    ``build(fluid, x)`` gets the data variables by name and returns what is fetched.
    """

    def __init__(self, build, feeds, fixed=()):
        self.build = build
        self.feeds = feeds
        self.fixed = fixed  # feeds whose first size is declared

    def __call__(self, fluid):
        given = {}
        for name, value in self.feeds.items():
            array, lengths = value if isinstance(value, tuple) else (value, [])
            shape = array.shape if name in self.fixed else (-1, *array.shape[1:])
            given[name] = fluid.layers.data(
                name, list(shape), append_batch_size=False, dtype=str(array.dtype), lod_level=len(lengths)
            )
        found = self.build(fluid, given)
        return self.feeds, list(found) if isinstance(found, (list, tuple)) else [found]


def layer(name, *arguments, **kwargs):
    """A layer on the feeds called a, b, ... in this order, unless arguments name them."""

    def build(fluid, x):
        def filled(value):
            return x[value[1:]] if isinstance(value, str) and value.startswith("$") else value

        args = [filled(a) for a in arguments] if arguments else [x[n] for n in sorted(x)]
        found = getattr(fluid.layers, name)(*args, **{key: filled(value) for key, value in kwargs.items()})
        return [v for v in found if v is not None] if isinstance(found, (list, tuple)) else found

    return build


def op(kind, inputs, outputs, **attrs):
    """An op as a record, without its layer: slots with names of feeds, and with the dtypes of results."""

    def build(fluid, x):
        block = fluid.default_main_program().global_block()
        results = [
            block.create_var(name=f"result_{i}", dtype=dtype, shape=[-1], lod_level=1, persistable=False)
            for i, dtype in enumerate(outputs.values())
        ]
        block.append_op(
            type=kind,
            inputs={slot: [x[n] for n in names.split()] for slot, names in inputs.items()},
            outputs={slot: [var] for slot, var in zip(outputs, results)},
            attrs=attrs,
        )
        return results

    return build


def lod(array, *lengths):
    return array, [list(level) for level in lengths]


def _matrix(seed, rows, columns):
    return np.random.RandomState(seed).rand(rows, columns).astype("float32")


def _boxes(seed, *shape):
    corners = np.sort(np.random.RandomState(seed).rand(*shape, 2, 2), axis=-2)
    return corners.reshape(*shape, 4).astype("float32")


def _beam(level=0, **kwargs):
    def build(fluid, x):
        return fluid.layers.beam_search(
            x["pre_ids"], x["pre_scores"], x.get("ids"), x["scores"], 2, 0, level, return_parent_idx=True, **kwargs
        )

    return build


def _beam_feeds(seed, ids=True, ended=(), ties=False):
    scores = _matrix(seed, 4, 3)
    if ties:
        scores = np.round(scores)
    before = np.array([[0 if i in ended else 5] for i in range(4)], "int64")
    feeds = {
        "pre_ids": lod(before, [1, 3], [1, 1, 1, 1]),
        "pre_scores": lod(_matrix(seed + 1, 4, 1), [1, 3], [1, 1, 1, 1]),
        "scores": lod(scores, [1, 3], [1, 1, 1, 1]),
    }
    if ids:
        feeds["ids"] = lod(integers(seed, 9, 4, 3), [1, 3], [1, 1, 1, 1])
    return feeds


def _decode(fluid, x):
    """beam_search_decode over three steps that are fed; one source ends early."""
    layers = fluid.layers
    ids, scores = layers.create_array("int64"), layers.create_array("float32")
    for step in range(3):
        at = layers.fill_constant([1], "int64", step)
        layers.array_write(x[f"ids{step}"], at, ids)
        layers.array_write(x[f"scores{step}"], at, scores)
    return layers.beam_search_decode(ids, scores, 2, 0)


_STEPS = [
    ([4, 7], [1, 1], [1, 1]),
    ([1, 3, 0, 0], [1, 1], [2, 2]),
    ([2, 0], [2, 2], [2, 0, 0, 0]),
]
_DECODE = {}
for _step, (_ids, _high, _low) in enumerate(_STEPS):
    _DECODE[f"ids{_step}"] = lod(np.array(_ids, "int64").reshape(-1, 1), _high, _low)
    _DECODE[f"scores{_step}"] = lod(_matrix(50 + _step, len(_ids), 1), _high, _low)


def _erased(fluid, x):
    return fluid.layers.edit_distance(x["a"], x["b"], normalized=False, ignored_tokens=[2, 3])


_TOKENS = integers(1, 5, 9, 1)
_OTHERS = integers(2, 5, 7, 1)
_TAGS = integers(3, 7, 20, 1)
_RIGHT = np.where(np.random.RandomState(4).rand(20, 1) < 0.6, _TAGS, integers(5, 7, 20, 1)).astype("int64")
_X9 = _matrix(6, 9, 2)
_PROBABILITIES = _matrix(7, 11, 4)

CASES = {
    "beam_search": Case(_beam(), _beam_feeds(11)),
    "beam_search_no_ids": Case(_beam(), _beam_feeds(12, ids=False)),
    "beam_search_ended": Case(_beam(), _beam_feeds(13, ended=(0, 2))),
    "beam_search_pruned": Case(_beam(), _beam_feeds(14, ended=(1, 2, 3))),
    "beam_search_ties": Case(_beam(), _beam_feeds(15, ties=True)),
    "beam_search_probabilities": Case(_beam(is_accumulated=False), _beam_feeds(16)),
    "beam_search_level_1": Case(_beam(level=1), _beam_feeds(17)),
    "beam_search_decode": Case(_decode, _DECODE),
    "edit_distance": Case(layer("edit_distance"), {"a": lod(_TOKENS, [4, 5]), "b": lod(_OTHERS, [1, 6])}),
    "edit_distance_plain": Case(
        layer("edit_distance", normalized=False), {"a": lod(_TOKENS, [0, 9]), "b": lod(_OTHERS, [3, 4])}
    ),
    "edit_distance_ignored": Case(_erased, {"a": lod(_TOKENS, [4, 5]), "b": lod(_OTHERS, [1, 6])}),
    "edit_distance_padded": Case(
        layer("edit_distance", "$a", "$b", input_length="$c", label_length="$d"),
        {
            "a": integers(8, 4, 3, 5),
            "b": integers(9, 4, 3, 4),
            "c": np.array([5, 2, 4], "int64"),
            "d": np.array([4, 4, 1], "int64"),
        },
    ),
    "mean_iou": Case(
        layer("mean_iou", num_classes=5),
        {"a": integers(1, 4, 12).astype("int32"), "b": integers(2, 4, 12).astype("int32")},
    ),
    "ctc_greedy_decoder": Case(layer("ctc_greedy_decoder", blank=0), {"a": lod(_PROBABILITIES, [4, 1, 6])}),
    "ctc_greedy_decoder_nothing": Case(
        layer("ctc_greedy_decoder", blank=1), {"a": lod(np.eye(4, dtype="float32")[[1, 1, 1]], [2, 1])}
    ),
    "ctc_greedy_decoder_padded": Case(
        layer("ctc_greedy_decoder", "$a", blank=3, input_length="$b", padding_value=-1),
        {"a": np.random.RandomState(3).rand(2, 5, 4).astype("float32"), "b": np.array([[5], [3]], "int64")},
    ),
    "unique": Case(layer("unique"), {"a": np.array([2, 3, 3, 1, 5, 3], "int64")}),
    "unique_float": Case(layer("unique", dtype="int64"), {"a": np.array([0.5, -1, 0.5, 2], "float32")}),
    "unique_with_counts": Case(layer("unique_with_counts"), {"a": np.array([2, 3, 3, 1, 5, 3], "int32")}),
    "where": Case(lambda fluid, x: fluid.layers.where(x["a"] > 0.5), {"a": _matrix(21, 4, 3)}),
    "nonzero_tuple": Case(lambda fluid, x: fluid.layers.nonzero(x["a"] > 0.5, as_tuple=True), {"a": _matrix(21, 4, 3)}),
    # layers.hash of 1.8.5 refuses every hash_size.
    "hash": Case(
        op("hash", {"X": "a"}, {"Out": "int64"}, num_hash=3, mod_by=1000), {"a": lod(integers(4, 100, 5, 2), [2, 3])}
    ),
    "hash_long": Case(op("hash", {"X": "a"}, {"Out": "int64"}, num_hash=2, mod_by=97), {"a": integers(4, 100, 3, 9)}),
    "bipartite_match": Case(layer("bipartite_match"), {"a": lod(_matrix(41, 5, 4), [2, 3])}),
    "bipartite_match_dense": Case(layer("bipartite_match"), {"a": np.round(_matrix(42, 3, 6), 1)}),
    "bipartite_match_many": Case(layer("bipartite_match"), {"a": _matrix(43, 140, 5)}),
    "bipartite_match_per_prediction": Case(
        layer("bipartite_match", match_type="per_prediction", dist_threshold=0.6), {"a": lod(_matrix(44, 5, 8), [2, 3])}
    ),
    "target_assign": Case(
        layer("target_assign", mismatch_value=-3),
        {
            "a": lod(_matrix(45, 5, 3).reshape(5, 1, 3), [2, 3]),
            "b": np.array([[0, -1, 1, -1], [2, 0, -1, 1]], "int32"),
        },
    ),
}
for _scheme, _kinds in (("IOB", 3), ("IOE", 3), ("IOBES", 1), ("plain", 6)):
    CASES["chunk_eval_" + _scheme] = Case(
        layer("chunk_eval", chunk_scheme=_scheme, num_chunk_types=_kinds),
        {
            "a": lod(_TAGS % (5 if _scheme == "IOBES" else 7), [12, 8]),
            "b": lod(_RIGHT % (5 if _scheme == "IOBES" else 7), [12, 8]),
        },
    )
CASES["chunk_eval_excluded"] = Case(
    layer("chunk_eval", chunk_scheme="IOB", num_chunk_types=3, excluded_chunk_types=[1]),
    {"a": lod(_TAGS, [12, 8]), "b": lod(_RIGHT, [12, 8])},
)
CASES["chunk_eval_padded"] = Case(
    layer("chunk_eval", "$a", "$b", chunk_scheme="IOB", num_chunk_types=3, seq_length="$c"),
    {"a": _TAGS.reshape(2, 10), "b": _RIGHT.reshape(2, 10), "c": np.array([7, 10], "int64")},
)
for _name, _changes in {
    "": {},
    "_top": {"nms_top_k": 3, "keep_top_k": 3},
    "_background": {"background_label": -1, "nms_eta": 0.9, "nms_threshold": 0.7},
    "_pixels": {"normalized": False},
    "_nothing": {"score_threshold": 0.999},
}.items():
    _options = {"score_threshold": 0.3, "nms_top_k": -1, "keep_top_k": -1, "nms_threshold": 0.2, **_changes}
    _scale = 20 if _name == "_pixels" else 1
    CASES["multiclass_nms" + _name] = Case(
        layer("multiclass_nms", **_options),
        {"a": _boxes(61, 2, 12) * np.float32(_scale), "b": np.random.RandomState(62).rand(2, 3, 12).astype("float32")},
    )
CASES["multiclass_nms_own_boxes"] = Case(
    layer("multiclass_nms", score_threshold=0.3, nms_top_k=5, keep_top_k=6),
    {"a": lod(_boxes(63, 9, 3), [5, 4]), "b": lod(_matrix(64, 9, 3), [5, 4])},
)

_PAIR = {"a": lod(_X9, [4, 5]), "b": lod(_matrix(71, 5, 3), [2, 3])}
_NESTED = lod(_matrix(72, 6, 1), [2, 1], [3, 1, 2])
_OUT = {"Out": "float32"}
CASES.update(
    sequence_expand_dense=Case(
        op("sequence_expand", {"X": "a", "Y": "b"}, _OUT, ref_level=0), {"a": _matrix(73, 2, 3), "b": _NESTED}
    ),
    sequence_expand_last=Case(
        op("sequence_expand", {"X": "a", "Y": "b"}, _OUT, ref_level=-1), {"a": _matrix(73, 3, 3), "b": _NESTED}
    ),
    sequence_expand_sequences=Case(
        op("sequence_expand", {"X": "a", "Y": "b"}, _OUT, ref_level=0), {"a": lod(_X9, [4, 5]), "b": _NESTED}
    ),
    sequence_expand_nothing=Case(
        op("sequence_expand", {"X": "a", "Y": "b"}, _OUT, ref_level=0),
        {"a": lod(_X9, [4, 5]), "b": lod(_matrix(72, 6, 1), [0, 6])},
    ),
    sequence_expand_as=Case(
        op("sequence_expand_as", {"X": "a", "Y": "b"}, _OUT), {"a": _matrix(73, 2, 3), "b": lod(_X9, [4, 5])}
    ),
    sequence_pad=Case(
        op("sequence_pad", {"X": "a", "PadValue": "c"}, {"Out": "float32", "Length": "int64"}, padded_length=-1),
        {"a": lod(_X9, [4, 5]), "c": np.array([0.25], "float32")},
        fixed="c",
    ),
    sequence_pad_to=Case(
        op("sequence_pad", {"X": "a", "PadValue": "c"}, {"Out": "float32", "Length": "int64"}, padded_length=7),
        {"a": lod(_X9, [4, 5]), "c": np.array([0.25, -1], "float32")},
        fixed="c",
    ),
    sequence_unpad=Case(
        op("sequence_unpad", {"X": "a", "Length": "c"}, _OUT),
        {"a": _matrix(74, 6, 2).reshape(2, 3, 2), "c": np.array([1, 3], "int64")},
    ),
    sequence_slice=Case(
        op("sequence_slice", {"X": "a", "Offset": "c", "Length": "d"}, _OUT),
        {"a": lod(_X9, [4, 5]), "c": np.array([[1], [0]], "int64"), "d": np.array([[3], [2]], "int64")},
    ),
    sequence_erase=Case(op("sequence_erase", {"X": "a"}, {"Out": "int64"}, tokens=[1, 4]), {"a": lod(_TOKENS, [4, 5])}),
    sequence_erase_nested=Case(
        op("sequence_erase", {"X": "a"}, {"Out": "int64"}, tokens=[1, 4]), {"a": lod(_TOKENS, [2, 1], [2, 2, 5])}
    ),
    sequence_enumerate=Case(
        op("sequence_enumerate", {"X": "a"}, {"Out": "int64"}, win_size=3, pad_value=7), {"a": lod(_TOKENS, [4, 5])}
    ),
    sequence_concat=Case(
        op("sequence_concat", {"X": "a c"}, _OUT), {"a": lod(_X9, [4, 5]), "c": lod(_matrix(75, 3, 2), [1, 2])}
    ),
    sequence_reshape=Case(op("sequence_reshape", {"X": "a"}, _OUT, new_dim=4), {"a": lod(_matrix(76, 6, 2), [4, 2])}),
    sequence_reverse=Case(op("sequence_reverse", {"X": "a"}, {"Y": "float32"}), {"a": lod(_X9, [4, 5])}),
    sequence_scatter=Case(
        op("sequence_scatter", {"X": "a", "Ids": "c", "Updates": "d"}, _OUT),
        {"a": _matrix(77, 2, 6), "c": lod(integers(6, 6, 9, 1), [4, 5]), "d": lod(_matrix(78, 9, 1), [4, 5])},
    ),
    sequence_softmax=Case(op("sequence_softmax", {"X": "a"}, _OUT), {"a": lod(_matrix(79, 9, 1), [4, 5])}),
    lod_reset_offsets=Case(op("lod_reset", {"X": "a"}, _OUT, target_lod=[0, 2, 9]), {"a": lod(_X9, [4, 5])}),
    lod_reset_like=Case(op("lod_reset", {"X": "a", "Y": "b"}, _OUT), {"a": _matrix(80, 6, 2), "b": _NESTED}),
    lod_reset_by_data=Case(
        op("lod_reset", {"X": "a", "Y": "c"}, _OUT), {"a": lod(_X9, [4, 5]), "c": np.array([0, 3, 9], "int32")}
    ),
    lod_append=Case(
        op("lod_reset", {"X": "a"}, _OUT, target_lod=list(range(10)), append=True), {"a": lod(_X9, [4, 5])}
    ),
)


def _pooled(build):
    """What is pooled alone: only the maximum has indices."""
    return lambda fluid, x: build(fluid, x)[0]


for _pool in ("SUM", "AVERAGE", "SQRT", "MAX", "FIRST", "LAST"):
    CASES["sequence_pool_" + _pool.lower()] = Case(
        _pooled(
            op("sequence_pool", {"X": "a"}, {"Out": "float32", "MaxIndex": "int32"}, pooltype=_pool, pad_value=0.5)
        ),
        {"a": lod(_X9, [1, 2], [4, 0, 5])},
    )


def _variable_types(fluid):
    try:
        return fluid.core.VarDesc.VarType
    except NotImplementedError:
        from fluidc.frontend.vartype import VarType

        return VarType


def _by_rank(fluid, x):
    """Sequences taken apart into steps and put together again; memory that shrinks; an order by length."""
    block = fluid.default_main_program().global_block()
    kinds = _variable_types(fluid)
    table = block.create_var(name="table", type=kinds.LOD_RANK_TABLE)
    array = block.create_var(name="steps", type=kinds.LOD_TENSOR_ARRAY, dtype="float32")
    at = fluid.layers.fill_constant([1], "int64", 2)
    names = ("longest", "back", "left", "sorted")
    out = {n: block.create_var(name=n, dtype="int64" if n == "longest" else "float32", shape=[-1]) for n in names}

    def record(kind, inputs, outputs, **attrs):
        block.append_op(type=kind, inputs=inputs, outputs=outputs, attrs=attrs)

    record("lod_rank_table", {"X": [x["a"]]}, {"Out": [table]}, level=0)
    record("max_sequence_len", {"RankTable": [table]}, {"Out": [out["longest"]]})
    record("lod_tensor_to_array", {"X": [x["a"]], "RankTable": [table]}, {"Out": [array]})
    record("array_to_lod_tensor", {"X": [array], "RankTable": [table]}, {"Out": [out["back"]]})
    record("shrink_rnn_memory", {"X": [x["c"]], "I": [at], "RankTable": [table]}, {"Out": [out["left"]]})
    record("reorder_lod_tensor_by_rank", {"X": [x["d"]], "RankTable": [table]}, {"Out": [out["sorted"]]})
    return [fluid.layers.array_read(array, at), *[out[n] for n in names], fluid.layers.array_length(array)]


CASES["by_rank"] = Case(
    _by_rank, {"a": lod(_X9, [2, 4, 3]), "c": _matrix(81, 3, 2), "d": lod(_matrix(82, 5, 2), [1, 3, 1])}
)
CASES["by_rank_dense"] = Case(_by_rank, {"a": lod(_X9, [3, 3, 3]), "c": _matrix(81, 3, 2), "d": _matrix(82, 3, 2)})
CASES["by_rank_nested"] = Case(
    _by_rank, {"a": lod(_X9, [1, 3], [2, 4, 1, 2]), "c": _matrix(81, 2, 2), "d": lod(_matrix(82, 5, 2), [1, 1], [2, 3])}
)


def _split_merge(fluid, x):
    block = fluid.default_main_program().global_block()
    yes, no, back = (
        block.create_var(name=n, dtype="float32", shape=[-1, 2], lod_level=1) for n in ("yes", "no", "back")
    )
    inputs = {"X": [x["a"]], "Mask": [fluid.layers.cast(x["c"], "bool")]}
    block.append_op(
        type="split_lod_tensor", inputs=inputs, outputs={"OutTrue": [yes], "OutFalse": [no]}, attrs={"level": 0}
    )
    block.append_op(
        type="merge_lod_tensor",
        inputs=dict(inputs, InTrue=[yes], InFalse=[no]),
        outputs={"Out": [back]},
        attrs={"level": 0},
    )
    return [yes, no, back]


_MASK = np.array([[1], [0], [1]], "int32")
CASES["split_merge"] = Case(_split_merge, {"a": _matrix(83, 3, 2), "c": _MASK})
CASES["split_merge_sequences"] = Case(_split_merge, {"a": lod(_X9, [2, 4, 3]), "c": _MASK})


def values(fluid, build, **options):
    """A new program with given parameters, run once: values and LoD of what it fetches."""
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        feeds, fetches = build(fluid)
    return _values(fluid, main, startup, [p.name for p in main.all_parameters()], feeds, fetches, **options)


def _values(fluid, main, startup, parameters, feeds, fetches, **options):
    scope, place = fluid.Scope(), fluid.CPUPlace()
    with fluid.scope_guard(scope):
        exe = fluid.Executor(place, **options)
        if startup is not None and startup.global_block().ops:
            exe.run(startup)
        for i, name in enumerate(parameters):
            shape = main.global_block().var(name).shape
            scope.var(name).get_tensor().set(2 * uniform(100 + i, *shape), place)
        given = {
            name: fluid.create_lod_tensor(value[0], value[1], place) if isinstance(value, tuple) else value
            for name, value in feeds.items()
        }
        found = exe.run(main, feed=given, fetch_list=fetches, return_numpy=False)
        return [{"array": np.array(t), "lod": [list(level) for level in t.lod()]} for t in found]


PROGRAMS = {
    "translation": translation,
    "translation_ending": lambda fluid: translation(fluid, beam=2, end=3),
    "translation_probabilities": lambda fluid: translation(fluid, accumulated=False),
    "translation_parents": lambda fluid: translation(fluid, by_parents=True),
    "translation_recurrent": lambda fluid: translation(fluid, recurrent=True),
    "translation_short": lambda fluid: translation(fluid, beam=2, words=4, end=3, steps=12, sources=(2, 2)),
}


SAVED = {"translation": translation, "multiclass_nms": CASES["multiclass_nms"], "edit_distance": CASES["edit_distance"]}
"""Programs of which the goldens have the file too."""


def run_saved(fluid, program, saved, build):
    """`values` of a program from a file; ``saved`` says what it fetches, and its parameters in their order."""
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        feeds, _ = build(fluid)
    return _values(fluid, program, None, saved["parameters"], feeds, saved["fetches"])


def _runs(fluid, build, batches, **options):
    """What a program returns of several batches, and what it makes of them in the end."""
    main, startup, place = fluid.Program(), fluid.Program(), fluid.CPUPlace()
    with fluid.program_guard(main, startup), fluid.unique_name.guard(), fluid.scope_guard(fluid.Scope()):
        fetches, before, after = build(fluid)
        exe = fluid.Executor(place, **options)
        if startup.global_block().ops:
            exe.run(startup)
        for i, parameter in enumerate(main.all_parameters()):
            fluid.global_scope().find_var(parameter.name).get_tensor().set(uniform(200 + i, *parameter.shape), place)
        before(exe)
        found = []
        for batch in batches:
            given = {
                n: fluid.create_lod_tensor(v[0], v[1], place) if isinstance(v, tuple) else v for n, v in batch.items()
            }
            found += [np.array(t) for t in exe.run(main, feed=given, fetch_list=fetches)]
        return found + [np.array(x) for x in after(exe)]


def _tagged(fluid):
    a, b = (fluid.layers.data(n, [1], dtype="int64", lod_level=1) for n in "ab")
    evaluator = fluid.evaluator.ChunkEvaluator(a, b, "IOB", 3)
    return evaluator.metrics, evaluator.reset, evaluator.eval


def _edited(fluid):
    a, b = (fluid.layers.data(n, [1], dtype="int64", lod_level=1) for n in "ab")
    evaluator = fluid.evaluator.EditDistance(a, b)
    return evaluator.metrics, evaluator.reset, evaluator.eval


def _mean_precision(difficult, **options):
    def build(fluid):
        found = fluid.layers.data("found", [6], lod_level=1)
        label = fluid.layers.data("label", [1], lod_level=1)
        box = fluid.layers.data("box", [4], lod_level=1)
        hard = fluid.layers.data("hard", [1], lod_level=1)
        kind = fluid.metrics.DetectionMAP if difficult else fluid.evaluator.DetectionMAP
        metric = kind(found, label, box, class_num=4, **dict({"gt_difficult": hard} if difficult else {}, **options))
        return metric.get_map_var(), lambda exe: None, lambda exe: []

    return build


def _detected(seed):
    """Three images of true boxes, and detections that are more or less them."""
    random = np.random.RandomState(seed)
    truths, found = [2, 3, 1], [4, 3, 2]
    box = _boxes(seed, sum(truths))
    label = random.randint(1, 4, (sum(truths), 1)).astype("float32")
    rows, start = [], 0
    for count, many in zip(truths, found):
        for i in range(many):
            at = start + i % count
            kind = label[at, 0] if random.rand() < 0.7 else random.randint(1, 4)
            near = np.clip(box[at] + random.uniform(-0.06, 0.06, 4), 0, 1)
            rows.append(np.concatenate([[kind, random.rand()], near]))
        start += count
    hard = (random.rand(sum(truths), 1) < 0.4).astype("float32")
    return {
        "found": lod(np.array(rows, "float32"), found),
        "label": lod(label, truths),
        "box": lod(box, truths),
        "hard": lod(hard, truths),
    }


def _tanh(x):
    return np.tanh(np.array(x))


def _tanh_gradient(*given):
    """Of x (unless it is skipped), y and the gradient of y."""
    y, gradient = (np.array(v) for v in given[-2:])
    return gradient * (1 - y * y)


def _python_gradients(fluid):
    """Training through two functions with gradients of their own, and a connection past both."""
    layers = fluid.layers
    x, label = layers.data("x", [4]), layers.data("y", [1], dtype="int64")

    def dense(v, seed):
        weight = fluid.initializer.NumpyArrayInitializer(2 * uniform(seed, int(v.shape[1]), 5))
        return layers.fc(v, 5, param_attr=fluid.ParamAttr(initializer=weight))

    def through(v, name, **options):
        out = fluid.default_main_program().current_block().create_var(name=name, dtype="float32", shape=[-1, 5])
        return layers.py_func(_tanh, v, out, _tanh_gradient, **options)

    first = dense(x, 1)
    hidden = dense(through(first, "a"), 2)
    last = layers.elementwise_add(through(hidden, "b", skip_vars_in_backward_input=hidden), first)
    loss = layers.mean(layers.softmax_with_cross_entropy(last, label))
    fluid.optimizer.SGD(0.5).minimize(loss)
    return [loss, "fc_0.w_0@GRAD", "fc_0.b_0@GRAD", "fc_1.w_0@GRAD"], lambda exe: None, lambda exe: []


def _tagger(fluid):
    """A CRF that is trained, with what it decodes counted beside it, and added up over batches."""
    layers = fluid.layers
    words = layers.data("words", [1], dtype="int64", lod_level=1)
    tags = layers.data("tags", [1], dtype="int64", lod_level=1)
    scores = layers.fc(layers.embedding(words, [20, 6]), 7)
    attr = fluid.ParamAttr(name="transitions")
    loss = layers.mean(layers.linear_chain_crf(scores, tags, param_attr=attr))
    decoded = layers.crf_decoding(scores, param_attr=attr)
    found = layers.chunk_eval(decoded, tags, "IOB", 3)
    total = layers.create_global_var([1], 0, "int64", persistable=True, name="total")
    layers.sums([total, found[3]], out=total)
    fluid.optimizer.SGD(0.1).minimize(loss)
    return [loss, *found, total], lambda exe: None, lambda exe: []


def _reader(fluid):
    """Lines of text that change as scores shrink, with the edit distance of what is read."""
    layers = fluid.layers
    frames, text = layers.data("frames", [5], lod_level=1), layers.data("text", [1], dtype="int64", lod_level=1)
    scores = layers.fc(frames, 4)
    loss = layers.mean(layers.square(scores))
    read = layers.ctc_greedy_decoder(layers.softmax(scores), blank=3)
    distance, count = layers.edit_distance(read, text, normalized=False)
    fluid.optimizer.SGD(0.1).minimize(loss)
    return [loss, distance, count], lambda exe: None, lambda exe: []


def _tag_batch(seed, lengths):
    return {
        "words": lod(integers(seed, 20, sum(lengths), 1), lengths),
        "tags": lod(integers(seed + 1, 7, sum(lengths), 1), lengths),
    }


def _text_batch(seed, frames, text):
    return {
        "frames": lod(uniform(seed, sum(frames), 5), frames),
        "text": lod(integers(seed + 1, 3, sum(text), 1), text),
    }


_TAG_BATCHES = [
    {"a": lod(_TAGS, [12, 8]), "b": lod(_RIGHT, [12, 8])},
    {"a": lod(_RIGHT[:9], [9]), "b": lod(_RIGHT[:9], [9])},
]
_TOKEN_BATCHES = [
    {"a": lod(_TOKENS, [4, 5]), "b": lod(_OTHERS, [1, 6])},
    {"a": lod(_TOKENS[:3], [1, 2]), "b": lod(_TOKENS[:3], [1, 2])},
]
_DETECTIONS = [_detected(91), _detected(92), _detected(93)]
SESSIONS = {
    "tagger": (_tagger, [_tag_batch(31, [3, 5]), _tag_batch(33, [2, 1, 6]), _tag_batch(35, [4, 4, 1])]),
    "reader": (_reader, [_text_batch(41, [7, 5], [3, 2]), _text_batch(43, [6, 9, 4], [2, 4, 1])]),
    "python_gradients": (_python_gradients, [{"x": uniform(7, 6, 4), "y": integers(8, 5, 6, 1)}] * 5),
    "chunk_evaluator": (_tagged, _TAG_BATCHES),
    "edit_distance_evaluator": (_edited, _TOKEN_BATCHES),
    "detection_map": (_mean_precision(True), _DETECTIONS),
    "detection_map_without_difficult": (_mean_precision(True, evaluate_difficult=False), _DETECTIONS),
    "detection_map_11point": (_mean_precision(True, ap_version="11point", overlap_threshold=0.4), _DETECTIONS),
    "detection_map_evaluator": (_mean_precision(False), _DETECTIONS),
}


def session(fluid, name, **options):
    """What one of the sessions returns."""
    build, batches = SESSIONS[name]
    return _runs(fluid, build, batches, **options)


def metrics(fluid):
    """Metrics outside of programs, from fixed numbers."""
    random = np.random.RandomState(5)
    accuracy, chunks = fluid.metrics.Accuracy(), fluid.metrics.ChunkEvaluator()
    distance, area = fluid.metrics.EditDistance("d"), fluid.metrics.Auc("a")
    precision, recall, mean = fluid.metrics.Precision(), fluid.metrics.Recall(), fluid.average.WeightedAverage()
    both = fluid.metrics.CompositeMetric()
    both.add_metric(precision)
    both.add_metric(recall)
    for _ in range(3):
        rows = random.randint(4, 9)
        accuracy.update(random.rand(1).astype("float32"), rows)
        chunks.update(*(np.array([n], "int64") for n in (7, 6, random.randint(1, 6))))
        distance.update(np.round(random.rand(rows, 1) * 2).astype("float32"), np.array([rows], "int64"))
        scores = random.rand(rows, 2).astype("float32")
        labels = random.randint(0, 2, (rows, 1)).astype("int64")
        area.update(scores, labels)
        both.update(scores[:, 1:], labels)
        mean.add(random.rand(2, 3), 2)
    found = [accuracy.eval(), *chunks.eval(), *distance.eval(), area.eval(), *both.eval(), mean.eval()]
    return [np.asarray(x) for x in found]
