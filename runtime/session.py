"""A loaded artifact, ready to train, predict, evaluate, be saved and be exported: what programs use."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from .artifact import Artifact
from .columns import Columns
from .data import DataSet, DataSource, load_data
from .engine import Array, Engine
from .engines import engine_for
from .errors import BudgetError, CheckpointError, DataError, LedgerError, PrivacyWarning, SamplerError, SignatureError
from .evaluate import Evaluation, chosen, evaluate, predict
from .feeds import Watch
from .keeper import Checkpoints, Keeper, take_folder
from .keystream import fresh_key, insecure_key
from .ledger import Ledger, Spent
from .ledger_records import Void
from .lock import FolderLock
from .model import Model
from .privacy import PrivacySpec, SamplerKind
from .progress import Counted, Display, Silent, display
from .resume import check_counted, check_unused, resume, save
from .sampler import Course
from .signature import KeySource
from .train import (
    DEFAULT_BATCH,
    Callback,
    PlainSteps,
    PrivateSteps,
    RunResult,
    Source,
    TrainOptions,
    lost_steps,
    private_steps,
    run,
)

IN_MEMORY = (
    "privacy is counted in memory only: when this process ends, nobody knows what was spent; name a run_dir to keep it"
)
FED = "lots are fed by the caller, so no sampler accounts for them: epsilon is unknown"
INSECURE = "the noise comes from a known key: this run has no privacy guarantee"
_LENGTH = "arguments epochs, steps (--epochs, --steps)"


class Session:
    """An artifact with its state in memory. Make it with `load`.

    Attributes:
        model: state, seed and place of the training.
    """

    def __init__(self, model: Model, secret: bytes | None = None) -> None:
        self.model = model
        self._secret = secret
        self._fed: Ledger | None = None
        self._memory: Ledger | None = None
        self._kept: dict[Path, Ledger] = {}
        self._keeper: Keeper | None = None
        if model.manifest.caution:
            warnings.warn(model.manifest.caution, PrivacyWarning, stacklevel=3)
        if secret is not None:
            model.insecure = model.insecure or model.private
            if model.private:
                warnings.warn(INSECURE, PrivacyWarning, stacklevel=3)

    @classmethod
    def load(
        cls,
        artifact: Path | str | Artifact,
        engine: Engine | None = None,
        threads: int | None = None,
        *,
        device: int | None = None,
        seed: int | None = None,
        insecure_noise_key: bytes | None = None,
        require_signature: KeySource | None = None,
    ) -> Self:
        """Read an artifact, load its code, and initialise its state.

        Args:
            artifact: file, or one already read.
            engine: executes it; None takes the runtime's engine for its target.
            threads: threads of a step; None takes FLUIDC_THREADS, else every core that the process may use.
            device: number of the GPU, for an artifact that runs on one; None takes the first.
            seed: of initialisers, shuffles and dropout, in private steps of nothing; None takes the artifact's, else a
                fresh one.
            insecure_noise_key: makes the noise of a private program reproducible and its privacy void; for tests.
            require_signature: a file with a public key, a folder of such files (``*.pub``), or several: the file must
                be signed with one of these keys, or nothing of it is executed.

        Raises ArtifactError for a file that cannot be trusted (SignatureError where that is for its signature),
        EngineError for one that cannot be executed here.
        """
        if isinstance(artifact, Artifact):
            if require_signature is not None:
                raise SignatureError(
                    "signatures are of files, and this artifact was read already",
                    "argument require_signature",
                    "give it to Artifact.read, or the path to Session.load",
                )
            read = artifact
        else:
            read = Artifact.read(artifact, require_signature)
        return cls(Model(read, engine or engine_for(read, threads, device), seed), insecure_noise_key)

    # -- single calls -------------------------------------------------------------------------------------------

    def run(self, feeds: Mapping[str, object], fetches: Sequence[str] | None = None) -> dict[str, Array]:
        """One training step on ``feeds``; for an artifact without one, inference.

        A private program takes the rows fed as its lot, whatever their number, adds noise under a key from the
        operating system, and counts the step; no epsilon is known for lots that were fed.

        Returns the fetches by name. Raises DataError for feeds or fetches that do not fit, BudgetError when the
        step is beyond the budget; state is then as it was.
        """
        model = self.model
        if not model.manifest.has_function("step"):
            return self.predict(feeds, fetches)
        names = chosen(model.manifest, "step", fetches)
        values = self._fed_lot(feeds) if model.private else model.stepper.run("step", feeds)
        model.step += 1
        return {name: values[name] for name in names if name in values}

    def predict(self, feeds: Mapping[str, object], fetches: Sequence[str] | None = None) -> dict[str, Array]:
        """``infer`` on ``feeds``, any number of rows; state stays as it is.

        Returns the fetches by name. Raises DataError for feeds or fetches that do not fit.
        """
        names = chosen(self.model.manifest, "infer", fetches)
        values = self.model.stepper.run("infer", feeds)
        return {name: values[name] for name in names}

    def predict_all(
        self, data: DataSource, fetches: Sequence[str] | None = None, *, columns: Columns | None = None
    ) -> dict[str, Array]:
        """`predict` over a data set (as `train` takes them), a part at a time; see `evaluate.predict`."""
        return predict(self.model, self._data(data, "infer", columns), fetches)

    def evaluate(
        self, data: DataSource, fetches: Sequence[str] | None = None, *, columns: Columns | None = None
    ) -> Evaluation:
        """Means of ``infer``'s scalars over a data set (as `train` takes them); see `evaluate.evaluate`."""
        return evaluate(self.model, self._data(data, "infer", columns), fetches)

    # -- training -----------------------------------------------------------------------------------------------

    def train(
        self,
        data: DataSource,
        epochs: int | None = None,
        steps: int | None = None,
        sampler: SamplerKind | None = None,
        run_dir: Path | str | None = None,
        *,
        batch: int | None = None,
        columns: Columns | None = None,
        prefetch: bool | None = None,
        fetches: Sequence[str] | None = None,
        checkpoints: Checkpoints | None = None,
        resume: bool = False,
        check_numerics: bool = False,
        progress: bool | Display = False,
        callback: Callback | None = None,
        allow_nonprivate: bool = False,
        private_report: bool = False,
    ) -> RunResult:
        """Train on a data set.

        Args:
            data: mapping from feeds to arrays, or the path of a ``.npz`` file, of a folder of ``.npy`` files, or of a
                table (``.csv``, ``.parquet``).
            epochs: passes over the data; for a private program, each stands for 1 / q steps.
            steps: more steps to take; with ``resume``, the last step counted from the very beginning.
            sampler: ``shuffle`` (default) or ``sequential``; a private program has its own and takes no other.
            run_dir: where the privacy ledger is kept; None counts in memory.
            batch: rows of an ordinary batch, where the program does not fix them.
            columns: of a table, feed -> its columns, or first and last one as ``("a..z",)``; those of the feed's name
                where it is not there.
            prefetch: gather the rows of the next batch while a step runs: always, never, or (None) where it is found to
                be faster. What is computed is the same.
            fetches: names shown and handed on; default those of the program.
            checkpoints: where and when to write them; None writes none.
            resume: go on from the newest checkpoint, if there is one.
            check_numerics: refuse and undo a step whose result is not finite.
            progress: True shows it on standard error.
            callback: called after every step; for a private program with public values only.
            allow_nonprivate: give the callback everything, and record that epsilon does not cover what it decides.
            private_report: show and return public values only: no exact loss or metric, and no time. Without it such
                values are marked NOT PRIVATE.

        Raises DataError, SamplerError, BudgetError, LedgerError, CheckpointError, NumericsError.
        """
        model = self.model
        if not model.manifest.has_function("step"):
            raise DataError("the artifact has no training step", "function 'step'", "compile a program with minimize")
        names = chosen(model.manifest, "step", fetches)
        for name, value in (("epochs", epochs), ("steps", steps), ("batch", batch)):
            if value is not None and value < 1:
                raise DataError(f"{name} is {value}", f"argument {name}", "give a number of at least 1")
        if epochs is not None and steps is not None:
            raise DataError("epochs and steps are both given", _LENGTH, "give one of them")
        if private_report and model.manifest.privacy is None:
            raise DataError(
                "a private report is wanted of an ordinary program, of which everything is exact",
                "argument private_report",
                "leave it out (--private-report), or train a program with Dpsgd",
            )
        chosen_display = display(untimed=private_report) if progress is True else Silent()
        show = chosen_display if isinstance(progress, bool) else progress
        # How fast a check is tells how many rows there are.
        dataset = self._data(data, "step", columns, None if private_report else Counted(show.note))
        if model.manifest.privacy is not None:
            _check_private_arguments(model.manifest.privacy, sampler, batch)
            if run_dir is None and checkpoints is not None:
                raise LedgerError(
                    "checkpoints of a private run need its ledger on disk",
                    str(checkpoints.directory),
                    "name a run_dir (--run-dir)",
                )
        options = TrainOptions(0, names, check_numerics, private_report)
        keeper = self._keeper = None if checkpoints is None else Keeper(model, checkpoints)
        try:
            if checkpoints is not None and resume:
                self._go_on(checkpoints.directory, show)
            elif checkpoints is not None and model.step == 0:
                check_unused(checkpoints.directory)
            if model.manifest.privacy is None:
                source, last = self._plain(dataset, epochs, steps, sampler, batch, resume, show, prefetch)
                with closing(source):
                    return run(model, source, replace(options, steps=last), show, None, callback, keeper)
            with self._counting(model.manifest.privacy, run_dir) as ledger:
                if checkpoints is not None:  # before any step, not after the first ones
                    check_counted(model, checkpoints.directory, ledger.position)
                if not private_report:
                    _compare_sizes(model.manifest.privacy, dataset, show)
                last = private_steps(model.manifest.privacy, epochs, steps, ledger.steps, model.step, resume)
                if run_dir is not None and ledger.steps > model.effective_steps:
                    show.note(lost_steps(run_dir, ledger.steps, model, resumed=resume))
                first = 0 if run_dir else ledger.epochs
                options = replace(options, steps=last)
                with closing(PrivateSteps(model, dataset, ledger, self._secret, first, prefetch=prefetch)) as source:
                    return run(
                        model, source, options, show, ledger, callback, keeper, allow_nonprivate=allow_nonprivate
                    )
        finally:
            self._keeper = None
            if keeper is not None:
                keeper.release()

    def save(self, directory: Path | str) -> Path:
        """Write a checkpoint to ``directory``; see `resume.save` for what it raises.

        Raises CheckpointError too when a run has the folder, but for the one that this session is in.
        """
        folder, ledger = Path(directory), self.model.ledger if self.model.private else None
        check_counted(self.model, folder, ledger)
        lock = FolderLock(folder)
        if self._keeper is None or not self._keeper.holds(folder):
            take_folder(lock)
        try:
            return save(self.model, folder, ledger)
        finally:
            lock.release()

    def resume(self, directory: Path | str) -> Path:
        """Go on from the newest checkpoint in ``directory``; returns its file.

        Training then continues as if it had never stopped: ordinary programs take exactly the steps they would
        have taken. Raises CheckpointError where there is none, or it belongs to another artifact.
        """
        found = resume(self.model, Path(directory), lambda text: warnings.warn(text, UserWarning, stacklevel=3))
        if found is None:
            raise CheckpointError("there is no checkpoint", str(directory), "name the folder that a run wrote")
        return found

    def export(self, path: Path | str) -> None:
        """Write the trained artifact: the same program with the present values. Raises ArtifactError.

        That of a private program says which record of its ledger counts the last step: it is trained further in
        the same run directory only.
        """
        self.model.export().write(path)

    # -- privacy ------------------------------------------------------------------------------------------------

    def spent(self, delta: float | None = None) -> Spent:
        """Steps counted and epsilons for the steps of this session and the ledgers it trained on.

        Raises BudgetError for a program without privacy, and for a delta outside the stored table.
        """
        spec = self.model.manifest.privacy
        if spec is None:
            raise BudgetError("the program is not private", "privacy", "train with the Dpsgd optimizer")
        ledgers = [*self._kept.values(), *([self._memory] if self._memory else [])]
        if self._fed is not None:
            ledgers.append(self._fed)
        if not ledgers:
            with Ledger.in_memory(spec, void=self._void("")) as unused:
                return unused.spent(delta)
        parts = [ledger.spent(delta) for ledger in ledgers]
        if len(parts) == 1:
            return parts[0]
        reasons = [part.reason for part in parts if part.reason]
        return Spent(
            steps=sum(part.steps for part in parts),
            epochs=sum(part.epochs for part in parts),
            delta=parts[0].delta,
            budget=None,
            so_far=None,
            reason=reasons[0] if reasons else "unknown: the steps are on several ledgers; compose them",
            taints=tuple(taint for part in parts for taint in part.taints),
        )

    def epsilon(self, delta: float | None = None) -> float:
        """Epsilon spent so far, at ``delta`` (default: that of the budget).

        Raises BudgetError where it is unknown, saying why.
        """
        spent = self.spent(delta)
        if spent.so_far is None:
            raise BudgetError(
                f"epsilon is {spent.reason}",
                f"epsilon(delta={delta})",
                "compile with dataset_size, delta and max_steps, and let train draw the lots",
            )
        return spent.so_far

    def close(self) -> None:
        """End the counting of steps; the session can still predict."""
        for ledger in (self._fed, self._memory):
            if ledger is not None:
                ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- parts --------------------------------------------------------------------------------------------------

    def _data(self, source: DataSource, function: str, columns: Columns | None, watch: Watch | None = None) -> DataSet:
        return load_data(source, self.model.manifest, function, columns, watch)

    def _fed_lot(self, feeds: Mapping[str, object]) -> dict[str, Array]:
        spec = self.model.manifest.privacy
        assert spec is not None, "asked of private models only"
        if self._fed is None:
            warnings.warn(f"{FED}; {IN_MEMORY}", PrivacyWarning, stacklevel=4)
            self._fed = Ledger.in_memory(spec, void=self._void("user-fed"))
        self.model.stepper.check("step", feeds)  # what cannot run need not be counted
        number = self._fed.step()
        self.model.uncounted = True
        key = fresh_key() if self._secret is None else insecure_key(self._secret, "step", number)
        return self.model.stepper.run_lot(feeds, key=key, draw=number)

    def _plain(
        self,
        data: DataSet,
        epochs: int | None,
        steps: int | None,
        sampler: SamplerKind | None,
        batch: int | None,
        resumed: bool,
        show: Display,
        prefetch: bool | None,
    ) -> tuple[Source, int]:
        """The batches of an ordinary run, and its last step."""
        model = self.model
        if epochs is None and steps is None:
            raise DataError("how long to train is not said", _LENGTH, "give one of them")
        before = model.course if resumed else None
        chosen_kind = sampler or (before.sampler if before else "shuffle")
        if chosen_kind not in ("shuffle", "sequential"):
            raise SamplerError(
                f"the {chosen_kind} sampler is for private programs", "argument sampler", "use shuffle or sequential"
            )
        fixed = model.manifest.batch
        if fixed is not None and batch not in (None, fixed):
            raise DataError(
                f"batches of {batch} rows are wanted, the program was compiled for {fixed}",
                "argument batch",
                "leave it out, or compile with another --batch",
            )
        rows = fixed or batch or (before.batch if before else DEFAULT_BATCH)
        course = Course(chosen_kind, rows, data.rows)
        if before is not None and course != before:
            raise CheckpointError(
                f"the run was begun with {before.text}, and is to go on with {course.text}",
                data.where,
                "resume with the same data, batch and sampler, or train afresh in a new folder",
            )
        source = PlainSteps(model, data, rows, chosen_kind, prefetch=prefetch)
        if source.dropped:
            show.note(f"the last {source.dropped} rows of each epoch are left out: the batch size is fixed at {fixed}")
        wanted = steps if steps is not None else (epochs or 0) * source.lots_per_epoch
        return source, wanted if resumed else model.step + wanted

    def _go_on(self, directory: Path, show: Display) -> None:
        found = resume(self.model, directory, lambda text: warnings.warn(text, UserWarning, stacklevel=5))
        show.note(f"going on from {found}" if found else "there is no checkpoint yet; starting at the beginning")

    @contextmanager
    def _counting(self, spec: PrivacySpec, run_dir: Path | str | None) -> Generator[Ledger]:
        """The ledger of a run; one on disk is closed at its end."""
        ledger = self._ledger(spec, run_dir)
        try:
            yield ledger
        finally:
            if run_dir is not None:
                try:
                    ledger.close()
                except LedgerError as error:  # what was learnt is worth more than what would be given back
                    warnings.warn(
                        f"{error.what} ({error.where}): steps that were reserved and not taken stay counted",
                        PrivacyWarning,
                        stacklevel=5,
                    )
                self.model.ledger = ledger.position
            else:
                self.model.uncounted = self.model.uncounted or ledger.begun > 0

    def _ledger(self, spec: PrivacySpec, run_dir: Path | str | None) -> Ledger:
        before = self.model.manifest.trained
        if before is not None and before.ledger is None:
            raise LedgerError(
                f"{before.steps} private steps are behind this artifact, and they were counted in memory only",
                "manifest, trained",
                "train the artifact as it was compiled, with a run directory (--run-dir)",
            )
        if run_dir is not None:
            path = Path(run_dir)
            self._kept[path] = Ledger.open(path, spec, void=self._void(""), resume=self.model.ledger)
            self.model.ledger = self._kept[path].position
            return self._kept[path]
        if self.model.ledger is not None:
            raise LedgerError(
                "the steps behind this state are counted in a ledger on disk",
                "argument run_dir",
                "name the run directory that they were counted in (--run-dir)",
            )
        if self._memory is None:
            warnings.warn(IN_MEMORY, PrivacyWarning, stacklevel=6)
            self._memory = Ledger.in_memory(spec, void=self._void(""))
        return self._memory

    def _void(self, reason: Void) -> Void:
        return "seeded" if self._secret is not None else reason


def _compare_sizes(spec: PrivacySpec, data: DataSet, show: Display) -> None:
    """Tell the person who trains, and nobody else, that the stated constants do not suit these data."""
    for phase in spec.phases or (spec,):
        rate = phase.sample_rate
        if rate is not None and abs(rate * data.rows - phase.lot) > 0.1 * phase.lot:
            show.note(
                f"lots of these {data.rows} rows hold {rate * data.rows:.1f} examples on average, "
                f"batch_size is {phase.lot:g}: "
                "the dataset_size stated at compile time differs; privacy holds, the size of updates is off"
            )
            return


def _check_private_arguments(spec: PrivacySpec, sampler: SamplerKind | None, batch: int | None) -> None:
    if sampler not in (None, spec.sampler):
        raise SamplerError(
            f"the artifact was accounted for the {spec.sampler} sampler, not {sampler}",
            "argument sampler",
            f"leave it out, or compile with --sampler {sampler}",
        )
    if batch is not None:
        raise DataError(
            f"batches of {batch} rows are wanted, the sampler of a private program draws its own",
            "argument batch",
            "leave it out; batch_size of Dpsgd states the expected size",
        )
