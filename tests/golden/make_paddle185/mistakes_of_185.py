"""What Paddle 1.8.5 says to the mistakes of tests/support/mistakes.py.

Each runs in a process of its own: some end it. Kept is the last message without the stacks of C++ and Python.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

import mistakes
from trees import GOLDENS


def said(script):
    """The last line of Python's traceback, or what the process printed instead; "" where it raised nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "script.py")
        with open(path, "w") as file:
            file.write(script)
        done = subprocess.run([sys.executable, "-W", "ignore", path], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    text = done.stderr
    summary = re.search(r"Error Message Summary:\n-+\n(.*)", text, re.S)
    if summary:
        text = summary[1]
    else:
        text = text[text.rfind("\n", 0, len(text.rstrip()) - 1) :]
        found = re.findall(r"^(\w+(?:Error|Exception|NotMet)\b.*)", done.stderr, re.M)
        text = found[-1] if found else text
    text = re.sub(r" at \(/paddle/[^)]*\)", "", text)
    return re.sub(r" +", " ", re.sub(r"/\S+/(?=[\w.]+:\d|\w+\.(?:py|cc|h))", "", text)).strip()


def write():
    """Write the golden."""
    found = {name: said(mistakes.HEAD + text) for name, text in mistakes.MISTAKES.items()}
    (GOLDENS / "mistakes.json").write_text(json.dumps(found, indent=2) + "\n")
