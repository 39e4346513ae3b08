"""Save and restore training state with Orbax, and notice damaged checkpoints.

Orbax does not detect flipped bits in array files, so every committed step directory gets a
manifest of SHA-256 digests, written last. A step that contradicts its manifest is moved to
``damaged/`` and the newest good step is used instead.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import logging
import os
from typing import Any

import jax
import numpy as np
from etils import epath
from orbax.checkpoint import v1 as ocp

from tl_jax.errors import CheckpointError, LoaderMismatch
from tl_jax.parallel import processes

logger = logging.getLogger(__name__)

MANIFEST = "digests.json"
_COMMIT = "commit_success.txt"
_FACTS = "_CHECKPOINT_METADATA"
_STATE = "state"
_DATA = "data"


class Checkpoints:
    """Own the checkpoint directory of one training phase.

    Args:
      directory: Holds one subdirectory per step; made if absent. Step directories that were
        never committed, or whose facts cannot be read, are moved to ``damaged/`` at once.
      every_steps: Save at multiples of this number of steps.
      keep: Newest steps to keep; at least 2 leave something to fall back to.
    """

    def __init__(self, directory: str | os.PathLike[str], every_steps: int, keep: int):
        self.directory = epath.Path(os.fspath(directory)).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        for step in _steps(self.directory) if processes.is_first() else ():
            if not (self.directory / str(step) / _COMMIT).exists():
                self._set_aside(step, "was never committed")
            elif problem := _unreadable(self.directory / str(step)):
                self._set_aside(step, problem)  # which all steps would not be read for
        # All processes are to list the same steps: one that took a step for saved, because it
        # looked before that was moved away, would wait for the others at its next save.
        processes.wait_for_all(f"steps of {self.directory.name}")
        interval = ocp.training.save_decision_policies.FixedIntervalPolicy(every_steps)
        newest = ocp.training.preservation_policies.LatestN(keep)
        self._checkpointer = ocp.training.Checkpointer(
            self.directory,
            # Orbax's own policies declare less than its own protocol asks of them.
            save_decision_policy=interval,  # pyright: ignore[reportArgumentType]
            preservation_policy=newest,  # pyright: ignore[reportArgumentType]
            cleanup_tmp_directories=True,
        )
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint-digests")
        self._sealing: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def due(self, step: int) -> bool:
        """Whether ``save`` would save this step without being forced to."""
        return self._checkpointer.should_save(step)

    def save(
        self, step: int, state: Any, loader: Any, metadata: dict[str, Any], *, force: bool = False
    ) -> bool:
        """Save in the background if ``step`` is due.

        Args:
          step: Steps done.
          state: Pytree of arrays. It is copied off the devices before this returns, so it may be
            donated.
          loader: Iterator with a position to save (Grain), or None.
          metadata: JSON-ready facts about the run.
          force: Save although ``step`` is no multiple of ``every_steps``.

        Returns:
          Whether a save began; False also if ``step`` is already saved.

        Raises:
          Exception: What went wrong in the save before this one.
        """
        if any(saved.step == step for saved in self._checkpointer.checkpoints):
            return False
        if not force and not self.due(step):
            return False
        self.wait()
        items = {_STATE: state} if loader is None else {_STATE: state, _DATA: loader}
        response = self._checkpointer.save_checkpointables_async(
            step, items, force=True, custom_metadata=metadata
        )
        self._sealing = self._thread.submit(_seal, response, self.directory / str(step))
        return True

    def latest(self) -> int | None:
        """Return the newest committed step, or None."""
        return max(_committed(self.directory), default=None)

    def facts(self, step: int) -> dict[str, Any]:
        """Return the metadata that a committed step was saved with; empty if there is none."""
        if step not in _committed(self.directory):
            return {}
        metadata: Any = self._checkpointer.metadata(step).custom_metadata
        return dict(metadata or {})

    def restore(self, abstract_state: Any, loader: Any = None) -> tuple[Any, dict[str, Any]]:
        """Load the newest good step.

        Args:
          abstract_state: Pytree of ``jax.ShapeDtypeStruct`` with shardings; the mesh may differ
            from the one that saved.
          loader: Iterator whose position is set, or None.

        Returns:
          The state and the metadata of the save.

        Raises:
          CheckpointError: Nothing usable in the directory, a target without sharding, or a
            checkpoint of other shapes.
          LoaderMismatch: The loader reads another file or other settings than the saved one.
        """
        _require_shardings(abstract_state)
        self.wait()
        aside = []
        for step in reversed(_committed(self.directory)):
            path = self.directory / str(step)
            problem = find_damage(path) if jax.process_index() == 0 else None
            if processes.agree(problem is None):
                sealed = (path / MANIFEST).exists()
                if not sealed:
                    logger.warning("%s has no %s; it is loaded unverified", path, MANIFEST)
                try:
                    return self._load(step, abstract_state, loader)
                except (CheckpointError, LoaderMismatch):
                    raise
                except Exception as error:
                    # With digests that match, the fault is not in the files.
                    if sealed or jax.process_count() > 1:
                        raise
                    problem = f"cannot be read ({error!r})"
            aside.append(step)
            self._set_aside(step, problem or "is damaged")
            processes.wait_for_all(f"without step {step}")
            self._checkpointer.reload()
        moved = f" (steps {aside} were damaged and moved aside)" if aside else ""
        raise CheckpointError(
            f"no usable checkpoint in {self.directory}{moved}; "
            "run the phase again to start it from its beginning"
        )

    def wait(self) -> None:
        """Wait for the save under way, and raise what went wrong in it."""
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.result()

    def close(self) -> None:
        """Finish the save under way and release the directory."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._checkpointer.close()

    def _load(self, step: int, abstract_state: Any, loader: Any) -> tuple[Any, dict[str, Any]]:
        path = self.directory / str(step)
        _require_shapes(path, _shapes(abstract_state), dtypes=True)
        if loader is not None:
            if not (path / _DATA).exists():
                raise CheckpointError(f"{path} holds no data position; restore it without a loader")
            try:
                self._checkpointer.load_checkpointables(step, {_DATA: loader})
            except Exception as error:
                # Orbax hides the iterator's own refusal behind a generic message.
                if type(error.__cause__) is ValueError:
                    raise LoaderMismatch(str(error.__cause__)) from error
                raise
        restored = self._checkpointer.load_checkpointables(step, {_STATE: abstract_state})
        logger.info("restored %s", path)
        return restored[_STATE], self.facts(step)

    def _set_aside(self, step: int, problem: str) -> None:
        if jax.process_index() == 0:
            _shelve(self.directory / str(step), "damaged")
            logger.error("CHECKPOINT DAMAGED: %s %s", self.directory / str(step), problem)


def set_aside_from(directory: str | os.PathLike[str], step: int) -> int:
    """Move the steps from ``step`` on into ``rolled_back/``, while nobody has the directory open.

    Returns:
      The newest step that is left, or 0.
    """
    root = epath.Path(os.fspath(directory)).resolve()
    kept = [found for found in _committed(root) if found < step]
    for found in _steps(root):
        if found >= step:
            _shelve(root / str(found), "rolled_back")
    return max(kept, default=0)


def _shelve(step_dir: epath.Path, name: str) -> None:
    shelf = step_dir.parent / name
    shelf.mkdir(exist_ok=True)
    number = 0
    while (target := shelf / f"{step_dir.name}.{number}").exists():
        number += 1
    step_dir.rename(target)
    logger.warning("moved %s to %s", step_dir, target)


def latest_step_dir(directory: str | os.PathLike[str]) -> epath.Path | None:
    """Return the directory of the newest committed step under ``directory``, or None."""
    root = epath.Path(os.fspath(directory)).resolve()
    step = max(_committed(root), default=None)
    return None if step is None else root / str(step)


def restore_params(step_dir: str | os.PathLike[str], abstract_params: Any) -> Any:
    """Load only the parameters of a saved training state.

    Args:
      step_dir: A step directory of ``Checkpoints``.
      abstract_params: Nested dict of ``jax.ShapeDtypeStruct`` with shardings; may leave out
        saved parameters and may ask for another floating-point type.

    Raises:
      CheckpointError: The step is damaged, incomplete, or of other shapes.
    """
    path = epath.Path(os.fspath(step_dir)).resolve()
    _require_shardings(abstract_params)
    problem = find_damage(path)
    if problem:
        # A model is never replaced by an older one without the user's doing.
        raise CheckpointError(
            f"{path} {problem}; move {path.name} out of {path.parent} and run `tl-jax train` "
            "again: it goes on from the newest step left there, or without one from the beginning"
        )
    target = {"params": abstract_params}
    _require_shapes(path, _shapes(target), dtypes=False)
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    with context:
        return ocp.load_checkpointables(path, {_STATE: target})[_STATE]["params"]


def find_damage(step_dir: epath.Path) -> str | None:
    """Compare a step directory with its manifest.

    Returns:
      What is wrong, as the end of a sentence that begins with the path; None if nothing is. A
      committed step without manifest (the process ended between commit and digests) passes if
      its parts are there.
    """
    for name in (_COMMIT, f"{_STATE}/{_COMMIT}"):
        if not (step_dir / name).exists():
            return f"lacks {name}"
    if not (step_dir / MANIFEST).exists():
        return None
    try:
        files = json.loads((step_dir / MANIFEST).read_text())["files"]
        for name, entry in files.items():
            path = step_dir / name
            if not path.exists():
                return f"lacks {name}"
            size = path.stat().length
            if size != entry["bytes"]:
                return f"has {size} bytes in {name} instead of {entry['bytes']}"
            if _sha256(path) != entry["sha256"]:
                return f"has changed content in {name}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"has an unreadable {MANIFEST} ({error!r})"
    return None


def _unreadable(step_dir: epath.Path) -> str:
    """Return what Orbax could not read of a step when it lists the steps, or nothing."""
    facts, manifest = step_dir / _FACTS, step_dir / MANIFEST
    problem = f"has an unreadable {_FACTS}"
    try:
        if not facts.exists():
            return ""
        if not isinstance(json.loads(facts.read_text()), dict):
            return problem
        sealed = json.loads(manifest.read_text())["files"] if manifest.exists() else {}
        known = sealed.get(_FACTS, {}).get("sha256")
        return "" if known in (None, _sha256(facts)) else f"has changed content in {_FACTS}"
    except (OSError, ValueError) as error:
        return f"{problem} ({error})"
    except (KeyError, TypeError, AttributeError):
        return ""  # of the manifest, as is found out when the step is read


def _seal(response: Any, step_dir: epath.Path) -> None:
    response.result()
    if jax.process_index() == 0:
        files = {
            name: {"bytes": (step_dir / name).stat().length, "sha256": _sha256(step_dir / name)}
            for name in _files(step_dir)
        }
        draft = step_dir / f"{MANIFEST}.tmp"
        draft.write_text(json.dumps({"files": files}, indent=1))
        draft.replace(step_dir / MANIFEST)


def _files(directory: epath.Path, prefix: str = "") -> list[str]:
    names: list[str] = []
    for entry in sorted(directory.iterdir(), key=lambda path: path.name):
        name = f"{prefix}{entry.name}"
        names += _files(entry, f"{name}/") if entry.is_dir() else [name]
    return names


def _sha256(path: epath.Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _steps(directory: epath.Path) -> list[int]:
    """Return the steps that have a directory, ascending; other names are not ours."""
    if not directory.exists():
        return []
    names = [entry.name for entry in directory.iterdir() if entry.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)


def _committed(directory: epath.Path) -> list[int]:
    return [step for step in _steps(directory) if (directory / str(step) / _COMMIT).exists()]


def _require_shardings(abstract: Any) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(abstract)[0]:
        if getattr(leaf, "sharding", None) is None:
            raise CheckpointError(
                f"restore target {jax.tree_util.keystr(path)} has no sharding; "
                "pass jax.ShapeDtypeStruct(shape, dtype, sharding=...)"
            )


def _shapes(tree: Any) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (tuple(x.shape), np.dtype(x.dtype))
        for path, x in leaves
        if hasattr(x, "shape")
    }


def _require_shapes(
    step_dir: epath.Path, wanted: dict[str, tuple[tuple[int, ...], np.dtype]], *, dtypes: bool
) -> None:
    saved = _shapes(ocp.metadata(step_dir).metadata)
    if not saved:
        raise RuntimeError(f"{step_dir} lists no arrays")
    for name, (shape, dtype) in wanted.items():
        if name not in saved:
            raise CheckpointError(f"{step_dir} does not hold {name}; is it of another model?")
        if saved[name][0] != shape or (dtypes and saved[name][1] != dtype):
            raise CheckpointError(
                f"{step_dir} holds {name} as {saved[name][1]}{list(saved[name][0])}, but this run "
                f"needs {dtype}{list(shape)}; start in a new run directory or restore the setting"
            )
