"""Whether a squared norm bounds the gradient that is clipped by it: docs/privacy.md, sections 3b (iii) and 4.

Nothing is evaluated.  A clipped sum is traced back to what one example adds to it, a norm term to what its squares
are taken of, and both must be the same elements of the same value.  Which elements is told by *views*: a value that
was only moved around is its root together with, per axis, the (size, stride) pairs of the root that the axis runs over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from .kinds import Kind, Public, Rows
from .text import Function, Op, Shape
from .views import MOVES, Atom, View, Views, joined, merged, split

F32_ROUNDOFF = 2.0**-24
GUARD = 2.0**-12
LEAST = 2.0**-10
_OUTER = frozenset({"dp.gram_norm_sq", "dp.outer_norm_sq"})


@dataclass(frozen=True)
class Materialised:
    """Gradients of single examples, one per row of ``rows``."""

    rows: str


@dataclass(frozen=True)
class Summed:
    """Each example adds the sum of its rows of ``view`` over ``inner`` (of ``terms`` elements each)."""

    view: View
    inner: tuple[Atom, ...]
    terms: int


@dataclass(frozen=True)
class Block:
    """Each example adds sum_t left[t] (outer) right[t] to a matrix, over ``terms`` tokens t.

    With ``ids``, left[t] is the unit vector of an integer, and tokens with the integer ``padding`` count for nothing.
    """

    left: View
    right: View
    left_tokens: tuple[Atom, ...]
    right_tokens: tuple[Atom, ...]
    terms: int
    ids: bool = False
    padding: int = -1


@dataclass(frozen=True)
class Blocks:
    """Each example adds the sum of the blocks, one per read of the parameter."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Convolved:
    """Each example adds, per group, the windows of ``x`` times its ``ct``, both of ``post`` images per example."""

    x: str
    ct: str
    op: Op
    post: int


Form: TypeAlias = Materialised | Summed | Blocks | Convolved


class Norms(Views):
    """The norm terms and clipped sums of one function."""

    def __init__(self, function: Function, definitions: Mapping[str, Op], kinds: Mapping[str, Kind], rows: int) -> None:
        super().__init__(function, definitions)
        self.kinds, self.rows = kinds, rows

    def bounds(self, term: str, total: str) -> str | None:
        """None where ``term`` (f64[N]) is at least the squared norm of what each example adds to ``total``; else why
        it cannot be seen that it is."""
        if self.function.types[term].dtype != "f64":
            return f"the squares behind {term} are not summed in float64"
        form = self.form(total)
        if form is None:
            return f"the sum {total} is of a form that has no norm rule"
        if self._bounds(term, form):
            return None
        return f"{term} is not seen to be a squared norm of what {total} sums ({_named(form)})"

    # What one example adds --------------------------------------------------------------------------------------
    def form(self, total: str) -> Form | None:
        """What one example adds to a clipped sum."""
        op = self.behind(total)  # moves keep the norm
        if op is None:
            return None
        match op.name:
            case "dp.clipped_sum":
                return Materialised(op.operands[0])
            case "reduce.sum":
                return self._summed(op)
            case "conv.conv2d_filter_grad":
                kind = self.kinds[op.operands[0]]
                x, ct = op.operands
                return Convolved(x, ct, op, kind.post) if isinstance(kind, Rows) else None
            case _:
                blocks = self._blocks(op)
                return None if blocks is None else Blocks(blocks)

    def _blocks(self, op: Op | None) -> tuple[Block, ...] | None:
        """The outer products that a sum consists of; those of several reads of a parameter are added."""
        if op is None:
            return None
        match op.name:
            case "elementwise.add":
                parts = [self._blocks(self.definitions.get(name)) for name in op.operands]
                return None if parts[0] is None or parts[1] is None else (*parts[0], *parts[1])
            case "shape.transpose" if op.integers("perm") == (1, 0):
                inner = self._blocks(self.definitions.get(op.operands[0]))
                if inner is None or any(block.ids for block in inner):
                    return None
                return tuple(Block(b.right, b.left, b.right_tokens, b.left_tokens, b.terms) for b in inner)
            case "linear.matmul":
                return self._product(op)
            case "embedding.lookup_grad":
                return self._lookup(op, raw=True)
            case _:
                return None

    def _summed(self, op: Op) -> Form | None:
        value = op.operands[0]
        view, kind = self.view(value, raw=True), self.kinds[value]
        if not isinstance(kind, Rows):
            return None
        axes = {axis % len(view.axes) for axis in op.integers("axes")}
        inner = [atom for axis in sorted(axes - {kind.axis}) for atom in view.axes[axis]]
        beside = self._beside(view, kind)
        if beside is None:
            return None
        view = replace(view, batch=self._batch(view, kind))
        return Summed(view, joined([*inner, *beside]), prod(size for size, _ in [*inner, *beside]))

    def _product(self, op: Op) -> tuple[Block, ...] | None:
        found: list[tuple[View, tuple[Atom, ...]]] = []
        for name in op.operands:
            kind, view = self.kinds[name], self.view(name, raw=True)
            if len(view.axes) != 2 or not isinstance(kind, Rows):
                return None
            tokens = self._beside(view, kind)
            if tokens is None:
                return None
            feature = view.axes[1 - kind.axis]
            found.append((View(view.root, (tokens, feature), self._batch(view, kind)), tokens))
        (left, t), (right, s) = found
        return self._paired(left, right, t, s)

    def _lookup(self, op: Op, raw: bool) -> tuple[Block, ...] | None:
        ids, right = (self.view(name, raw=raw) for name in op.operands)
        kinds = [self.kinds[name] for name in op.operands]
        tokens = [
            self._tokens(view.axes, kind) for view, kind in ((ids, kinds[0]), (View("", right.axes[:-1]), kinds[1]))
        ]
        if tokens[0] is None or tokens[1] is None:
            return None
        left, features = View(ids.root, (tokens[0], ())), View(right.root, (tokens[1], right.axes[-1]))
        return self._paired(left, features, tokens[0], tokens[1], ids=True, padding=_padding(op))

    def _tokens(self, axes: tuple[tuple[Atom, ...], ...], kind: Kind) -> tuple[Atom, ...] | None:
        """All axes in one, without the batch."""
        if not isinstance(kind, Rows) or kind.axis >= len(axes):
            return None
        parts = split(axes[kind.axis], (kind.pre, self.rows, kind.post))
        if parts is None:
            return None
        before = [atom for axis in axes[: kind.axis] for atom in axis]
        after = [atom for axis in axes[kind.axis + 1 :] for atom in axis]
        return merged([*before, *parts[0], *parts[2], *after])

    def _paired(
        self, left: View, right: View, t: tuple[Atom, ...], s: tuple[Atom, ...], *, ids: bool = False, padding: int = -1
    ) -> tuple[Block, ...] | None:
        terms = prod(size for size, _ in t)
        if terms != prod(size for size, _ in s):
            return None
        return (Block(left, right, t, s, terms, ids, padding),)

    def _beside(self, view: View, kind: Rows) -> tuple[Atom, ...] | None:
        """The atoms of the batch axis without the batch itself."""
        parts = split(view.axes[kind.axis], (kind.pre, self.rows, kind.post))
        return None if parts is None else merged([*parts[0], *parts[2]])

    def _batch(self, view: View, kind: Rows) -> tuple[Atom, ...]:
        """The atoms of the batch itself."""
        parts = split(view.axes[kind.axis], (kind.pre, self.rows, kind.post))
        return () if parts is None else merged(parts[1])

    # Whether a term bounds it ------------------------------------------------------------------------------------
    def _bounds(self, term: str, form: Form) -> bool:
        op = self.definitions.get(term)
        kept = isinstance(self.kinds[term], Rows) or self.constant(term) is not None  # moves keep whose norm it is
        if op is not None and (op.name == "dp.norm_sq" or (op.name in MOVES and kept)):
            return self._bounds(op.operands[0], form)
        match form:
            case Materialised(rows):
                return op is not None and op.name == "dp.row_norm_sq" and self.same(op.operands[0], rows)
            case Summed(view, _, 1):
                return self._squares(term, view)
            case Summed():
                return self._guarded_sum(op, form)
            case Blocks(blocks):
                return self._blocks_bound(op, blocks)
            case Convolved():
                return self._convolved(op, form)

    def _blocks_bound(self, op: Op | None, blocks: tuple[Block, ...]) -> bool:
        if op is None:
            return False
        (block, *more) = blocks
        if op.name in _OUTER:
            return self._outer(op, blocks)
        if more:
            return False
        if block.ids:
            return (
                op.name == "embedding.lookup_norm_sq"
                and _padding(op) == block.padding
                and self._lookup(op, raw=False) == blocks
            )
        return block.terms == 1 and self._product_bound(op, block.left, block.right)

    def _outer(self, op: Op, blocks: tuple[Block, ...]) -> bool:
        """Whether a Gram or direct form reads the very blocks, in whatever order; their guard is part of the op."""
        lefts, rights = op.groups
        if self.kinds[op.result] != Rows(0):
            return False
        if not isinstance(lefts, tuple) or not isinstance(rights, tuple):
            return False
        padding = op.integers("padding", ()) or (-1,) * len(lefts)
        rest = list(blocks)
        for left, right, ignored in zip(lefts, rights, padding, strict=True):
            block = self._block_of(left, right, ignored)
            turned = block and Block(block.right, block.left, block.right_tokens, block.left_tokens, block.terms)
            if block in rest:
                rest.remove(block)
            elif len(blocks) == 1 and not block.ids and turned in rest:  # a matrix and its transpose are of one norm
                rest.remove(turned)
            else:
                return False
        return not rest

    def _convolved(self, op: Op | None, form: Convolved) -> bool:
        """Whether a Gram or direct form, summed over groups, reads the windows of ``x`` and the very ``ct``."""
        if op is not None and op.name == "reduce.sum":
            op = self.behind(op.operands[0])  # f64[N, groups], summed to f64[N]
        if op is None or op.name not in _OUTER or any(len(group or ()) != 1 for group in op.groups):
            return False
        conv, post = form.op, form.post
        groups, (channels, _, *kernel) = conv.integer("groups", 1), conv.integers("w_shape")
        if self.kinds[op.result] != Rows(0, 1, post=groups):
            return False
        views = {self.view(name).root: self.view(name) for name in op.operands}
        windows = [name for name in views if self._is_windows(name, conv, form.x, tuple(kernel))]
        if len(windows) != 1 or len(views) != 2:
            return False
        view, (other,) = views.pop(windows[0]), views.values()
        _, _, pixels, taps = self.shape(windows[0])
        source = split([(size, stride) for axis in self.view(form.ct, raw=True).axes for size, stride in axis],
                        (self.rows, post, groups, channels // groups, pixels))  # fmt: skip
        whole = prod(self.shape(windows[0]))
        of_windows = split([(whole, 1)], (self.rows, post, groups, pixels, taps))
        if source is None or of_windows is None or other.root != self.view(form.ct, raw=True).root:
            return False
        rows, images, group, feature, pixel = source
        wanted = (merged([*rows, *group]), merged([*images, *pixel]), merged(feature))
        rows, images, group, pixel, feature = of_windows
        seen = (merged([*rows, *group]), merged([*images, *pixel]), merged(feature))
        return other.axes == wanted and view.axes == seen

    def _is_windows(self, name: str, conv: Op, x: str, kernel: Shape) -> bool:
        op = self.definitions.get(name)
        if (
            op is None
            or op.name != "conv.patches"
            or op.integers("kernel") != kernel
            or self.view(op.operands[0]) != self.view(x, raw=True)
        ):
            return False
        return all(
            op.attributes.get(key) == conv.attributes.get(key) for key in ("strides", "pads", "dilations", "groups")
        )

    def _block_of(self, left: str, right: str, padding: int) -> Block:
        """The block that ``[N, T, d]``, or ids ``[N, T]``, and ``[N, T, p]`` make."""
        x, d = self.view(left), self.view(right)
        ids = len(x.axes) == 2
        terms = prod(size for size, _ in d.axes[1])
        features = () if ids else x.axes[2]
        return Block(
            View(x.root, (x.axes[1], features)), View(d.root, (d.axes[1], d.axes[2])), x.axes[1], d.axes[1], terms,
            ids, padding,
        )  # fmt: skip

    def _product_bound(self, op: Op | None, left: View, right: View) -> bool:
        """``|x|^2 |delta|^2``, with constants folded or not."""
        if op is None:
            return False
        if op.name == "elementwise.mul":
            a, b = op.operands
            return (self._squares(a, left) and self._squares(b, right)) or (
                self._squares(b, left) and self._squares(a, right)
            )
        if op.name == "unary.scale" and op.number("bias", 0.0) == 0.0:
            factor, (inner,) = op.number("factor"), op.operands
            return any(
                self._squares(inner, x) and self._constant_bound(factor, y) for x, y in ((left, right), (right, left))
            )
        return False

    def _squares(self, term: str, view: View) -> bool:
        """Whether ``term`` is, per example, the sum of the squares of all elements of ``view``."""
        constant = self.constant(term)
        if constant is not None:
            return self._constant_bound(constant, view)
        if isinstance(self.kinds[term], Public):
            return self._squares_of_public(term, view)
        found = self._reduced(term, "unary.square")
        return found is not None and found[0].root == view.root and not found[1] and found[2] == "sum"

    def _squares_of_public(self, term: str, view: View) -> bool:
        """`_squares` where no data reach ``view``: no kind tells whose row is whose, so the very atoms of the batch
        must be what is left of the sum.
        """
        op = self.definitions.get(term)
        if op is None or op.name != "reduce.sum" or self.shape(term) != (self.rows,):
            return False
        squared = self.definitions.get(op.operands[0])
        if squared is None or squared.name != "unary.square" or self.function.types[squared.result].dtype != "f64":
            return False
        source = self.view(squared.operands[0])
        taken = {axis % len(source.axes) for axis in op.integers("axes")}
        kept = [atom for axis, atoms in enumerate(source.axes) if axis not in taken for atom in atoms]
        return source.root == view.root and merged(kept) == view.batch

    def _constant_bound(self, value: float, view: View) -> bool:
        element = self.constant(view.root)
        if element is None:
            return False
        count = prod(self.shape(view.root)) // self.rows
        return value >= count * element * element * (1 - 1e-12)

    def _guarded_sum(self, op: Op | None, form: Summed) -> bool:
        """``where(k U <= 2^-12 n, n^2, max(n + k U, 2^-10 U)^2)`` with n the norm of the sums, U the sum of the norms,
        and ``k = (T + 2) u`` at least (section 4, direct form)."""
        if op is None or op.name != "elementwise.where":
            return False
        condition, exact, wide = (self.definitions.get(name) for name in op.operands)
        if condition is None or condition.name != "elementwise.less_equal" or exact is None or wide is None:
            return False
        slack, limit = (self.definitions.get(name) for name in condition.operands)
        if not (_scales(slack) and _scales(limit) and slack is not None and limit is not None):
            return False
        norm = self.definitions.get(limit.operands[0])
        if norm is None or norm.name != "unary.sqrt" or norm.operands != (op.operands[1],):
            return False
        if wide.name != "unary.square" or limit.number("factor") > GUARD:
            return False
        stated = self.definitions.get(wide.operands[0])
        if stated is None or stated.name != "elementwise.max":
            return False
        added, least = (self.definitions.get(name) for name in stated.operands)
        if added is None or added.name != "elementwise.add" or set(added.operands) != {norm.result, slack.result}:
            return False
        if least is None or not _scales(least) or least.operands != slack.operands or least.number("factor") < LEAST:
            return False
        factor = slack.number("factor") * (1 + 1e-9)
        return (
            factor >= (form.terms + 2) * F32_ROUNDOFF
            and self._sum_of_squares_of_sums(op.operands[1], form)
            and self._sum_of_norms(slack.operands[0], form)
        )

    def _sum_of_squares_of_sums(self, term: str, form: Summed) -> bool:
        found = self._reduced(term, "unary.square")
        return found is not None and found[0].root == form.view.root and found[1] == form.inner and found[2] == "sum"

    def _sum_of_norms(self, term: str, form: Summed) -> bool:
        """``sum_t |row_t|``: a root per element of ``inner``, or per finer ones."""
        outer = self.definitions.get(term)
        if outer is None or outer.name != "reduce.sum" or self.kinds[term] != Rows(0):
            return False
        root = self.definitions.get(outer.operands[0])
        if root is None or root.name != "unary.sqrt":
            return False
        squares = self.definitions.get(root.operands[0])
        if squares is None or squares.name != "reduce.sum":
            return False
        square = self.definitions.get(squares.operands[0])
        if square is None or square.name != "unary.square":
            return False
        view = self.view(square.operands[0])
        taken = {axis % len(view.axes) for axis in squares.integers("axes")}
        kind = self.kinds[square.result]
        if not isinstance(kind, Rows) or kind.axis in taken or view.root != form.view.root:
            return False
        beside = self._beside(view, kind)
        if beside is None:
            return False
        left = [atom for axis, atoms in enumerate(view.axes) if axis not in taken | {kind.axis} for atom in atoms]
        return joined([*left, *beside]) == form.inner

    def _reduced(self, term: str, square: str) -> tuple[View, tuple[Atom, ...], str] | None:
        """For ``sum(square(sum(view, inner)))`` over all but the batch: the view, ``inner``, and ``sum``."""
        op = self.definitions.get(term)
        while op is not None and op.name in MOVES:
            op = self.definitions.get(op.operands[0])
        if op is None or op.name != "reduce.sum" or self.kinds[op.result] != Rows(0):
            return None
        squared = self.behind(op.operands[0])
        if squared is None or squared.name != square:
            return None
        inner = self.behind(squared.operands[0])
        if self.function.types[squared.result].dtype != "f64":
            return None
        if inner is None or inner.name != "reduce.sum":
            return self.view(squared.operands[0]), (), "sum"
        if self.function.types[inner.operands[0]].dtype != "f64":
            return None
        view, kind = self.view(inner.operands[0]), self.kinds[inner.operands[0]]
        axes = {axis % len(view.axes) for axis in inner.integers("axes")}
        if not isinstance(kind, Rows) or kind.axis in axes:
            return None
        return view, joined(atom for axis in axes for atom in view.axes[axis]), "sum"


def is_rows(kind: Kind) -> bool:
    """Whether every row, if there are any, is one example's."""
    return isinstance(kind, Public) or kind == Rows(0)


def _scales(op: Op | None) -> bool:
    return op is not None and op.name == "unary.scale" and op.number("bias", 0.0) == 0.0


def _named(form: Form) -> str:
    match form:
        case Materialised(rows):
            return f"gradients {rows}"
        case Summed(view, _, terms):
            return f"{view.root}, {terms} per example"
        case Convolved(x, ct, _, _):
            return f"windows of {x} times {ct}"
        case Blocks(blocks):
            return ", ".join(f"{b.left.root} times {b.right.root}, {b.terms} per example" for b in blocks)


def _padding(op: Op) -> int:
    value = op.attributes.get("padding_idx")
    return value if isinstance(value, int) else -1
