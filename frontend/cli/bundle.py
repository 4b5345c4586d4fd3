"""``fluidc bundle``: an artifact with all that it runs on."""

from __future__ import annotations

from pathlib import Path

import click

from ..bundle import bundle_of, write_archive, write_folder
from ..bundle.writing import ARCHIVES
from .options import NEW_FILE, artifact_argument

_OTHER_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.zst", ".txz", ".tar", ".7z", ".rar")
"""Nobody means a folder by these names."""


@click.command("bundle", epilog="Example:  fluidc bundle mlp.fluidc -o mlp && python mlp/run.py run --data train.npz")
@artifact_argument
@click.option(
    "-o", "--output", type=NEW_FILE, required=True, help="Write this folder, or this archive: NAME.tar.xz, NAME.zip."
)
def command(artifact: Path, output: Path) -> None:
    """Write a folder that trains, resumes, predicts and inspects ARTIFACT on a machine without fluidc.

    It holds the runtime, the shared libraries of the artifact's target, and run.py, which takes the commands run,
    predict and inspect. The machine needs CPython 3.11 or newer with numpy, and for an artifact of --target onnx also
    onnxruntime. README.txt in the folder says so too.
    """
    if output.name.lower().endswith(_OTHER_ARCHIVES):
        name = output.name[: output.name.lower().index(next(filter(output.name.lower().endswith, _OTHER_ARCHIVES)))]
        raise click.BadParameter(
            f"an archive is written as {' or '.join(name + suffix for suffix in ARCHIVES)}, not as {output.name}",
            param_hint="-o",
        )
    bundle = bundle_of(artifact)
    if output.name.endswith(ARCHIVES):
        size, what = write_archive(bundle, output), "archive"
    else:
        size, what = write_folder(bundle, output), "folder"
    click.echo(f"wrote the {what} {output}: {len(bundle.members) + 1} files, {size / 1e6:.1f} MB")
    if bundle.only is not None:
        click.echo(
            f"for Python {bundle.only} with cryptography; other versions make random words in numpy, more slowly"
        )
