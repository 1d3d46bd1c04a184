"""Saving while training: ``ModelCheckpoint``.

Enters: a training model, epoch by epoch. Leaves: artifacts or weight files, each whole or not there, and beside them a
record (JSON) of the last epoch that was saved, of the best value so far, and of the files that are kept.

Invariants: the record is written after the file it speaks of, so it never names one that is not complete; a training
that was killed at any moment goes on from the record.
"""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from interop.backend import choose_backend
from interop.errors import FormatError, InteropError

choose_backend()

import keras  # noqa: E402  (after the backend is chosen)

_RISING = re.compile(r"acc|auc|precision|recall|f1|fbeta|iou|r2|sensitivity|specificity")
_FALLING = re.compile(r"loss|error|mse|mae|mape|msle|perplexity|divergence")


@dataclass(frozen=True)
class Record:
    """Where a training stands.

    Attributes:
        epoch: epochs that are complete in the last file: what to give ``fit`` as ``initial_epoch``.
        batch: batches trained since, where files are written within an epoch.
        best: best value of the monitored quantity so far; None if nothing is monitored.
        path: the last file that was written.
        kept: the files that were written and not removed, oldest first.
    """

    epoch: int = 0
    batch: int = 0
    best: float | None = None
    path: str | None = None
    kept: tuple[str, ...] = ()


class ModelCheckpoint(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """A Keras callback that saves the model, or its weights, while it trains.

    A training that ended early is taken up again like this::

        saver = interop.ModelCheckpoint("run/model.interop")
        if saver.latest is not None:
            model = interop.load_model(saver.latest)
        model.fit(x, y, epochs=50, callbacks=[saver], initial_epoch=saver.epoch)

    Args:
        path: where, with ``{epoch}`` (from 1), ``{batch}`` and the names in ``logs`` in braces, such as
            ``"run/{epoch:02d}-{val_loss:.2f}.interop"``. The folder is made.
        monitor: the quantity in ``logs`` that says which epoch is best.
        save_best_only: save only when it got better.
        save_weights_only: save with ``save_weights`` (the ending says the format) instead of ``save_model``.
        include_optimizer: save the state of the optimizer too, which going on with training takes; None: in artifacts,
            but not beside weights only. ``load_weights`` restores it into a compiled model.
        mode: whether less (``"min"``) or more (``"max"``) is better; ``"auto"`` tells by the name.
        save_freq: ``"epoch"``, or a number of batches, which are counted on from epoch to epoch.
        max_to_keep: files to keep of those this callback wrote; None: all.
        initial_value_threshold: what the first saved value must be better than.
        verbose: 1 prints a line for every file.

    Attributes:
        epoch: the epoch to go on with.
        latest: the last complete file, or None.
        best: the best value so far, or None.

    Raises:
        InteropError: an argument is not one of those, or ``"auto"`` does not tell.
        FormatError: the record of an earlier training cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        *,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        include_optimizer: bool | None = None,
        mode: Literal["auto", "min", "max"] = "auto",
        save_freq: int | Literal["epoch"] = "epoch",
        max_to_keep: int | None = None,
        initial_value_threshold: float | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise InteropError(f"mode is 'auto', 'min' or 'max'. Received: mode={mode!r}")
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq > 0):
            raise InteropError(
                f"save_freq is 'epoch' or a number of batches. Received: save_freq={save_freq!r}"
            )
        if max_to_keep is not None and max_to_keep < 1:
            raise InteropError(f"max_to_keep is None or at least 1. Received: max_to_keep={max_to_keep!r}")
        self._template = os.fspath(path)
        self._monitor = monitor
        self._best_only = save_best_only
        self._weights_only = save_weights_only
        self._with_state = not save_weights_only if include_optimizer is None else include_optimizer
        self._sign = _sign(monitor, mode) if save_best_only else 1.0
        self._save_freq = save_freq
        self._max_to_keep = max_to_keep
        self._verbose = verbose
        self._record_path = _record_path(Path(self._template))
        self._record = _read_record(self._record_path)
        self._threshold = initial_value_threshold
        self._epoch = self._record.epoch
        self._batches = 0
        self._since = 0

    @property
    def epoch(self) -> int:
        """Epochs that are complete: what to give ``fit`` as ``initial_epoch``."""
        return self._record.epoch

    @property
    def latest(self) -> Path | None:
        """The last complete file, or None."""
        return None if self._record.path is None else self._record_path.parent / self._record.path

    @property
    def best(self) -> float | None:
        """The best value so far, or None."""
        return self._record.best

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch
        self._batches = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._since += batch + 1 - self._batches  # more than one where a step executes several
        self._batches = batch + 1
        if self._save_freq != "epoch" and self._since >= self._save_freq:
            self._since = 0
            self._save(self._epoch, self._batches, logs or {})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._save_freq == "epoch":
            self._save(epoch + 1, 0, logs or {})

    def _save(self, epoch: int, batch: int, logs: dict[str, Any]) -> None:
        value = _number(logs.get(self._monitor))
        if self._best_only and not self._is_better(value):
            return
        path = self._path(epoch if batch == 0 else epoch + 1, batch, logs)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._weights_only:
            from interop.weights import save_weights

            save_weights(self.model, path, include_optimizer=self._with_state)
        else:
            from interop.saving import save_model

            save_model(self.model, path, include_optimizer=self._with_state)
        name = os.path.relpath(path, self._record_path.parent)
        kept = [old for old in self._record.kept if old != name] + [name]
        surplus = kept[: -self._max_to_keep] if self._max_to_keep is not None else []
        best = value if self._best_only else self._record.best
        record = Record(epoch, batch, best, name, tuple(kept[len(surplus) :]))
        _write_record(self._record_path, record)
        self._record = record
        for old in surplus:
            _remove(self._record_path.parent / old)
        if self._verbose:
            print(
                f"epoch {epoch}: saved {path}"
                + (f", {self._monitor} = {value:.5g}" if value is not None else "")
            )

    def _is_better(self, value: float | None) -> bool:
        if value is None:
            warnings.warn(
                f"ModelCheckpoint(save_best_only=True) saves nothing: {self._monitor!r} is not in the logs",
                stacklevel=2,
            )
            return False
        before = self._record.best if self._record.best is not None else self._threshold
        return not math.isnan(value) and (before is None or self._sign * value < self._sign * before)

    def _path(self, epoch: int, batch: int, logs: dict[str, Any]) -> Path:
        numbers = {name: _number(value) for name, value in logs.items()}
        try:
            return Path(self._template.format(**{**numbers, "epoch": epoch, "batch": batch}))
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise InteropError(
                f"path {self._template!r} cannot be filled in: {error}. The logs have {', '.join(logs) or 'nothing'}"
            ) from error


def _sign(monitor: str, mode: str) -> float:
    """1 if less is better, -1 if more is."""
    if mode != "auto":
        return 1.0 if mode == "min" else -1.0
    falls, rises = _FALLING.search(monitor), _RISING.search(monitor)
    if bool(falls) == bool(rises):
        raise InteropError(
            f"whether less or more of {monitor!r} is better is not clear: give mode='min' or 'max'"
        )
    return 1.0 if falls else -1.0


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _record_path(template: Path) -> Path:
    """The record lies in the folder that the files are in, or in the first that has no braces."""
    parent = template.parent
    while "{" in str(parent):
        parent = parent.parent
    name = re.sub(r"[^\w.-]+", "_", str(template.relative_to(parent)))
    return parent / f"{name}.record.json"


def _read_record(path: Path) -> Record:
    if not path.exists():
        return Record()
    try:
        values = json.loads(path.read_text("utf-8"))
        record = Record(**{**values, "kept": tuple(values["kept"])})
        counts, names = (record.epoch, record.batch), (record.path, *record.kept)
        if not all(type(count) is int and count >= 0 for count in counts):
            raise TypeError("epoch or batch is no count")
        if not all(isinstance(name, str) for name in names if name is not None or record.path is not None):
            raise TypeError("path or kept is no name")
        if not isinstance(record.best, float | int | None):
            raise TypeError("best is no number")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FormatError(f"{path} is no record of a training: {error}") from error
    return record


def _write_record(path: Path, record: Record) -> None:
    from interop.artifact.checkpoints import write_file

    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, (json.dumps(asdict(record), indent=1) + "\n").encode())


def _remove(path: Path) -> None:
    """Remove what this callback wrote: a file, a checkpoint, or a folder with the files of an artifact."""
    from interop.artifact.files import NAMES
    from interop.formats.tensorbundle.files import files_of

    if path.is_dir():
        for name in NAMES:
            (path / name).unlink(missing_ok=True)
        path.rmdir()
    elif path.exists():
        path.unlink()
    elif path.parent.is_dir():
        for file in files_of(path):
            file.unlink()
