"""The README.txt of a bundle."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from ...runtime.artifact import Artifact

_WIDTH = 100
_CUDA = (
    "It runs on an NVIDIA GPU (it has code for {}) with a driver for CUDA 13. CUDA's runtime library, libcudart.so.13, "
    "is taken from pip's wheel nvidia-cuda-runtime, from a toolkit, or from the system; cuBLAS too, where there is one."
)


def readme(name: str, artifact: Artifact, needs: Mapping[str, str], glibc: tuple[int, int], only: str | None) -> str:
    """What the bundle of the artifact ``name`` is, needs, and how it is used.

    Args:
        name: file name of the artifact.
        artifact: itself.
        needs: packages that the machine has to have, with their oldest versions.
        glibc: version of the C library.
        only: version of Python that loads all packages; None where every version does.
    """
    manifest = artifact.manifest
    feeds = [f"    {feed.name}: {feed.dtype}[{_dims(feed.shape)}]" for feed in manifest.feeds]
    machine = f"compiled for {manifest.target.cpu or manifest.target.triple}" if manifest.target.triple else ""
    wanted = " and ".join(f"{package} {least} or newer" for package, least in needs.items())
    parts = [
        f"{name}: a compiled training program of fluidc {manifest.fluidc_version}, with all that it runs on.",
        _filled(
            f"It needs Linux with glibc {glibc[0]}.{glibc[1]} or newer and libstdc++, CPython 3.11 or newer, and "
            f"{wanted}; nothing of fluidc has to be installed.{f' The code is {machine}.' if machine else ''}"
        ),
        *([_filled(_CUDA.format(", ".join(manifest.target.architectures)))] if manifest.target.kind == "cuda" else ()),
        "Train, with arrays of these names in train.npz (N is the number of rows):",
        "\n".join(feeds),
        "    python run.py run --data train.npz --epochs 10 -o trained.fluidc",
        "Go on with a run that was interrupted, apply what was trained, and see what a file is:",
        "    python run.py run --data train.npz --epochs 10 --resume -o trained.fluidc\n"
        "    python run.py predict trained.fluidc --data test.npz -o predictions.npz\n"
        "    python run.py inspect",
        _filled(
            f"Without the name of an artifact, {name} is meant. `python run.py run --help` lists the options. In a "
            "program of yours, put the folder lib on PYTHONPATH: from fluidc.runtime import Session."
        ),
    ]
    if manifest.privacy is not None:
        parts.append(
            _filled(
                f"The program is differentially private. Its privacy ledger lies in {name}.run, beside it, unless "
                "--run-dir says otherwise: keep it. A copy of this folder without the ledger knows nothing of the "
                "steps that were taken, and two copies that train on the same data spend twice the budget."
            )
        )
    if only is not None:
        parts.append(
            _filled(
                f"Python {only} loads the package cryptography that is in the bundle: it makes random words and checks "
                "signatures. Other versions make the same words in numpy, more slowly, and check signatures where "
                "cryptography is installed."
            )
        )
    parts += [
        _filled(
            "Every start checks the SHA-256 of all files of the bundle against bundle.json. That finds damage; who can "
            "write here can change bundle.json as well."
        ),
        _filled("Licences of what the bundle contains are in the folder licenses; fluidc is under Apache-2.0."),
    ]
    return "\n\n".join(parts) + "\n"


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH)


def _dims(shape: Sequence[int | str]) -> str:
    return ",".join(map(str, shape))
