"""The mistakes that users of fluid make most, as small scripts: they run in Paddle 1.8.5 too, for its messages."""

from __future__ import annotations

HEAD = """
import numpy as np
import paddle.fluid as fluid

exe = fluid.Executor(fluid.CPUPlace())
X, Y = np.ones((2, 4), "float32"), np.array([[0], [2]])
"""
MODEL = """
x = fluid.data("x", [None, 4])
label = fluid.data("label", [None, 1], dtype="int64")
predict = fluid.layers.fc(x, 3, act="softmax")
loss = fluid.layers.mean(fluid.layers.cross_entropy(predict, label))
"""
READY = (
    MODEL
    + """
fluid.optimizer.Adam(0.1).minimize(loss)
exe.run(fluid.default_startup_program())
"""
)

MISTAKES: dict[str, str] = {
    "startup before minimize": MODEL
    + """
exe.run(fluid.default_startup_program())
fluid.optimizer.Adam(0.1).minimize(loss)
exe.run(feed={"x": X, "label": Y}, fetch_list=[loss])
""",
    "startup not run": MODEL
    + """
exe.run(feed={"x": X, "label": Y}, fetch_list=[loss])
""",
    "missing feed": READY
    + """
exe.run(feed={"x": X}, fetch_list=[loss])
""",
    "wrong dtype": READY
    + """
exe.run(feed={"x": X.astype("float64"), "label": Y}, fetch_list=[loss])
""",
    "wrong shape": READY
    + """
exe.run(feed={"x": np.ones((2, 5), "float32"), "label": Y}, fetch_list=[loss])
""",
    "label out of range": READY
    + """
exe.run(feed={"x": X, "label": np.array([[0], [3]])}, fetch_list=[loss])
""",
    "id out of range": """
ids = fluid.data("ids", [None, 1], dtype="int64")
vector = fluid.embedding(ids, size=[10, 2])
exe.run(fluid.default_startup_program())
exe.run(feed={"ids": np.array([[1], [10]])}, fetch_list=[vector])
""",
    "LoD missing": """
words = fluid.data("words", [None, 4], lod_level=1)
pooled = fluid.layers.sequence_pool(words, "sum")
exe.run(fluid.default_startup_program())
exe.run(feed={"words": X}, fetch_list=[pooled])
""",
    "unknown fetch": READY
    + """
exe.run(feed={"x": X, "label": Y}, fetch_list=["mean_0.tmp0"])
""",
    "nested list": READY
    + """
exe.run(feed={"x": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0]], "label": Y}, fetch_list=[loss])
""",
    "layers of other sizes": MODEL
    + """
fluid.layers.elementwise_add(fluid.layers.fc(x, 3), fluid.layers.fc(x, 5))
""",
}
"""Name -> what follows `HEAD`."""
