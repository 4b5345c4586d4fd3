"""Recurrent layers with their gradients, each built alike by Paddle 1.8.5 and by fluidc.

A case returns its outputs.  Inputs are rows of tables, one for every token or sequence, so that the gradients of inputs
are gradients of parameters.  The file runs under Python 3.7, too.
"""

import numpy as np
from layer_programs import numbers

CASES = {}
# Cases whose records are kept; those of the others are long, and show nothing new.
RECORDED = ("cells", "dynamic_gru", "dynamic_lstm", "dynamic_lstmp", "units")
LENGTHS = [3, 1, 4, 2]
TOKENS = sum(LENGTHS)
STEPS = 5


# Cases whose results decide when they end; they have no gradients.
DECODED = {}


def case(build):
    CASES[build.__name__] = build
    return build


def decoded(build):
    DECODED[build.__name__] = build
    return build


def data(fluid, name, shape=(1,), **kwargs):
    block = fluid.default_main_program().global_block()
    return block.var(name) if block.has_var(name) else fluid.layers.data(name, list(shape), dtype="int64", **kwargs)


def padded(fluid, name, width):
    """[N, STEPS, width], every step a parameter's row."""
    ids = data(fluid, "steps", (STEPS, 1))
    return fluid.layers.embedding(ids, [len(LENGTHS) * STEPS, width], param_attr="p_" + name)


def tokens(fluid, name, width):
    """Sequences of ``width`` elements a token, every token a parameter's row."""
    return fluid.layers.embedding(data(fluid, "tokens", lod_level=1), [TOKENS, width], param_attr="x_" + name)


def state(fluid, name, width):
    """[N, width], every row a parameter's."""
    return fluid.layers.embedding(data(fluid, "rows"), [len(LENGTHS), width], param_attr="s_" + name)


def feeds(program):
    """What the data variables are fed: (array, lengths or None) by name."""
    given = {
        "tokens": (np.arange(TOKENS, dtype="int64").reshape(-1, 1), LENGTHS),
        "rows": (np.arange(len(LENGTHS), dtype="int64").reshape(-1, 1), None),
        "steps": (np.arange(len(LENGTHS) * STEPS, dtype="int64").reshape(-1, STEPS, 1), None),
        "lengths": (np.array(LENGTHS, "int64"), None),
    }
    return {name: value for name, value in given.items() if program.global_block().has_var(name)}


def values(program, scale=1.0):
    """What parameters are set to, by name."""
    parameters = program.global_block().all_parameters()
    return {p.name: numbers(p.name, p.shape) * np.float32(scale) for p in parameters}


def cost(fluid, outs):
    """A number that depends on every element of the outputs, on each in a way of its own."""
    L, terms = fluid.layers, []
    for k, out in enumerate(outs):
        each = L.elementwise_add(L.square(out), L.scale(out, 0.5 * (k + 1)))
        if out.lod_level:
            each = L.sequence_pool(each, "sum")
        terms.append(L.reduce_sum(each))
    return L.sums(terms)


@case
def dynamic_lstm(fluid):
    L = fluid.layers
    h0, c0 = state(fluid, "h", 3), state(fluid, "c", 3)
    outs = []
    outs += L.dynamic_lstm(tokens(fluid, "plain", 12), 12)
    outs += L.dynamic_lstm(tokens(fluid, "no_peepholes", 12), 12, use_peepholes=False)
    outs += L.dynamic_lstm(tokens(fluid, "reverse", 12), 12, h_0=h0, c_0=c0, is_reverse=True, name="named")
    outs += L.dynamic_lstm(tokens(fluid, "states", 12), 12, h_0=h0, c_0=c0, use_peepholes=False)
    return outs


@case
def dynamic_lstm_activations(fluid):
    L = fluid.layers
    outs = []
    outs += L.dynamic_lstm(
        tokens(fluid, "relu", 8), 8, gate_activation="relu", cell_activation="identity", candidate_activation="relu"
    )
    outs += L.dynamic_lstm(
        tokens(fluid, "tanh", 8),
        8,
        is_reverse=True,
        gate_activation="tanh",
        cell_activation="sigmoid",
        candidate_activation="sigmoid",
    )
    outs += L.dynamic_lstm(
        tokens(fluid, "identity", 8),
        8,
        gate_activation="identity",
        cell_activation="relu",
        candidate_activation="identity",
        is_reverse=True,
    )
    return outs


@case
def dynamic_lstmp(fluid):
    L = fluid.layers
    r0, c0 = state(fluid, "r", 2), state(fluid, "c", 3)
    outs = []
    outs += L.dynamic_lstmp(tokens(fluid, "plain", 12), 12, 2)
    outs += L.dynamic_lstmp(
        tokens(fluid, "reverse", 12), 12, 2, h_0=r0, c_0=c0, is_reverse=True, proj_activation="identity"
    )
    outs += L.dynamic_lstmp(
        tokens(fluid, "clipped", 12), 12, 2, use_peepholes=False, cell_clip=0.3, proj_clip=0.15, name="clipped"
    )
    return outs


@case
def dynamic_gru(fluid):
    L = fluid.layers
    h0 = state(fluid, "h", 3)
    return [
        L.dynamic_gru(tokens(fluid, "plain", 9), 3),
        L.dynamic_gru(tokens(fluid, "origin", 9), 3, origin_mode=True, h_0=h0),
        L.dynamic_gru(tokens(fluid, "reverse", 9), 3, is_reverse=True, h_0=h0, bias_attr=False),
        L.dynamic_gru(tokens(fluid, "relu", 9), 3, candidate_activation="relu", gate_activation="tanh"),
        L.dynamic_gru(
            tokens(fluid, "identity", 9),
            3,
            candidate_activation="identity",
            is_reverse=True,
            origin_mode=True,
        ),
    ]


def parts(structure):
    """The Variables of a nested list."""
    return [v for part in structure for v in parts(part)] if isinstance(structure, (list, tuple)) else [structure]


@case
def cells(fluid):
    L = fluid.layers
    x, lengths, h = padded(fluid, "x", 3), data(fluid, "lengths", ()), state(fluid, "h", 2)
    outs = [
        L.rnn(L.LSTMCell(2), x),
        L.rnn(L.LSTMCell(2, forget_bias=0.5, name="named"), x, sequence_length=lengths),
        L.rnn(L.GRUCell(2), x, sequence_length=lengths, is_reverse=True),
        L.rnn(
            L.GRUCell(2, fluid.ParamAttr(name="shared"), fluid.ParamAttr(name="bias"), L.tanh, L.relu),
            L.transpose(x, [1, 0, 2]),
            h,
            time_major=True,
            is_reverse=True,
        ),
    ]
    return parts(outs)


@case
def own_cell(fluid):
    """A cell on two inputs, with nested states and outputs of two kinds."""
    L = fluid.layers

    class Cell(L.RNNCell):
        def call(self, inputs, states, factor):
            (x, y), ((before, count),) = inputs, states
            total = L.elementwise_add(L.elementwise_add(before, x), L.scale(y, factor))
            return [total, L.elementwise_mul(total, before)], [[total, L.scale(count, 1.0, 1.0)]]

        @property
        def state_shape(self):
            return [[[3], [1]]]

    inputs = [padded(fluid, "x", 3), padded(fluid, "y", 3)]
    start = Cell().get_initial_states(inputs[0], init_value=0.5)
    return parts(L.rnn(Cell(), inputs, start, data(fluid, "lengths", ()), factor=0.25))


@case
def contrib_layers(fluid):
    C = fluid.contrib.layers
    x, lengths = padded(fluid, "x", 3), data(fluid, "lengths", ())
    h = fluid.layers.reshape(state(fluid, "h", 8), [4, -1, 2])
    outs = [
        C.basic_lstm(x, None, None, 2, num_layers=2, sequence_length=lengths),
        C.basic_lstm(x, h, h, 2, num_layers=2, bidirectional=True, sequence_length=lengths),
        C.basic_gru(fluid.layers.transpose(x, [1, 0, 2]), None, 2, batch_first=False),
        C.basic_gru(x, h, 2, num_layers=2, bidirectional=True, bias_attr=fluid.ParamAttr(name="b"), name="mine"),
    ]
    return parts(outs)


@case
def taught(fluid):
    """Decoders whose inputs are given."""
    L = fluid.layers
    x, lengths, h = padded(fluid, "x", 3), data(fluid, "lengths", ()), state(fluid, "h", 2)

    def logits(y):
        return L.fc(y, 5, param_attr="out.w", bias_attr="out.b")

    plain = L.BasicDecoder(L.GRUCell(2), L.TrainingHelper(x, lengths), logits)
    imputed = L.BasicDecoder(L.LSTMCell(2), L.TrainingHelper(L.transpose(x, [1, 0, 2]), lengths, time_major=True))
    first, last = L.dynamic_decode(plain, h)
    start = imputed.cell.get_initial_states(x)
    second, others = L.dynamic_decode(imputed, start, output_time_major=True, impute_finished=True)
    return [first.cell_outputs, last, second.cell_outputs, *others]


@case
def one_of_each(fluid):
    """Few enough to be compiled in a test."""
    L = fluid.layers
    h0, c0 = state(fluid, "h", 3), state(fluid, "c", 3)
    outs = list(L.dynamic_lstm(tokens(fluid, "lstm", 12), 12, h_0=h0, c_0=c0, is_reverse=True))
    outs += L.dynamic_lstmp(tokens(fluid, "lstmp", 12), 12, 2, candidate_activation="relu", is_reverse=True)
    return [*outs, L.dynamic_gru(tokens(fluid, "gru", 9), 3)]


@case
def units(fluid):
    L = fluid.layers
    x, h, c = state(fluid, "x", 4), state(fluid, "h", 3), state(fluid, "c", 3)
    outs = list(L.lstm_unit(x, h, c, forget_bias=0.5))
    outs += L.lstm_unit(x, h, c, bias_attr=False, name="named")
    outs += L.gru_unit(state(fluid, "gates", 9), h, 9)
    outs += L.gru_unit(state(fluid, "gates", 9), h, 9, origin_mode=True, bias_attr=False)
    return outs


WORDS, END = 6, 5


def word_rows(fluid, ids):
    return fluid.embedding(ids, [WORDS, 3], param_attr="words")


def word_logits(fluid, x):
    return fluid.layers.fc(x, WORDS, len(x.shape) - 1, param_attr="logits.w", bias_attr="logits.b")


@decoded
def greedy(fluid):
    """The choice of every step is the next one's input; both ways of keeping states, which take the same."""
    L = fluid.layers
    outs = []
    for is_test in (False, True):
        h = state(fluid, "h", 2)
        start = L.fill_constant_batch_size_like(h, [-1], "int64", 1)
        helper = L.GreedyEmbeddingHelper(lambda ids: word_rows(fluid, ids), start, END)
        decoder = L.BasicDecoder(
            L.GRUCell(2, fluid.ParamAttr(name="w"), fluid.ParamAttr(name="b")), helper, lambda x: word_logits(fluid, x)
        )
        found, last, lengths = L.dynamic_decode(
            decoder, h, max_step_num=6, impute_finished=True, is_test=is_test, return_length=True
        )
        outs += [found.cell_outputs, found.sample_ids, last, lengths]
    return outs


@decoded
def beams(fluid):
    """Paddle's results for is_test and without it differ where a beam ends."""
    L = fluid.layers
    outs = []
    for is_test in (False, True):
        h, c = state(fluid, "h", 2), state(fluid, "c", 2)
        decoder = L.BeamSearchDecoder(
            L.LSTMCell(2, fluid.ParamAttr(name="w"), fluid.ParamAttr(name="b")),
            1,
            END,
            3,
            lambda ids: word_rows(fluid, ids),
            lambda x: word_logits(fluid, x),
        )
        ids, last = L.dynamic_decode(decoder, [h, c], max_step_num=5, is_test=is_test)
        outs += [ids, last.log_probs, last.finished, last.lengths, *last.cell_states]
    tiled = L.BeamSearchDecoder.tile_beam_merge_with_batch(padded(fluid, "x", 2), 3)
    return [*outs, tiled]
