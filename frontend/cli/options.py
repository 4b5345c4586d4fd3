"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.threads import MOST

OLD_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(path_type=Path)
DATA = click.Path(exists=True, path_type=Path)

artifact_argument = click.argument("artifact", type=OLD_FILE)
data_option = click.option(
    "--data",
    type=DATA,
    required=True,
    help=".npz file, folder of .npy files, or table (.csv, .parquet); named after the feeds.",
)
columns_option = click.option(
    "--columns",
    multiple=True,
    metavar="FEED=A,B|A..B",
    help="Columns of a table that make a feed [FEED, or FEED0 and so on]; may be repeated.",
)
fetch_option = click.option("--fetch", multiple=True, metavar="NAME", help="Fetch this; may be repeated.")
device_option = click.option(
    "--device", type=click.IntRange(0), metavar="N", help="GPU that runs an artifact for cuda [0]."
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, MOST), help="Threads of a step [FLUIDC_THREADS, else every core it may use]."
)
signature_option = click.option(
    "--require-signature",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    metavar="KEY.pub",
    help="Refuse an artifact not signed with this key (or one in this folder); may be repeated.",
)
