"""Which losses are sums over examples: a table of programs, every verdict shown on numbers.

An accepted program is run: the loss is the mean or sum of the per-example losses plus the term free of data, no
example's loss depends on another row, and the plain gradient is made of the per-example gradients.  A refused one
names the user's line and a way out; where it says that examples meet, numbers show that they do.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import numpy as np
import pytest
import separable
from separable import ROWS, Array, Build, Fed, Feeds, Plain, Separated, batch_axis, draw

import fluidc.frontend as fluid
from fluidc.compiler.driver import compile_source
from fluidc.compiler.errors import FluidcError
from fluidc.frontend.layer_helper import LayerHelper
from fluidc.frontend.layers.loss import bce_loss_op, nll_loss_op
from fluidc.frontend.lower import lower
from fluidc.runtime.certificate import verify
from fluidc.runtime.keystream import key_words, step_model_key
from fluidc.runtime.session import Session

L = fluid.layers
Attr = fluid.ParamAttr


def ce(p: Fed, size: int = 5) -> fluid.Variable:
    """Cross entropy of each example, f32[N,1]."""
    return L.softmax_with_cross_entropy(L.fc(L.fc(p.x, 6, act="tanh"), size), p.y)


def err(p: Fed) -> fluid.Variable:
    """Squared error of each example, f32[N,1]."""
    return L.square_error_cost(L.fc(p.x, 1), p.u)


def steps(p: Fed, size: int = 1) -> fluid.Variable:
    """A layer at every step of a sequence, f32[N,3,size]."""
    return L.fc(p.s, size, num_flatten_dims=2, act="tanh")


def masked(p: Fed) -> fluid.Variable:
    """A loss for every step, padding masked out, f32[N,3]."""
    return L.elementwise_mul(L.square(L.reshape(steps(p), [-1, 3])), p.m)


def weight(name: str = "w", shape: tuple[int, ...] = (4,)) -> fluid.Variable:
    return L.create_parameter(list(shape), "float32", name)


def penalty() -> fluid.Variable:
    """λ‖w‖² of the first layer: free of data."""
    (first, *_) = fluid.default_main_program().global_block().all_parameters()
    return L.scale(L.reduce_sum(L.square(first)), 0.01)


def folded(p: Fed) -> fluid.Variable:
    """Time folded into the batch and back, f32[N,3,2]."""
    return L.reshape(L.fc(L.reshape(p.s, [-1, 2]), 2, act="tanh"), [-1, 3, 2])


def attention(p: Fed) -> fluid.Variable:
    q, k, v = (L.fc(p.s, 2, num_flatten_dims=2) for _ in range(3))
    return L.matmul(L.softmax(L.matmul(q, k, transpose_y=True)), v)


def recurrent(p: Fed) -> fluid.Variable:
    rnn, time_major = L.StaticRNN(), L.transpose(p.s, [1, 0, 2])
    with rnn.step():
        now = rnn.step_input(time_major)
        before = rnn.memory(shape=[-1, 4], batch_ref=now)
        after = L.fc([now, before], 4, act="tanh")
        rnn.update_memory(before, after)
        rnn.step_output(after)
    states = rnn()
    assert isinstance(states, fluid.Variable)
    return L.transpose(states, [1, 0, 2])


def words(p: Fed) -> fluid.Variable:
    return fluid.embedding(p.ids, (7, 4))


def branch(p: Fed, predicate: fluid.Variable) -> fluid.Variable:
    h = L.fc(p.x, 4)
    return L.cond(predicate, lambda: L.scale(h, 2.0), lambda: L.scale(h, 3.0))


def counted(p: Fed, limit: fluid.Variable) -> fluid.Variable:
    """h doubled until a counter passes ``limit``."""
    i, h = L.fill_constant([1], "float32", 0.0), L.fc(p.x, 4)
    return L.while_loop(lambda i, h: L.less_than(i, limit), lambda i, h: [i + 1.0, h * 2.0], [i, h])[1]


def nll(p: Fed, weight: fluid.Variable | None = None, reduction: str = "mean") -> fluid.Variable:
    """The cost of five classes by their log-probabilities."""
    return nll_loss_op(LayerHelper("nll"), L.log_softmax(L.fc(p.x, 5)), L.reshape(p.y, [-1]), weight, reduction)


def product(parts: list[fluid.Variable]) -> fluid.Variable:
    return L.elementwise_mul(parts[0], parts[1])


def called(x: fluid.Variable, like: fluid.Variable) -> fluid.Variable:
    """What a function of the script returns of ``x``."""
    result = like.block.create_var(name="result", shape=like.shape, dtype=like.dtype)
    L.py_func(abs, x, result)
    return result


def ones(*shape: int) -> fluid.Variable:
    return L.fill_constant(list(shape), "float32", 1.0)


ACCEPTED: dict[str, Build] = {
    "Print": lambda p: L.mean(L.Print(err(p))),  # passes its value; where somebody would print it, it is refused
    # Sums and means
    "mean": lambda p: L.mean(ce(p)),
    "reduce_mean": lambda p: L.reduce_mean(ce(p)),
    "reduce_mean of axis 0": lambda p: L.reduce_mean(ce(p), dim=[0]),
    "sum": lambda p: L.reduce_sum(ce(p)),
    "sum by matrix of ones": lambda p: L.reduce_sum(L.matmul(err(p), ones(1, 1))),
    "mean over all axes": lambda p: L.mean(L.square(steps(p, 2))),
    "mean of means": lambda p: L.mean(L.reduce_mean(L.square(steps(p, 2)), dim=[1, 2])),
    "mean of sums": lambda p: L.mean(L.reduce_sum(L.square(steps(p)), dim=1)),
    "sum of means": lambda p: L.reduce_sum(L.reduce_mean(L.square(steps(p, 2)), dim=[1])),
    "batch first, features later": lambda p: L.reduce_mean(L.reduce_mean(L.square(L.fc(p.x, 5)), dim=[0])),
    "batch summed, features averaged": lambda p: L.reduce_mean(L.reduce_sum(L.square(L.fc(p.x, 5)), dim=[0])),
    "mean of a mean": lambda p: L.mean(L.mean(ce(p))),
    "mse": lambda p: L.mse_loss(L.fc(p.x, 1), p.u),
    "scaled": lambda p: L.scale(L.mean(ce(p)), 0.5),
    "scaled with bias": lambda p: L.scale(L.mean(ce(p)), scale=2.0, bias=3.0),
    "bias first": lambda p: L.scale(L.mean(ce(p)), scale=2.0, bias=3.0, bias_after_scale=False),
    "divided by a constant": lambda p: L.reduce_sum(err(p)) / 64.0,
    "negated": lambda p: -1.0 * L.mean(L.log(L.sigmoid(L.fc(p.x, 1)))),
    "constant minus": lambda p: 2.0 - L.mean(L.sigmoid(L.fc(p.x, 1))),
    "squeezed": lambda p: L.mean(L.squeeze(ce(p), [1])),
    "a sum times a parameter": lambda p: L.elementwise_mul(L.mean(ce(p)), weight(shape=(1,))),
    "a cast sum": lambda p: L.cast(L.cast(L.mean(ce(p)), "float64"), "float32"),
    # Several losses
    "two means": lambda p: L.mean(ce(p)) + L.mean(err(p)),
    "weighted means": lambda p: 0.3 * L.mean(ce(p)) + 0.7 * L.mean(err(p)),
    "difference of means": lambda p: L.mean(ce(p)) - 0.1 * L.mean(err(p)),
    "two sums": lambda p: L.elementwise_add(L.reduce_sum(ce(p)), L.reduce_sum(err(p))),
    "layers.sum": lambda p: L.sum([L.mean(ce(p)), L.mean(err(p)), L.mean(L.square(steps(p)))]),
    "per-example losses added": lambda p: L.mean(ce(p) + 0.5 * err(p)),
    "losses stacked": lambda p: L.mean(L.concat([ce(p), err(p)], axis=1)),
    "shared trunk": lambda p: (lambda h: L.mean(L.square(L.fc(h, 2))) + L.mean(L.abs(L.fc(h, 3))))(L.fc(p.x, 4)),
    # Terms free of data
    "weight penalty": lambda p: L.mean(ce(p)) + penalty(),
    "penalty on a sum": lambda p: L.reduce_sum(err(p)) + penalty(),
    "penalty scaled along": lambda p: 0.5 * (L.mean(ce(p)) + penalty()),
    "penalty minus loss": lambda p: (lambda loss: penalty() - loss)(L.mean(L.sigmoid(L.fc(p.x, 1)))),
    # Masks and weights
    "mask and own count": lambda p: L.mean(L.reduce_sum(masked(p), dim=1) / L.reduce_sum(p.m, dim=1)),
    "mask and public constant": lambda p: L.reduce_sum(masked(p)) / 24.0,
    "mask and mean": lambda p: L.mean(masked(p)),
    "example weights": lambda p: L.mean(L.elementwise_mul(ce(p), L.sigmoid(p.u))),
    "class weights": lambda p: L.mean(L.elementwise_mul(ce(p), L.embedding(p.y, (5, 1), param_attr=Attr("cw")))),
    "weights of one_hot": lambda p: L.mean(ce(p) * L.reduce_sum(L.one_hot(p.y, 5) * 0.2, dim=1, keep_dim=True)),
    "declared public feed": lambda p: L.mean(L.elementwise_mul(L.fc(p.x, 4), p.known)),
    "mean of a product": lambda p: L.reduce_mean(L.elementwise_mul(L.fc(p.x, 3), L.fc(p.x, 3))),
    "selection": lambda p: L.mean(L.elementwise_max(err(p), 0.5 * ce(p))),
    "clipped values": lambda p: L.mean(L.clip(err(p), 0.0, 2.0)),
    "label_smooth": lambda p: L.mean(
        L.softmax_with_cross_entropy(L.fc(p.x, 5), L.label_smooth(L.one_hot(p.y, 5)), soft_label=True)
    ),
    "sigmoid cross entropy": lambda p: L.mean(L.sigmoid_cross_entropy_with_logits(L.fc(p.x, 1), L.sigmoid(p.u))),
    "huber": lambda p: L.mean(L.huber_loss(L.fc(p.x, 1), p.u, 0.5)),
    "smooth_l1": lambda p: L.mean(L.smooth_l1(L.fc(p.x, 1), p.u)),
    "log_loss": lambda p: L.mean(L.log_loss(L.fc(p.x, 1, act="sigmoid"), L.sigmoid(p.u))),
    "cross_entropy": lambda p: L.mean(L.cross_entropy(L.fc(p.x, 5, act="softmax"), p.y)),
    "kldiv mean": lambda p: L.kldiv_loss(L.log_softmax(L.fc(p.x, 4)), L.softmax(p.x), reduction="mean"),
    "kldiv batchmean": lambda p: L.kldiv_loss(L.log_softmax(L.fc(p.x, 4)), L.softmax(p.x), reduction="batchmean"),
    "kldiv sum": lambda p: L.kldiv_loss(L.log_softmax(L.fc(p.x, 4)), L.softmax(p.x), reduction="sum"),
    "kldiv none": lambda p: L.mean(L.kldiv_loss(L.log_softmax(L.fc(p.x, 4)), L.softmax(p.x), reduction="none")),
    "cosine": lambda p: L.mean(L.cos_sim(L.fc(p.x, 3), L.fc(p.x, 3))),
    # Shapes
    "time folded into the batch": lambda p: L.mean(L.square(folded(p))),
    "mean while folded": lambda p: L.mean(L.square(L.fc(L.reshape(p.s, [-1, 2]), 2, act="tanh"))),
    "softmax within the example": lambda p: L.mean(L.square(L.softmax(L.reshape(L.fc(p.s, 4), [-1, 2, 2]), axis=1))),
    "transposed and back": lambda p: L.mean(L.square(L.transpose(L.fc(p.s, 3, 2), [1, 0, 2]))),
    "flattened": lambda p: L.mean(L.fc(L.flatten(steps(p, 2)), 1)),
    "batch on axis 1": lambda p: L.mean(L.square(L.fc(p.time_major, 2, num_flatten_dims=2))),
    "padded": lambda p: L.mean(L.square(L.fc(L.pad(p.x, [0, 0, 1, 1]), 2))),
    "split features": lambda p: L.mean(product(L.split(L.fc(p.x, 4), 2, dim=1))),
    "sliced features": lambda p: L.mean(L.square(L.slice(L.fc(p.x, 4), [1], [1], [3]))),
    "stacked features": lambda p: L.mean(L.square(L.stack([L.fc(p.x, 2), L.fc(p.x, 2)], axis=1))),
    "expanded features": lambda p: L.mean(L.square(L.expand(L.fc(p.x, 2), [1, 3]))),
    "largest of the features": lambda p: L.mean(L.reduce_max(L.fc(p.x, 4), dim=1)),
    "top_k as a weight": lambda p: L.mean(err(p) * L.slice(L.topk(p.x, 2)[0], [1], [0], [1])),
    "sum along time": lambda p: L.mean(L.square(L.cumsum(L.fc(p.x, 4), axis=1))),
    "reversed features": lambda p: L.mean(L.square(L.reverse(L.fc(p.x, 4), axis=[1])) * L.sigmoid(p.x)),
    "two passes joined on the batch": lambda p: L.mean(L.fc(L.concat([p.x, L.tanh(p.x)], axis=0), 2, act="tanh")),
    "gather by public index": lambda p: L.mean(
        L.square(L.gather(L.transpose(L.fc(p.x, 4), [1, 0]), L.cast(L.range(0, 3, 1, "int32"), "int32")))
    ),
    # Layers
    "embedding": lambda p: L.mean(L.square(L.fc(L.reduce_mean(words(p), dim=1), 2))),
    "convolution": lambda p: L.mean(L.square(L.pool2d(L.conv2d(p.image, 3, 3, act="tanh"), 2, pool_stride=2))),
    "layer_norm": lambda p: L.mean(L.square(L.fc(L.layer_norm(L.fc(p.x, 6)), 2))),
    "padded images": lambda p: L.mean(L.square(L.pad2d(L.conv2d(p.image, 3, 3), [1, 0, 1, 1], "reflect"))),
    "resized images": lambda p: L.mean(L.square(L.resize_bilinear(L.conv2d(p.image, 3, 3), [3, 5]))),
    "resized by a choice": lambda p: L.mean(L.square(L.resize_nearest(L.conv2d(p.image, 3, 3), [5, 3]))),
    "adaptive pooling": lambda p: L.mean(L.square(L.adaptive_pool2d(L.conv2d(p.image, 3, 2), 2, "avg"))),
    "lrn and maxout": lambda p: L.mean(L.maxout(L.lrn(L.conv2d(p.image, 4, 3), n=3, alpha=0.5), 2)),
    "pixels of channels": lambda p: L.mean(L.square(L.pixel_shuffle(L.conv2d(p.image, 4, 3), 2))),
    "unfold": lambda p: L.mean(L.square(L.unfold(L.conv2d(p.image, 2, 2), 2))),
    "dot of rows": lambda p: L.mean(L.dot(L.fc(p.x, 3), L.fc(p.x, 3))),
    "roll and tril": lambda p: L.mean(L.square(L.tril(L.roll(L.fc(p.s, 3, num_flatten_dims=2), 1, 2)))),
    "dice_loss": lambda p: L.dice_loss(L.fc(p.x, 5, act="softmax"), p.y),
    "bpr_loss": lambda p: L.mean(L.bpr_loss(L.fc(p.x, 5), p.y)),
    "rank_loss": lambda p: L.mean(L.rank_loss(L.sigmoid(p.u), L.fc(p.x, 1), L.fc(p.x, 1))),
    "choice of columns": lambda p: L.mean(L.square(L.index_select(L.fc(p.x, 4), L.assign(np.array([2, 0, 2])), dim=1))),
    "transposed convolution": lambda p: L.mean(
        L.square(L.conv2d_transpose(L.conv2d(p.image, 3, 3, act="tanh"), 2, filter_size=2, stride=2))
    ),
    "instance_norm": lambda p: L.mean(L.square(L.instance_norm(L.conv2d(p.image, 4, 3)) + 1.0)),
    "bilinear_tensor_product": lambda p: L.mean(L.square(L.bilinear_tensor_product(L.fc(p.x, 3), p.x, 2))),
    "spectral_norm": lambda p: L.mean(L.square(L.matmul(p.x, L.spectral_norm(weight(shape=(4, 3)))))),
    "bce_loss": lambda p: L.mean(bce_loss_op(LayerHelper("bce"), L.fc(p.x, 1, act="sigmoid"), L.sigmoid(p.u))),
    "nll_loss": lambda p: nll(p),
    "weighted nll_loss": lambda p: L.mean(nll(p, ones(5) * 0.5, "none")),
    "group_norm": lambda p: L.mean(L.square(L.group_norm(L.conv2d(p.image, 4, 3), 2))),
    "batch_norm by given statistics": lambda p: L.mean(
        L.square(L.batch_norm(L.conv2d(p.image, 3, 3), use_global_stats=True))
    ),
    "l2_normalize": lambda p: L.mean(L.fc(L.l2_normalize(L.fc(p.x, 4), axis=1), 1)),
    "prelu": lambda p: L.mean(L.prelu(L.fc(p.x, 4), "all")),
    "attention": lambda p: L.mean(L.square(attention(p))),
    "recurrence": lambda p: L.mean(L.square(recurrent(p))),
    "dropout": lambda p: L.mean(L.square(L.fc(L.dropout(L.fc(p.x, 8), 0.5), 2))),
    "dropout while folded": lambda p: L.mean(
        L.square(L.reshape(L.dropout(L.fc(L.reshape(p.s, [-1, 2]), 4), 0.5), [-1, 12]))
    ),
    "noise on the input": lambda p: L.mean(L.square(L.fc(p.x + L.gaussian_random_batch_size_like(p.x, [-1, 4]), 2))),
    "noise that examples share": lambda p: L.mean(L.square(L.fc(p.x + L.uniform_random([4]), 2))),
    "detached target": lambda p: L.mean(L.square(L.fc(p.x, 2) - stopped(L.fc(p.x, 2)))),
    # Control flow
    "public branch": lambda p: L.mean(branch(p, L.less_than(ones(1), L.fill_constant([1], "float32", 2.0)))),
    "public count": lambda p: L.mean(branch(p, L.less_than(L.reduce_sum(weight()), ones(1)))),
    "mask instead of a branch": lambda p: L.mean(err(p) * L.cast(L.less_than(p.u, L.zeros_like(p.u)), "float32")),
}


def stopped(x: fluid.Variable) -> fluid.Variable:
    x.stop_gradient = True
    return x


@dataclass(frozen=True)
class Refused:
    """A program that is refused.

    Attributes:
        says: In the message, the hint included.
        mixes: What numbers show: ``rows`` meet in the loss; ``over``: at a fixed size of the batch they do not, the
            refusal is stricter than need be, or guards a size; ``-``: no such program can be run, or not smoothly.
        at_minimize: The line named is the one that calls ``minimize``.
    """

    build: Build
    says: tuple[str, ...]
    mixes: str = "rows"
    at_minimize: bool = False


REFUSED: dict[str, Refused] = {
    # Sums that are not sums over examples
    "square of a mean": Refused(lambda p: L.square(L.mean(err(p))), ("square", "one mean (or one sum) over examples")),
    "root of a sum": Refused(lambda p: L.sqrt(L.reduce_sum(err(p))), ("sqrt", "per-example terms")),
    "exponential of a mean": Refused(lambda p: L.exp(L.mean(err(p))), ("exp", "per-example terms")),
    "logsumexp over the batch": Refused(lambda p: L.logsumexp(err(p)), ("exp",)),
    "product of two means": Refused(lambda p: L.mean(err(p)) * L.mean(ce(p)), ("`*`", "per-example terms")),
    "ratio of two sums": Refused(lambda p: L.reduce_sum(err(p)) / L.reduce_sum(ce(p)), ("divides by a sum",)),
    "constant over a mean": Refused(lambda p: 1.0 / L.mean(ce(p)), ("divides by a sum",)),
    "largest of the batch": Refused(lambda p: L.reduce_max(err(p)), ("reduce_max", "take the mean over the batch")),
    "smallest of the batch": Refused(lambda p: L.reduce_min(err(p)), ("reduce_min",)),
    "product over the batch": Refused(lambda p: L.reduce_prod(err(p)), ("reduce_prod",)),
    "larger of two means": Refused(lambda p: L.elementwise_max(L.mean(err(p)), L.mean(ce(p))), ("elementwise_max",)),
    "clipped mean": Refused(lambda p: L.clip(L.mean(err(p)), 0.0, 0.5), ("clip",)),
    "mean times an example": Refused(lambda p: L.mean(err(p) * L.mean(ce(p))), ("`*`",)),
    "deviation from the batch mean": Refused(lambda p: L.mean(L.square(L.fc(p.x, 1) - L.mean(L.fc(p.x, 1)))), ("`-`",)),
    "detached batch mean": Refused(lambda p: L.mean(L.square(L.fc(p.x, 1) - stopped(L.mean(L.fc(p.x, 1))))), ("`-`",)),
    "mean plus sum": Refused(lambda p: L.mean(ce(p)) + L.reduce_sum(err(p)), ("write both as means",), "over"),
    "layers.sum of a mean and a sum": Refused(
        lambda p: L.sum([L.mean(ce(p)), L.reduce_sum(err(p))]), ("write both as means",), "over"
    ),
    # Counts
    "mask and batch count": Refused(
        lambda p: L.reduce_sum(masked(p)) / L.reduce_sum(p.m),
        ("`/`", "the example's own count, or by a public constant"),
    ),
    "mean of mask over mean of mask": Refused(
        lambda p: L.mean(masked(p)) / L.mean(p.m), ("the example's own count, or by a public constant",)
    ),
    "weights that sum to one": Refused(
        lambda p: L.reduce_sum(err(p) * p.u / L.reduce_sum(p.u)), ("the example's own count, or by a public constant",)
    ),
    "weighted mean of nll_loss": Refused(
        lambda p: nll(p, L.assign(np.arange(1, 6, dtype=np.float32))),
        ("the weight of all labels", "the example's own count, or by a public constant"),
    ),
    "auc": Refused(lambda p: (L.auc(L.softmax(L.fc(p.x, 2)), p.y), L.mean(ce(p)))[1], ("without noise",), "-"),
    "normalize=True": Refused(
        lambda p: L.reduce_sum(
            L.sigmoid_cross_entropy_with_logits(L.fc(p.x, 1), L.round(L.sigmoid(p.u)), 1, normalize=True)
        ),
        ("normalize=True", "the example's own count, or by a public constant"),
    ),
    "divided by shape": Refused(
        lambda p: L.reduce_sum(err(p)) / L.cast(L.slice(L.shape(p.x), [0], [0], [1]), "float32"), (), "over"
    ),
    "divided by size": Refused(lambda p: L.reduce_sum(err(p)) / L.cast(L.size(p.u), "float32"), (), "over"),
    "divided by a sum of ones": Refused(
        lambda p: L.reduce_sum(err(p)) / L.reduce_sum(L.fill_constant_batch_size_like(p.x, [-1, 1], "float32", 1.0)),
        ("the example's own count, or by a public constant",),
        "over",
    ),
    # Along the batch
    "softmax over the batch": Refused(lambda p: L.mean(L.square(L.softmax(L.fc(p.x, 3), axis=0))), ("softmax",)),
    "softmax while folded": Refused(
        lambda p: L.mean(L.square(L.softmax(L.reshape(L.fc(p.s, 4), [-1]), axis=0))), ("reshape back first",)
    ),
    "cumsum over the batch": Refused(lambda p: L.mean(L.square(L.cumsum(L.fc(p.x, 3), axis=0))), ("cumsum",)),
    "argsort over the batch": Refused(lambda p: L.mean(err(p) * L.argsort(p.u, axis=0)[0]), ("argsort",)),
    "reversed batch": Refused(lambda p: L.mean(L.reverse(L.fc(p.x, 1), axis=[0]) * p.u), ("reverse",)),
    "normalised over the batch": Refused(lambda p: L.mean(L.l2_normalize(L.fc(p.x, 4), axis=0) * p.x), ("l2",)),
    "batch_norm": Refused(
        lambda p: L.mean(L.square(L.batch_norm(L.conv2d(p.image, 3, 3)) + 1.0) * p.u), ("batch_norm", "group_norm")
    ),
    "padded batch": Refused(lambda p: L.mean(L.square(L.pad(L.fc(p.x, 2), [0, 1, 0, 0], 1.0))), ("pad",), "-"),
    "first half of the batch": Refused(
        lambda p: L.mean(L.square(L.slice(L.fc(p.x, 2), [0], [0], [2]))), ("selects examples by position",), "over"
    ),
    "every second example": Refused(
        lambda p: L.mean(L.strided_slice(L.fc(p.x, 2), [0], [0], [3], [2])), ("selects examples by position",), "over"
    ),
    "split batch": Refused(lambda p: L.mean(L.split(L.fc(p.x, 2), 2, dim=0)[0]), (), "-"),
    "one row more": Refused(lambda p: L.mean(L.concat([L.fc(p.x, 4), L.fc(ones(1, 4), 4)], axis=0)), ("concat",), "-"),
    "neighbours": Refused(lambda p: L.mean(L.square(L.gather(L.fc(p.x, 1), L.cast(p.y, "int32")) - p.u)), ("gather",)),
    "scattered rows": Refused(
        lambda p: L.mean(L.square(L.scatter(L.fc(p.x, 1), L.reshape(p.y, [-1]), L.fc(p.x, 1)))), ("scatter",), "-"
    ),
    "in-batch scores": Refused(
        lambda p: (lambda h: L.mean(L.square(L.matmul(h, h, transpose_y=True))))(L.fc(p.x, 3)), ("matmul",)
    ),
    "covariance": Refused(
        lambda p: (lambda h: L.mean(L.square(L.matmul(h, h, transpose_x=True))))(L.fc(p.x, 3)), ("matmul",)
    ),
    "every pair": Refused(lambda p: (lambda h: L.mean(L.square(h - L.transpose(h, [1, 0]))))(L.fc(p.x, 1)), ("`-`",)),
    "features before examples": Refused(
        lambda p: L.mean(L.square(L.fc(L.reshape(L.transpose(p.x, [1, 0]), [-1, 4]), 1))), ("reshape",), "-"
    ),
    "cut across examples": Refused(
        lambda p: L.mean(L.square(L.fc(L.reshape(p.x, [2, -1, 2]), 1, num_flatten_dims=2))), ("reshape",), "-"
    ),
    "convolution over the batch": Refused(
        lambda p: L.mean(L.conv2d(L.reshape(L.fc(p.x, 16), [1, 1, -1, 16]), 1, 1)), ("conv2d",), "-"
    ),
    # Control flow and side effects
    "branch on the data": Refused(
        lambda p: L.mean(branch(p, L.less_than(L.mean(p.u), ones(1)))), ("`cond`", "choose by a mask"), "-"
    ),
    "branch on the loss": Refused(
        lambda p: L.mean(branch(p, L.less_than(L.reduce_sum(err(p)), ones(1)))), ("`cond`", "choose by a mask"), "-"
    ),
    "loop until the data says so": Refused(
        lambda p: L.mean(counted(p, L.reduce_max(p.x))), ("`while_loop`", "fixed number of trips"), "-"
    ),
    "py_func": Refused(lambda p: L.mean(L.square(L.fc(p.x, 1) - called(p.u, p.u))), ("py_func is not compiled",), "-"),
    "shuffle_batch": Refused(lambda p: L.mean(fluid.contrib.layers.shuffle_batch(p.x)), ("shuffle rows before",), "-"),
    "data_norm": Refused(lambda p: L.mean(L.data_norm(L.fc(p.x, 3))), ("data_norm", "layer_norm"), "-"),
    "random_crop": Refused(lambda p: L.mean(L.fc(L.random_crop(p.image, [2, 3, 3], seed=1), 1)), ("random_crop",), "-"),
    # Feeds and losses
    "sequences with LoD": Refused(
        lambda p: L.mean(L.fc(L.sequence_pool(p.ragged, "sum"), 1)), ("ragged", "pad it to [N, T, ...]"), "-"
    ),
    "two open extents": Refused(lambda p: L.mean(L.square(p.square) * weight(shape=(1,))), ("square",), "-"),
    "feed without a batch": Refused(
        lambda p: L.mean(L.elementwise_mul(L.fc(p.x, 4), p.constant)), ("constant", "fluid.privacy.public"), "-"
    ),
    "one loss per example": Refused(lambda p: ce(p), ("reduce it", "fluid.layers.mean"), "-", True),
    "no data in the loss": Refused(lambda p: L.reduce_sum(L.square(weight())), ("independent of the data",), "-", True),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    program = Separated(ACCEPTED[name])
    rng = np.random.default_rng(7)
    feeds = {feed: draw(feed, rng, ROWS) for feed in program.feeds}
    weights = np.full(ROWS, 1.0 / ROWS if program.form == "mean" else 1.0, np.float32)
    ours, plain = program.run(feeds, weights), program.plain.run(feeds)
    free = ours.get("free", np.zeros(1)).astype(np.float64).sum()
    assert np.isfinite(ours["rows"]).all()
    np.testing.assert_allclose(ours["rows"] @ weights + free, plain["loss"].item(), rtol=1e-5, atol=1e-6)
    for parameter in program.plain.parameters:
        own = ours.get(f"g_{parameter}", 0.0) + ours.get(f"h_{parameter}", 0.0)
        np.testing.assert_allclose(own, plain[f"{parameter}@GRAD"], rtol=1e-4, atol=1e-5, err_msg=parameter)
    assert any(np.any(value) for name, value in ours.items() if name.startswith("g_"))
    alone = np.eye(ROWS, dtype=np.float32)
    each = [program.run(feeds, seed) for seed in alone]
    there = {feed: draw(feed, rng, ROWS) for feed in program.feeds}
    for changed in range(ROWS):
        moved = merged(feeds, there, [changed])
        for row in range(ROWS):
            if row == changed:
                continue
            after = program.run(moved, alone[row])
            assert after["rows"][row] == ours["rows"][row]
            # What one example adds to the gradient does not depend on the others either.
            for name, value in each[row].items():
                if name.startswith("g_"):
                    np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_programs_train(name: str) -> None:
    """Without noise and with a bound that clips nothing, a private step is a plain one with the divisor L."""
    separated, plain = Separated(ACCEPTED[name]), Plain(ACCEPTED[name])
    main, startup = fluid.Program(), fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        loss = ACCEPTED[name](Fed())
        fluid.optimizer.Dpsgd(1.0, 1e9, float(ROWS), 0.0).minimize(loss)
    source = lower(main, startup=startup, fetches=[loss.name])
    compiled = compile_source(source, target="reference", batch=2, keep_ir=True)
    artifact = compiled.artifact()
    assert verify(artifact).contradiction is None
    model = Session.load(artifact, compiled.built.engine()).model
    for state, value in plain.state.items():
        if not state.startswith("learning_rate"):
            model.state[state][...] = value
    rng = np.random.default_rng(7)
    feeds = {feed: draw(feed, rng, ROWS) for feed in plain.feeds}
    model.stepper.seed(bytes(32))
    out = model.stepper.run_lot(feeds, key=bytes(32), draw=0)  # batches of two rows and of one
    drawn = feeds | {"rng_key": key_words(step_model_key(bytes(32)))}  # what the step draws follows from its key
    wanted = plain.run(drawn)
    free = separated.run(drawn, np.zeros(ROWS, np.float32))
    np.testing.assert_allclose(out[loss.name].item(), wanted["loss"].item(), rtol=1e-5, atol=1e-6)
    for parameter in plain.parameters:
        extra = free.get(f"h_{parameter}", 0.0)
        private = wanted[f"{parameter}@GRAD"] - extra
        expected = extra + (private if separated.form == "mean" else private / ROWS)
        moved = plain.state[parameter] - model.state[parameter]
        np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=2e-5, err_msg=parameter)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    refused = REFUSED[name]
    with pytest.raises(FluidcError) as caught:
        Separated(refused.build)
    text = f"{caught.value.what}\n{caught.value.hint}"
    for phrase in refused.says:
        assert phrase in text
    assert caught.value.hint
    file, _, line = (caught.value.where or "").rpartition(":")
    lines, first = inspect.getsourcelines(refused.build)
    if refused.at_minimize:
        assert file == separable.__file__
    else:
        assert file == __file__
        assert first <= int(line) < first + len(lines) or int(line) < inspect.getsourcelines(ones)[1]


@pytest.mark.parametrize("name", [name for name, refused in REFUSED.items() if refused.mixes != "-"])
def test_what_is_refused_mixes_examples(name: str) -> None:
    """The loss of a sum over examples has no second difference in two of them."""
    refused, rng = REFUSED[name], np.random.default_rng(3)
    plain = Plain(refused.build, gradients=False)
    largest = 0.0
    for _ in range(12):
        here, there = ({feed: draw(feed, rng, ROWS) for feed in plain.feeds} for _ in range(2))
        for one, other in ((0, 1), (0, 2), (1, 2)):
            feeds = [merged(here, there, rows) for rows in ([], [one], [other], [one, other])]
            losses = [float(plain.run(given)["loss"].item()) for given in feeds]
            difference = abs(losses[0] - losses[1] - losses[2] + losses[3])
            largest = max(largest, difference / max(map(abs, losses)))
    assert largest > 1e-3 if refused.mixes == "rows" else largest < 1e-6


def merged(here: Feeds, there: Feeds, rows: list[int]) -> dict[str, Array]:
    """``here`` with some rows taken from ``there``."""
    found = {name: value.copy() for name, value in here.items()}
    for name, value in found.items():
        axis = batch_axis(name)
        if axis is not None:
            place = (slice(None),) * axis + (rows,)
            value[place] = there[name][place]
    return found


def test_the_table_is_large() -> None:
    assert len(ACCEPTED) + len(REFUSED) >= 130
