"""Takes one training step by the runtime in this process, and says that it has (``../cold_start.py``).

python cold_start_child.py PACKAGES BUNDLE DATA.npz      by a bundle; PACKAGES is a folder to import numpy from
python cold_start_child.py - ARTIFACT DATA.npz           by the runtime that is installed
"""

from __future__ import annotations

import sys

packages, given, data = sys.argv[1:]
if packages != "-":
    import runpy

    sys.path.append(packages)
    artifact = runpy.run_path(f"{given}/run.py")["prepare"]()
else:
    artifact = given

import numpy as np  # noqa: E402

from fluidc.runtime import Session  # noqa: E402

with np.load(data) as arrays:
    Session.load(artifact).run(dict(arrays))
with open("/proc/self/status") as status:  # the peak that getrusage tells includes the process this one was forked from
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(f'{{"megabytes": {peak * 1024 / 1e6}}}', flush=True)
