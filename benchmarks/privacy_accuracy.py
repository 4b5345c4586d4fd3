"""Test accuracy against epsilon on data that ship with scikit-learn, beside anchors measured elsewhere.

Three models, not private and at epsilon 1, 2 and 8, each trained over ten fixed seeds (of the split into training
and test data, of the initial parameters, and of noise and lots).  The anchors are means and standard deviations over
ten seeds of a numpy implementation of DP-SGD with the same recipes; a mean passes when it is at least

    anchor - 4 sd sqrt(1/10 + 1/10) - 0.005.

Fixed seeds need reproducible noise, so these runs take it from a known key and are not private themselves: epsilon is
that of the same constants with real keys.  Choosing the recipes (on other seeds) is not part of epsilon either.

    python privacy_accuracy.py --save                everything: table, JSON, PNG
    python privacy_accuracy.py --seeds 3 digits-mlp  one model, fewer seeds: table only
"""

from __future__ import annotations

import argparse
import hashlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, stdev

import harness
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

import fluidc.frontend as fluid
from fluidc.compiler.driver import Source, compile_source
from fluidc.frontend.bench.machine import load, machine
from fluidc.frontend.lower import lower
from fluidc.runtime import Session
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.errors import PrivacyWarning
from fluidc.runtime.threads import thread_count

Arrays = dict[str, np.ndarray]
SEEDS = 10
PICTURE = harness.RESULTS / "privacy_accuracy.png"

# Smallest and greatest value of each of the 30 features, as the data set's own description states them: public
# metadata, in the order mean, standard error, worst of the ten measurements.
_LOW = (
    (6.981, 9.71, 43.79, 143.5, 0.053, 0.019, 0.0, 0.0, 0.106, 0.05),
    (0.112, 0.36, 0.757, 6.802, 0.002, 0.002, 0.0, 0.0, 0.008, 0.001),
    (7.93, 12.02, 50.41, 185.2, 0.071, 0.027, 0.0, 0.0, 0.156, 0.055),
)
_HIGH = (
    (28.11, 39.28, 188.5, 2501.0, 0.163, 0.345, 0.427, 0.201, 0.304, 0.097),
    (2.873, 4.885, 21.98, 542.2, 0.031, 0.135, 0.396, 0.053, 0.079, 0.03),
    (36.04, 49.54, 251.2, 4254.0, 0.223, 1.058, 1.252, 0.291, 0.664, 0.208),
)


@dataclass(frozen=True)
class Anchor:
    """Mean and standard deviation of the test accuracy over ten seeds."""

    mean: float
    sd: float

    @property
    def gate(self) -> float:
        """The least mean of ten seeds that agrees with the anchor; wrong alarms are rarer than 1 in 100 000."""
        return self.mean - 4 * self.sd * math.sqrt(0.2) - 0.005


@dataclass(frozen=True)
class Recipe:
    """How one model is trained.

    Attributes:
        anchor: What is known about the accuracy.
        rate: Learning rate.
        steps: T.
        q: Sampling rate; not private: the share of the data in a batch.
        clip: C.
    """

    anchor: Anchor
    rate: float
    steps: int
    q: float
    clip: float = 1.0


@dataclass(frozen=True)
class Task:
    """A data set and a model.

    Attributes:
        data: Features in [0, 1] by public ranges, f32[n, features], and labels, i64[n, 1].
        network: Logits from features.
        examples: Public number of training examples.
        delta: δ.
        recipes: By epsilon; None is not private.
    """

    data: Callable[[], tuple[np.ndarray, np.ndarray]]
    network: Callable[[fluid.Variable], fluid.Variable]
    examples: int
    delta: float
    recipes: dict[float | None, Recipe]


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1797 images of 8x8 pixels, each 0 to 16, and their digits."""
    images, labels = map(np.asarray, load_digits(return_X_y=True))
    return (images / 16.0).astype(np.float32), labels.astype(np.int64).reshape(-1, 1)


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """569 sets of 30 measurements, scaled by their published ranges to [-1, 1], and whether they are benign."""
    features, labels = map(np.asarray, load_breast_cancer(return_X_y=True))
    low, high = np.ravel(_LOW), np.ravel(_HIGH)
    scaled = np.clip(2.0 * (features - low) / (high - low) - 1.0, -1.0, 1.0)
    return scaled.astype(np.float32), labels.astype(np.int64).reshape(-1, 1)


def softmax_regression(classes: int) -> Callable[[fluid.Variable], fluid.Variable]:
    """A linear model."""
    return lambda x: fluid.layers.fc(x, classes)


def mlp(x: fluid.Variable) -> fluid.Variable:
    """64-64-10 with tanh."""
    return fluid.layers.fc(fluid.layers.fc(x, 64, act="tanh"), 10)


TASKS: dict[str, Task] = {
    "digits-softmax": Task(digits, softmax_regression(10), 1437, 1e-4, {
        None: Recipe(Anchor(0.960, 0.008), rate=0.1, steps=1200, q=0.05),
        1.0: Recipe(Anchor(0.894, 0.012), rate=8.0, steps=120, q=0.25, clip=0.2),
        2.0: Recipe(Anchor(0.921, 0.006), rate=8.0, steps=120, q=0.25, clip=0.3),
        8.0: Recipe(Anchor(0.950, 0.005), rate=8.0, steps=120, q=0.25, clip=1.0),
    }),
    "digits-mlp": Task(digits, mlp, 1437, 1e-4, {
        None: Recipe(Anchor(0.954, 0.007), rate=0.1, steps=1200, q=0.05),
        1.0: Recipe(Anchor(0.891, 0.016), rate=8.0, steps=60, q=0.5, clip=0.3),
        2.0: Recipe(Anchor(0.932, 0.013), rate=8.0, steps=100, q=1.0, clip=0.3),
        8.0: Recipe(Anchor(0.958, 0.010), rate=8.0, steps=100, q=1.0, clip=1.0),
    }),
    "breast-cancer": Task(breast_cancer, softmax_regression(2), 455, 1e-3, {
        None: Recipe(Anchor(0.968, 0.015), rate=2.0, steps=300, q=0.25),
        1.0: Recipe(Anchor(0.942, 0.023), rate=1.0, steps=60, q=0.25, clip=1.0),
        2.0: Recipe(Anchor(0.952, 0.022), rate=2.0, steps=120, q=0.25, clip=1.0),
        8.0: Recipe(Anchor(0.963, 0.019), rate=2.0, steps=120, q=0.25, clip=1.0),
    }),
}  # fmt: skip


def source(task: Task, epsilon: float | None, recipe: Recipe) -> Source:
    """The training program and its test form."""
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        features = task.data()[0].shape[1]
        x = fluid.layers.data("x", [features], dtype="float32")
        y = fluid.layers.data("y", [1], dtype="int64")
        logits = task.network(x)
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, y))
        accuracy = fluid.layers.accuracy(fluid.layers.softmax(logits), y)
        if epsilon is None:
            fluid.optimizer.Momentum(learning_rate=recipe.rate, momentum=0.9).minimize(loss)
        else:
            fluid.optimizer.Dpsgd(
                learning_rate=recipe.rate, clip=recipe.clip, batch_size=recipe.q * task.examples, sigma=None,
                sample_rate=recipe.q, delta=task.delta, max_steps=recipe.steps, epsilon=epsilon,
            ).minimize(loss)  # fmt: skip
    return lower(main, startup=startup, infer_fetches=(accuracy.name,))


def split(task: Task, seed: int) -> tuple[Arrays, Arrays]:
    """Training and test data."""
    x, y = task.data()
    parts = train_test_split(x, y, train_size=task.examples, random_state=seed, stratify=y)
    x_train, x_test, y_train, y_test = map(np.asarray, parts)
    return {"x": x_train, "y": y_train}, {"x": x_test, "y": y_test}


def accuracies(task: Task, epsilon: float | None, recipe: Recipe, seeds: range) -> list[float]:
    """The test accuracy of one training per seed."""
    artifact: Artifact = compile_source(source(task, epsilon, recipe)).artifact()
    found: list[float] = []
    for seed in seeds:
        train, test = split(task, seed)
        key = hashlib.sha256(f"privacy accuracy {seed}".encode()).digest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PrivacyWarning)
            session = Session.load(artifact, seed=seed, insecure_noise_key=key if epsilon is not None else None)
            with session:
                batch = None if epsilon is not None else round(recipe.q * task.examples)
                session.train(train, steps=recipe.steps, batch=batch)
                (value,) = session.predict(test).values()
        found.append(float(np.asarray(value).reshape(())))
    return found


def name_of(task: str, epsilon: float | None) -> str:
    """Such as ``digits-mlp, ε = 8``."""
    return f"{task}, {'not private' if epsilon is None else f'ε = {epsilon:g}'}"


def table(found: dict[tuple[str, float | None], list[float]]) -> str:
    """A Markdown table: one line per model and epsilon."""
    lines = ["| model | ε | accuracy, mean ± sd | anchor | gate | |", "|---|---|---|---|---|---|"]
    for (name, epsilon), values in found.items():
        anchor = TASKS[name].recipes[epsilon].anchor
        mean, spread = fmean(values), stdev(values) if len(values) > 1 else 0.0
        shown = "not private" if epsilon is None else f"{epsilon:g}"
        verdict = "pass" if mean >= anchor.gate else "FAIL"
        lines.append(
            f"| {name} | {shown} | {mean:.3f} ± {spread:.3f} | {anchor.mean:.3f} ± {anchor.sd:.3f} "
            f"| {anchor.gate:.3f} | {verdict} |"
        )
    return "\n".join(lines)


def draw(found: dict[tuple[str, float | None], list[float]]) -> None:
    """Accuracy against epsilon, one colour per model; the dashed line is the model without privacy."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), dpi=150)
    for number, name in enumerate(dict.fromkeys(name for name, _ in found)):
        colour = f"C{number}"
        points = [(e, v) for (n, e), v in found.items() if n == name and e is not None]
        means = [fmean(values) for _, values in points]
        places = [epsilon * 1.03 ** (number - 1) for epsilon, _ in points]
        axes.errorbar(places, means, [stdev(v) for _, v in points], fmt="o-", color=colour, capsize=3, label=name)
        axes.axhline(fmean(found[name, None]), color=colour, linestyle="--", linewidth=1, alpha=0.7)
    axes.set_xscale("log", base=2)
    epsilons = sorted({epsilon for _, epsilon in found if epsilon is not None})
    axes.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
    axes.minorticks_off()
    axes.set_xlabel("ε (add/remove, PLD accounting; δ = 1e-4 digits, 1e-3 breast-cancer)")
    axes.set_ylabel("test accuracy, mean ± sd of 10 seeds")
    axes.set_title("Private training with fluidc; dashed: not private")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(PICTURE)
    plt.close(figure)


def main() -> None:
    """Train and print the table.  Exits 1 below a gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(TASKS)}; default all")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--save", action="store_true", help="write JSON and picture; of all models and ten seeds only")
    args = parser.parse_args()
    if args.save and (args.models or args.seeds != SEEDS or args.first_seed):
        parser.error("--save keeps the figures of all models and ten seeds, from seed 0")
    if unknown := set(args.models) - set(TASKS):
        parser.error(f"unknown model {sorted(unknown)[0]}; there are {', '.join(TASKS)}")
    names = args.models or list(TASKS)
    before, found = load(), dict[tuple[str, float | None], list[float]]()
    for name in names:
        task = TASKS[name]
        for epsilon, recipe in task.recipes.items():
            seeds = range(args.first_seed, args.first_seed + args.seeds)
            found[name, epsilon] = accuracies(task, epsilon, recipe, seeds)
            print(f"{name_of(name, epsilon)}: {fmean(found[name, epsilon]):.4f}", flush=True)
    print(table(found))
    if args.save:
        figures = {name_of(*key): fmean(values) for key, values in found.items()}
        harness.save("privacy_accuracy", figures, machine(thread_count(), before))
        draw(found)
        print(f"wrote {PICTURE}")
    if any(fmean(v) < TASKS[name].recipes[epsilon].anchor.gate for (name, epsilon), v in found.items()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
