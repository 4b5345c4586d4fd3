"""Small scripts around running programs, for Paddle 1.8.5 and for fluidc: each takes fluid and gives numbers.

They are written for Python 3.7, too, in which Paddle runs; a folder is for files they need.
"""

import os

import numpy as np

ROWS = (np.arange(12, dtype=np.float32).reshape(4, 3) - 5.0) / 10
TARGETS = np.array([[0.5], [-0.2], [0.1], [0.9]], np.float32)


class _Setting:
    """Programs, names and a scope of their own, with an executor."""

    def __init__(self, fluid, seed=3):
        self.fluid = fluid
        self.main, self.startup = fluid.Program(), fluid.Program()
        self.main.random_seed = self.startup.random_seed = seed
        self.guards = [
            fluid.program_guard(self.main, self.startup),
            fluid.unique_name.guard(),
            fluid.scope_guard(fluid.core.Scope()),
        ]

    def __enter__(self):
        for guard in self.guards:
            guard.__enter__()
        return self.fluid.Executor(self.fluid.CPUPlace())

    def __exit__(self, *error):
        for guard in reversed(self.guards):
            guard.__exit__(*error)


def values(found):
    """Nested lists of what a run returned."""
    return [np.asarray(each).tolist() for each in found]


def fields(fluid):
    return fluid.data("x", [None, 3], "float32"), fluid.data("y", [None, 1], "float32")


def regression(fluid):
    """A small network and its loss."""
    x, y = fields(fluid)
    hidden = fluid.layers.fc(x, 4, act="tanh")
    out = fluid.layers.fc(hidden, 1)
    return fluid.layers.mean(fluid.layers.square_error_cost(out, y)), hidden, out


def parameter(fluid, name):
    return np.asarray(fluid.global_scope().find_var(name).get_tensor()).tolist()


def samples(count=5):
    def read():
        for i in range(count):
            yield np.full(3, i, "float32"), np.array([i / 2], "float32")

    return read


def epochs(fluid, exe, main, reader, fetches, count=2):
    """What ``count`` epochs of a started reader return, and after how many batches each ends."""
    found = []
    for _ in range(count):
        reader.start()
        batches = []
        try:
            while True:
                batches.append(values(exe.run(main, fetch_list=fetches)))
        except fluid.core.EOFException:
            reader.reset()
        found.append(batches)
    return found


# Readers ------------------------------------------------------------------------------------------------


def loader_of_a_program(fluid, folder):
    """One generator of single samples: the last, smaller batch kept and dropped."""
    found = []
    for drop_last in (False, True):
        setting = _Setting(fluid)
        with setting as exe:
            x, y = fields(fluid)
            loader = fluid.io.DataLoader.from_generator(feed_list=[x, y], capacity=3, iterable=False)
            total = fluid.layers.reduce_sum(x)
            loader.set_sample_generator(samples(), batch_size=2, drop_last=drop_last)
            exe.run(setting.startup)
            found.append(epochs(fluid, exe, setting.main, loader, [total, y]))
    return found


def loader_reset_before_the_end(fluid, folder):
    setting = _Setting(fluid)
    with setting as exe:
        x, y = fields(fluid)
        loader = fluid.io.DataLoader.from_generator(feed_list=[x, y], capacity=3, iterable=False)
        total = fluid.layers.reduce_sum(x)
        loader.set_sample_list_generator(fluid.io.batch(samples(), 2))
        exe.run(setting.startup)
        found = []
        for _ in range(2):
            loader.start()
            found.append(values(exe.run(setting.main, fetch_list=[total])))
            loader.reset()
        return found


def loader_trains(fluid, folder):
    """The end of the data changes no parameter."""
    setting = _Setting(fluid)
    with setting as exe:
        x, y = fields(fluid)
        loader = fluid.io.DataLoader.from_generator(feed_list=[x, y], capacity=2, iterable=False)
        loss = fluid.layers.mean(fluid.layers.square_error_cost(fluid.layers.fc(x, 1), y))
        fluid.optimizer.SGD(0.05).minimize(loss)
        loader.set_batch_generator(lambda: iter([(ROWS, TARGETS), (ROWS[:2], TARGETS[:2])]))
        exe.run(setting.startup)
        return [*epochs(fluid, exe, setting.main, loader, [loss]), parameter(fluid, "fc_0.w_0")]


def iterated_loaders(fluid, folder):
    """Dicts and lists, for one place and for two."""
    found = []
    for places in (1, 2):
        for return_list in (False, True):
            with _Setting(fluid):
                x, y = fields(fluid)
                loader = fluid.io.DataLoader.from_generator(feed_list=[x, y], capacity=4, return_list=return_list)
                loader.set_sample_generator(
                    samples(), batch_size=2, drop_last=False, places=[fluid.CPUPlace()] * places
                )
                for _ in range(2):
                    for data in loader():
                        found.append([values(each) if return_list else values([each["x"], each["y"]]) for each in data])
    return found


def lod_batches(fluid, folder):
    """Sequences, made into LoD tensors by the loader and by the script."""

    def sentences():
        for i in range(4):
            yield list(range(i + 1)), [i]

    def made():
        for lengths in ([2, 1], [3]):
            rows = np.arange(sum(lengths), dtype="int64").reshape(-1, 1)
            yield fluid.create_lod_tensor(rows, [lengths], fluid.CPUPlace()), np.zeros((len(lengths), 1), "int64")

    found = []
    for of_batches in (False, True):
        setting = _Setting(fluid)
        with setting as exe:
            words = fluid.data("words", [None, 1], "int64", lod_level=1)
            label = fluid.data("label", [None, 1], "int64")
            loader = fluid.io.DataLoader.from_generator(feed_list=[words, label], capacity=3, iterable=False)
            pooled = fluid.layers.sequence_pool(fluid.layers.cast(words, "float32"), "sum")
            if of_batches:
                loader.set_batch_generator(made)
            else:
                loader.set_sample_list_generator(fluid.io.batch(sentences, 2))
            exe.run(setting.startup)
            found.append(epochs(fluid, exe, setting.main, loader, [pooled, label], 1))
    return found


def py_reader(fluid, folder):
    """fluid.layers' readers: by shapes, by data, with and without a double buffer."""
    found = []
    for double in (False, True):
        setting = _Setting(fluid)
        with setting as exe:
            reader = fluid.layers.py_reader(
                4, [(-1, 3), (-1, 1)], ["float32", "float32"], name="train", use_double_buffer=double
            )
            x, y = fluid.layers.read_file(reader)
            total = fluid.layers.reduce_sum(x)
            reader.decorate_paddle_reader(fluid.io.batch(samples(), 2))
            exe.run(setting.startup)
            found.append(epochs(fluid, exe, setting.main, reader, [total, y]))
    setting = _Setting(fluid)
    with setting as exe:
        x = fluid.data("x", [None, 3], "float32")
        reader = fluid.layers.create_py_reader_by_data(4, [x])
        read = fluid.layers.read_file(reader)
        total = fluid.layers.reduce_sum(read)
        reader.decorate_tensor_provider(lambda: iter([(ROWS,), (ROWS[1:],)]))
        exe.run(setting.startup)
        found.append(epochs(fluid, exe, setting.main, reader, [total], 1))
    setting = _Setting(fluid)
    with setting as exe:
        reader = fluid.layers.py_reader(4, [(-1, 3)], ["float32"], use_double_buffer=False)
        total = fluid.layers.reduce_sum(fluid.layers.read_file(fluid.layers.double_buffer(reader)))
        reader.decorate_batch_generator(lambda: iter([(ROWS,)]))
        exe.run(setting.startup)
        found.append(epochs(fluid, exe, setting.main, reader, [total], 1))
    return found


def old_py_reader(fluid, folder):
    """fluid.io.PyReader, iterable and not."""
    found = []
    with _Setting(fluid) as exe:
        x, y = fields(fluid)
        total = fluid.layers.reduce_sum(x)
        reader = fluid.io.PyReader(feed_list=[x, y], capacity=4, iterable=True)
        reader.decorate_sample_generator(samples(), 2, drop_last=True, places=fluid.CPUPlace())
        found.append([values(exe.run(feed=data, fetch_list=[total])) for data in reader()])
    setting = _Setting(fluid)
    with setting as exe:
        x, y = fields(fluid)
        reader = fluid.io.PyReader(feed_list=[x, y], capacity=4, iterable=False)
        total = fluid.layers.reduce_sum(x)
        reader.decorate_sample_list_generator(fluid.io.batch(samples(), 2))
        exe.run(setting.startup)
        found.append(epochs(fluid, exe, setting.main, reader, [total]))
    return found


def loaders_of_data_sets(fluid, folder):
    """DataLoader over a data set by index: batches, sampler, collation, workers."""
    from_dataloader = fluid.dataloader

    class Squares(from_dataloader.Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, i):
            return np.full(3, i, "float32"), np.array([i * i], "float32")

    found = []
    with _Setting(fluid):
        x, y = fields(fluid)
        options = [
            {"batch_size": 2},
            {"batch_size": 2, "drop_last": True, "return_list": True},
            {"batch_sampler": from_dataloader.BatchSampler(indices=[4, 0, 3], batch_size=2)},
            {"batch_size": 3, "collate_fn": lambda batch: [np.stack([s[0] for s in batch]) * 2, np.ones((1, 1), "f")]},
        ]
        for each in options:
            loader = fluid.io.DataLoader(Squares(), feed_list=[x, y], places=[fluid.CPUPlace()], **each)
            batches = [
                values(data[0] if each.get("return_list") else [data[0]["x"], data[0]["y"]]) for data in loader()
            ]
            found.append([len(loader), batches])
    return found


def eager_loaders(fluid, folder):
    """Loaders in dygraph give lists of variables."""
    found = []
    with fluid.dygraph.guard(fluid.CPUPlace()):
        loader = fluid.io.DataLoader.from_generator(capacity=3, return_list=True)
        loader.set_sample_generator(samples(), batch_size=2, drop_last=False)
        found.append([values([v.numpy() for v in data]) for data in loader()])
        loader.set_batch_generator(lambda: iter([(ROWS, TARGETS)]), fluid.CPUPlace())
        found.append([values([v.numpy() for v in data]) for data in loader])
        found.append([str(v.numpy().dtype) for data in loader for v in data])
    return found


# Programs -----------------------------------------------------------------------------------------------


def data_parallel(fluid, folder):
    """One place: the losses of several steps, fetched in each of the ways."""
    setting = _Setting(fluid)
    with setting as exe:
        loss, hidden, _ = regression(fluid)
        fluid.optimizer.Adam(0.05).minimize(loss)
        exe.run(setting.startup)
        strategy = fluid.BuildStrategy()
        strategy.fuse_elewise_add_act_ops = True
        strategy.memory_optimize = True
        program = fluid.CompiledProgram(setting.main).with_data_parallel(
            loss_name=loss.name, build_strategy=strategy, places=[fluid.CPUPlace()]
        )
        feed = {"x": ROWS, "y": TARGETS}
        found = [values(exe.run(program, feed=feed, fetch_list=[loss, hidden])) for _ in range(3)]
        found.append(values(exe.run(program, feed=[feed], fetch_list=[loss])))
        apart = exe.run(program, feed=feed, fetch_list=[loss, hidden], return_merged=False)
        found.append([[np.asarray(one).tolist() for one in each] for each in apart])
        tensors = exe.run(program, feed=feed, fetch_list=[loss], return_numpy=False)
        found.append(values(tensors))
        found.append(exe.run(program, feed=feed))
        return found


def several_iterations_of_a_run(fluid, folder):
    """A run takes one step, whatever is asked for."""
    setting = _Setting(fluid)
    with setting as exe:
        loss, _, _ = regression(fluid)
        fluid.optimizer.SGD(0.1).minimize(loss)
        exe.run(setting.startup)
        strategy = fluid.ExecutionStrategy()
        strategy.num_threads = 2
        strategy.num_iteration_per_run = 3
        program = fluid.CompiledProgram(setting.main).with_data_parallel(
            loss_name=loss.name, exec_strategy=strategy, places=[fluid.CPUPlace()]
        )
        feed = {"x": ROWS, "y": TARGETS}
        found = [values(exe.run(program, feed=feed, fetch_list=[loss])) for _ in range(2)]
        return [*found, values(exe.run(setting.main, feed=feed, fetch_list=[loss]))]


def parallel_executors(fluid, folder):
    """Training, and a test program that shares its variables."""
    setting = _Setting(fluid)
    with setting as exe:
        loss, _, _ = regression(fluid)
        test = setting.main.clone(for_test=True)
        fluid.optimizer.SGD(0.1).minimize(loss)
        exe.run(setting.startup)
        train = fluid.ParallelExecutor(use_cuda=False, loss_name=loss.name, main_program=setting.main)
        feed = {"x": ROWS, "y": TARGETS}
        found = [train.device_count, values(train.run([loss.name], feed=feed))]
        tests = fluid.ParallelExecutor(use_cuda=False, main_program=test, share_vars_from=train)
        found.append(values(tests.run(fetch_list=[loss.name], feed=feed)))
        found.append(values(train.run(fetch_list=[loss.name], feed=feed)))
        train.drop_local_exe_scopes()
        return found


def data_sets_of_files(fluid, folder):
    """A dense, a sparse and an integer field of two files, trained on in order; then one that a command makes."""
    lines = ["3 0.1 0.2 0.3 2 1 4 1 0.5", "3 0.4 0.5 0.6 1 2 1 0.1", "3 -1 0 1 3 0 3 2 1 -0.5", "3 1 1 1 1 4 1 1"]
    names = [os.path.join(str(folder), name) for name in ("a.txt", "b.txt")]
    for name, part in zip(names, (lines[:3], lines[3:])):
        with open(name, "w") as file:
            file.write("\n".join(part) + "\n")
    found = []
    for kind, command in (("QueueDataset", "cat"), ("InMemoryDataset", "cat"), ("QueueDataset", "head -1")):
        setting = _Setting(fluid)
        with setting as exe:
            x, y = fields(fluid)
            words = fluid.data("words", [None, 1], "int64", lod_level=1)
            pooled = fluid.layers.sequence_pool(fluid.layers.cast(words, "float32"), "sum")
            out = fluid.layers.fc(fluid.layers.concat([x, pooled], axis=1), 1)
            loss = fluid.layers.mean(fluid.layers.square_error_cost(out, y))
            fluid.optimizer.SGD(0.01).minimize(loss)
            exe.run(setting.startup)
            dataset = fluid.DatasetFactory().create_dataset(kind)
            dataset.set_use_var([x, words, y])
            dataset.set_batch_size(2)
            dataset.set_thread(1)
            dataset.set_filelist(names)
            dataset.set_pipe_command(command)
            if kind == "InMemoryDataset":
                dataset.load_into_memory()
                found.append(int(dataset.get_memory_data_size()))
            found.append(exe.train_from_dataset(setting.main, dataset))
            found.append([parameter(fluid, "fc_0.w_0"), parameter(fluid, "fc_0.b_0")])
    return found


# Optimizers ---------------------------------------------------------------------------------------------


def steps(fluid, minimise, average=None, count=8):
    """Losses of ``count`` steps and the parameters after each; then a test by averaged parameters, and those again."""
    setting = _Setting(fluid)
    with setting as exe:
        loss, hidden, _ = regression(fluid)
        test = setting.main.clone(for_test=True)
        minimise(fluid, loss, hidden)
        averages = None if average is None else average(fluid)
        exe.run(setting.startup)
        feed = {"x": ROWS, "y": TARGETS}
        found = []
        for _ in range(count):
            (value,) = exe.run(setting.main, feed=feed, fetch_list=[loss])
            found.append([value.tolist(), parameter(fluid, "fc_0.w_0"), parameter(fluid, "fc_1.b_0")])
        if averages is None:
            return found

        def tested():
            return [parameter(fluid, "fc_0.w_0"), values(exe.run(test, feed=feed, fetch_list=[loss]))]

        for _ in range(2):
            with averages.apply(exe):
                found.append(tested())
            found.append(tested())
            exe.run(setting.main, feed=feed)
        with averages.apply(exe, need_restore=False):
            pass
        found.append(tested())
        averages.restore(exe)
        found.append(tested())
        return found


def _sgd(fluid, loss, hidden):
    fluid.optimizer.SGD(0.2).minimize(loss)


def lookahead(fluid, folder):
    def minimise(fluid, loss, hidden):
        fluid.optimizer.LookaheadOptimizer(fluid.optimizer.Momentum(0.1, 0.9), alpha=0.3, k=3).minimize(loss)

    return steps(fluid, minimise)


def recompute(fluid, folder):
    def minimise(fluid, loss, hidden):
        optimizer = fluid.optimizer.RecomputeOptimizer(fluid.optimizer.Adam(0.05))
        optimizer._set_checkpoints([hidden])
        optimizer.minimize(loss)

    return steps(fluid, minimise)


def moving_average(fluid, folder):
    def average(fluid):
        made = fluid.optimizer.ExponentialMovingAverage(0.7)
        made.update()
        return made

    return steps(fluid, _sgd, average)


def scheduled_moving_average(fluid, folder):
    """A counter in floating point makes a schedule, one in integers none."""
    found = []
    for kind in ("float32", "int64"):

        def average(fluid, kind=kind):
            counter = fluid.layers.autoincreased_step_counter()
            counter = counter if kind == "int64" else fluid.layers.cast(counter, kind)
            made = fluid.optimizer.ExponentialMovingAverage(0.5, thres_steps=counter, name="slow")
            made.update()
            return made

        found.append(steps(fluid, _sgd, average))
    return found


def model_average(fluid, folder):
    """Windows that close, and one that does not."""
    found = []
    for window in ((0.5, 2, 3), (0.15, 10000, 12500), (1.0, 1, 4)):

        def average(fluid, window=window):
            return fluid.optimizer.ModelAverage(window[0], min_average_window=window[1], max_average_window=window[2])

        found.append(steps(fluid, _sgd, average))
    return found


def decoupled_weight_decay(fluid, folder):
    def minimise(fluid, loss, hidden):
        kind = fluid.contrib.extend_with_decoupled_weight_decay(fluid.optimizer.Adam)
        kind(
            learning_rate=0.05, weight_decay=0.02, apply_decay_param_fun=lambda name: not name.endswith("b_0")
        ).minimize(loss)

    return steps(fluid, minimise)


READERS = [
    loader_of_a_program, loader_reset_before_the_end, loader_trains, iterated_loaders, lod_batches, py_reader,
    old_py_reader, loaders_of_data_sets, eager_loaders,
]  # fmt: skip
RUNNING = [data_parallel, several_iterations_of_a_run, parallel_executors, data_sets_of_files]
WRAPPERS = [
    lookahead, recompute, moving_average, scheduled_moving_average, model_average, decoupled_weight_decay,
]  # fmt: skip
