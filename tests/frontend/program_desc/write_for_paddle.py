"""Write the programs of ``fluid_programs.CASES`` as ProgramDescs, for ``run_in_paddle.py`` to run in Paddle 1.8.5.

python tests/frontend/program_desc/write_for_paddle.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import fluidc.frontend as fluid

sys.path.append(str(Path(__file__).resolve().parents[2] / "support"))

from fluid_programs import CASES


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in CASES.items():
        program, startup = fluid.Program(), fluid.Program()
        with fluid.unique_name.guard(), fluid.program_guard(program, startup):
            build(fluid)
        (folder / f"{name}.main").write_bytes(program.desc.serialize_to_string())
        (folder / f"{name}.startup").write_bytes(startup.desc.serialize_to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
