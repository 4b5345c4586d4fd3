#!/usr/bin/env python3
"""Trains, predicts with and inspects the program in this folder; README.txt says how.

Every bundle holds this file as run.py.  It checks the Python that runs it, the machine and every file of the bundle
before it loads any of them; written so that a Python that is too old can read it, to say that it is.
"""

import sys

MANIFEST = "bundle.json"
PACKAGES = "lib"
FORMAT = 1


class Refusal(Exception):
    """What happened, where, and what to do next."""

    def __init__(self, what, where, hint):
        Exception.__init__(self, "{}\n  at {}\n  {}".format(what, where, hint))


def main(arguments=None):
    """Run one command; returns its exit code."""
    try:
        artifact = prepare()
    except Refusal as error:
        sys.stderr.write("error: {}\n".format(error))
        return 1
    from fluidc.runtime.__main__ import main as run

    return run(arguments, artifact)


def prepare():
    """Check the bundle and put its packages on the path; returns the artifact's file, raises Refusal."""
    import os

    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [each for each in sys.path if os.path.abspath(each) != folder]  # nothing is imported from beside this
    manifest = read_manifest(os.path.join(folder, MANIFEST))
    check_python(manifest)
    check_machine(manifest)
    check_members(folder, manifest)
    find_packages(folder)
    check_numpy(manifest)
    from pathlib import Path

    return Path(folder) / manifest["artifact"]


def read_manifest(path):
    """What bundle.json says; raises Refusal when it is missing or damaged."""
    import io
    import json

    try:
        with io.open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        if manifest["format"] != FORMAT:
            raise Refusal(
                "the bundle has format {}, this launcher reads format {}".format(manifest["format"], FORMAT),
                path,
                "copy the whole bundle again: its files belong together",
            )
        facts = {"format", "artifact", "python", "system", "machine", "glibc", "needs", "members"}
        parts = [{"name", "size", "sha256"} - set(member) for member in manifest["members"]]
        if facts - set(manifest) or any(parts):
            raise ValueError("parts of it are missing")
        return manifest
    except (IOError, OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(
            "the bundle has no readable {} ({})".format(MANIFEST, error), path, "copy or unpack the bundle again"
        )


def check_python(manifest):
    """Raise Refusal for a Python that cannot run the bundle."""
    least = tuple(manifest["python"])
    where = running()
    wanted = "CPython {}.{} or newer".format(*least)
    if sys.version_info[:2] < least:
        found = "{}.{}".format(*sys.version_info[:2])
        raise Refusal(
            "the bundle needs {}, this is Python {}".format(wanted, found),
            where,
            "run it with a newer one: python{}.{} run.py".format(*least),
        )
    if sys.implementation.name != "cpython" or "t" in sys.abiflags:
        kind = "a free-threaded build" if sys.implementation.name == "cpython" else sys.implementation.name
        raise Refusal(
            "the bundle needs {}, this is {}".format(wanted, kind), where, "run it with an ordinary build of CPython"
        )


def running():
    """The Python that runs this, as errors show it."""
    return "Python {}, {}".format(".".join(map(str, sys.version_info[:3])), sys.executable)


def check_machine(manifest):
    """Raise Refusal for a machine that the bundle's libraries are not made for."""
    import os

    system, _, _, _, machine = os.uname() if hasattr(os, "uname") else (sys.platform, "", "", "", "unknown")
    if (system, machine) != (manifest["system"], manifest["machine"]):
        raise Refusal(
            "the bundle's libraries are for {system} on {machine}".format(**manifest),
            "{} on {}".format(system, machine),
            "make the bundle on such a machine: fluidc bundle OUT.fluidc -o DIR",
        )
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        name, version = "", ""
    least = tuple(manifest["glibc"])
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < least:
        raise Refusal(
            "the bundle's libraries need glibc {}.{} or newer".format(*least),
            "this system's C library is {}".format(" ".join((name, version)).strip() or "another one"),
            "run it on a newer system, or in a container of one",
        )


def check_members(folder, manifest):
    """Raise Refusal unless every file of the bundle is there with its size and SHA-256."""
    import hashlib
    import os

    for member in manifest["members"]:
        path = os.path.join(folder, *member["name"].split("/"))
        try:
            with open(path, "rb") as file:
                data = file.read()
        except (IOError, OSError) as error:
            raise Refusal(
                "the bundle is not whole: {} cannot be read ({})".format(member["name"], error.strerror),
                folder,
                "copy or unpack the bundle again",
            )
        if len(data) != member["size"] or hashlib.sha256(data).hexdigest() != member["sha256"]:
            raise Refusal(
                "the bundle is damaged: {} has another SHA-256 than when it was made".format(member["name"]),
                folder,
                "copy or unpack the bundle again",
            )


def find_packages(folder):
    """Have the bundle's packages found before all others, and what is for this version of Python only if it is."""
    import os

    library = os.path.join(folder, PACKAGES)
    own = "{}-cpython-{}{}".format(library, *sys.version_info[:2])
    sys.path[:0] = [library] + [own] * os.path.isdir(own)


def check_numpy(manifest):
    """Raise Refusal where numpy is missing or too old; what else a target needs, its engine asks for when it runs."""
    least = manifest["needs"]["numpy"]
    install = "{} -m pip install 'numpy>={}'".format(sys.executable, least)
    try:
        import numpy
    except ImportError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise Refusal("numpy cannot be imported, and the bundle needs it ({})".format(reason), running(), install)
    found = numpy.__version__
    if [int(part) for part in found.split(".")[:2]] < [int(part) for part in least.split(".")]:
        raise Refusal("the bundle needs numpy {} or newer, this is {}".format(least, found), running(), install)


if __name__ == "__main__":
    sys.exit(main())
