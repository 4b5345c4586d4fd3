"""Small manifests and privacy blocks for tests of the runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fluidc.runtime.artifact import (
    Artifact,
    Binding,
    EpsilonEntry,
    FeedSpec,
    FunctionSpec,
    Manifest,
    OutputSpec,
    PrivacySpec,
    StateSpec,
    TargetSpec,
)
from fluidc.runtime.privacy import AutomaticOptions, PhaseSpec, QuantileOptions

POISSON = PrivacySpec(
    mechanism="gaussian",
    clipping="flat",
    clip=1.0,
    lot=16.0,
    sigma=1.1,
    grid_bits=None,
    slack=2.0**-10,
    sampler="poisson",
    adjacency="add-remove",
    q_num=1 << 26,
    delta=1e-5,
    max_steps=100,
    max_epochs=None,
    steps_per_epoch=None,
    table=tuple(
        EpsilonEntry(count, delta, round(0.1 * count**0.5 - 0.02 * np.log10(delta) * count**0.5, 6))
        for count in (10, 50, 100)
        for delta in (1e-6, 1e-5, 1e-3)
    ),
    accounting="pld",
    reason="",
    accountant="dp-accounting",
    accountant_version="0.6.0",
    parameters=("b", "w"),
    assumed_public=(),
)

PER_GROUP = replace(POISSON, clipping="per-group", clip=(1.0, 0.5), groups=(("w",), ("b",)))
AUTOMATIC = replace(POISSON, clipping="automatic", clipping_options=AutomaticOptions(0.01))
PHASED = replace(POISSON, phases=(PhaseSpec(40, 1.1, 16.0, 1 << 26), PhaseSpec(60, 2.0, 32.0, 1 << 27)))
QUANTILE = replace(
    POISSON, clipping="quantile", clipping_options=QuantileOptions(0.5, 0.2, 0.8, 1e-3, 1e3, "dp_clip_0")
)

SHUFFLE = PrivacySpec(
    mechanism="gaussian",
    clipping="flat",
    clip=1.0,
    lot=4.0,
    sigma=2.0,
    grid_bits=None,
    slack=2.0**-10,
    sampler="shuffle",
    adjacency="zero-out",
    q_num=1 << 30,
    delta=1e-5,
    max_steps=1000,
    max_epochs=3,
    steps_per_epoch=4,
    table=tuple(EpsilonEntry(count, 1e-5, 2.0 * count) for count in (1, 2, 3)),
    accounting="pld",
    reason="",
    accountant="dp-accounting",
    accountant_version="0.6.0",
    parameters=("b", "w"),
    assumed_public=(),
)


def small_manifest(privacy: PrivacySpec | None = POISSON) -> Manifest:
    """A linear model with one step function, its inference and a metric counter."""
    step_inputs = (
        Binding("state", "w"),
        Binding("state", "b"),
        Binding("feed", "x"),
        Binding("feed", "y"),
        Binding("mask"),
        Binding("key"),
        Binding("draw"),
    )
    step = FunctionSpec(
        "step",
        step_inputs,
        (
            OutputSpec("fetch", "loss", "f32", (), "mean", not_private=True),
            OutputSpec("state", "w", "f32", (3, 2)),
            OutputSpec("state", "b", "f32", (2,)),
        ),
    )
    infer = FunctionSpec(
        "infer",
        (Binding("state", "w"), Binding("state", "b"), Binding("feed", "x")),
        (OutputSpec("fetch", "y_hat", "f32", ("N", 2), "rows"),),
    )
    return Manifest(
        fluidc_version="0.1.0",
        target=TargetSpec("cpu", "x86_64-unknown-linux-gnu", "x86-64-v3", ("avx2", "fma")),
        batch=16,
        feeds=(
            FeedSpec("x", "f32", ("N", 3)),
            FeedSpec("y", "i64", ("N", 1), low=0, high=2),
        ),
        fetches=("loss",),
        state=(
            StateSpec("w", "f32", (3, 2), "model", trainable=True, role="parameter"),
            StateSpec("b", "f32", (2,), "model", trainable=True, role="parameter"),
            StateSpec("seen", "i64", (), "diagnostic", trainable=False, role="counter"),
        ),
        functions=(step, infer),
        privacy=privacy,
        seed=7,
    )


def small_artifact(privacy: PrivacySpec | None = POISSON) -> Artifact:
    """`small_manifest` with text, a pretended library, values and a proof."""
    return Artifact(
        small_manifest(privacy),
        ir={"captured": "module { }\n", "target": "module { step }\n"},
        modules={"module.so": b"\x7fELF pretended"},
        state={
            "w": np.arange(6, dtype=np.float32).reshape(3, 2),
            "b": np.array([0.5, -0.0], dtype=np.float32),
        },
        proof="loss: total(mean)\n",
    )
