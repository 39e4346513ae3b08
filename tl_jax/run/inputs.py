"""What a run is trained from: digests of its initial model, tokenizer, chat template and data.

They are written down when training begins. What has changed by a later command is refused by name,
or, where the user insists, accepted and written down, too. Reward training is held to the model
that it starts from and to the files with its reward and its tools, once it has begun; not to what
these files import.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl_jax.config.user_file import digest
from tl_jax.convert import hf_directory, model_files, peft
from tl_jax.data.examples.shards import INDEX
from tl_jax.data.prepare.dataset import settings_hash
from tl_jax.data.prepare.files import (
    EXAMPLES,
    FINGERPRINT,
    PROMPTS,
    REPORT,
    VALIDATION,
    VALIDATION_PROMPTS,
)
from tl_jax.data.prepare.sources import are_others, identities, open_sources
from tl_jax.data.prepare.verify import find_damage
from tl_jax.errors import ConfigError, TlJaxError
from tl_jax.parallel import processes
from tl_jax.report.read import read_json
from tl_jax.run.directory import PHASES, Run
from tl_jax.run.record import read_own, replace_text

logger = logging.getLogger(__name__)

FILE = "inputs.json"
_MEND = "it says what the run is trained from: put it back, or go on with `tl-jax train --force`"
_TRAINED_ON = (f"{EXAMPLES}/{INDEX}", f"{VALIDATION}/{INDEX}", PROMPTS, VALIDATION_PROMPTS)


def settle(run: Run) -> None:
    """Hold all that training reads against what its first step read, or write that down.

    All processes of the run call it; the first one reads.

    Raises:
      ConfigError: The data were prepared with another tokenizer or chat template or are damaged;
        or something has changed since training began and ``run.force`` is not set.
    """
    _by_first(lambda: _settle(run))


def check(run: Run) -> None:
    """Hold what a trained run reads of its initial model against what it was trained from.

    All processes of the run call it; the first one reads. Runs that have no record pass. With
    ``run.force`` all passes; the next training writes it down.

    Raises:
      ConfigError: Something has changed.
    """
    _by_first(lambda: _check(run))


def _by_first(do: Any) -> None:
    problem = ""
    if processes.is_first():
        try:
            do()
        except TlJaxError as error:
            problem = str(error)
    if problem := processes.join_parts([problem])[0]:
        raise ConfigError(problem)


def _settle(run: Run) -> None:
    if problem := find_damage(run.data_dir, remembering=True):
        raise ConfigError(f"{problem}; run `tl-jax prepare` again")
    trained = _is_trained(run)
    record, damaged = _read(run) if trained else (read_json(run.run_dir / FILE), [])
    if trained and not record and not damaged:
        logger.warning("%s: no %s of its training; it is written now", run.run_dir, FILE)
    if not trained:
        check_prepared(run)
    known = record if trained else {}
    data = {name: run.data_dir / name for name in _TRAINED_ON}
    files = _weights(run) | {name: file for name, file in data.items() if file.exists()}
    before = known.get("reward", {}) if run.saved_step("reward") is not None else {}
    now = _of_reward(run)
    found = {"files": _digests(files, record), "texts": _texts(run), "reward": {**before, **now}}
    changed = damaged + _changed(known, found)
    changed += [name for name in now if before.get(name, now[name]) != now[name]]
    if changed and not run.force:
        raise ConfigError(_refusal(run, changed))
    if changed:
        words = ", ".join(changed)
        logger.warning("%s: changed since training began, and accepted: %s", run.run_dir, words)
        at = time.strftime("%Y-%m-%d %H:%M:%S %z")
        steps = {phase: run.saved_step(phase) for phase in PHASES[1:]}
        found["changes"] = [*known.get("changes", ()), {"at": at, "steps": steps, "what": changed}]
    elif known.get("changes"):
        found["changes"] = known["changes"]
    if found != record:
        replace_text(run.run_dir / FILE, json.dumps(found, indent=1) + "\n")


def _check(run: Run) -> None:
    if run.force or not _is_trained(run):
        return
    record, _ = _read(run)
    if not record:
        return
    # Without adapters the initial weights are in no model but themselves any more.
    files = _weights(run) if run.config.lora.rank else {}
    if changed := _changed(record, {"files": _digests(files, record), "texts": _texts(run)}):
        raise ConfigError(_refusal(run, changed))


def _read(run: Run) -> tuple[dict[str, Any], list[str]]:
    """Return the record, and its name if it is damaged and that is accepted."""
    path = run.run_dir / FILE
    try:
        found = read_own(path, _MEND)
        if found is None:
            return {}, []
        if isinstance(found, dict) and isinstance(found.get("files"), dict):
            return found, []
        raise ConfigError(f"{path} is damaged; {_MEND}")
    except ConfigError:
        if not run.force:
            raise
        return {}, [FILE]


def _is_trained(run: Run) -> bool:
    return any(run.saved_step(phase) is not None for phase in PHASES[1:])


def check_prepared(run: Run) -> None:
    """Refuse data that were prepared with other settings, tokenizer or template than those now.

    Raises:
      ConfigError: The message says which.
    """
    prepared, config = read_json(run.data_dir / FINGERPRINT), run.config
    data = dataclasses.replace(config.data, template=run.renderer.template)
    settings = settings_hash(data, config.mae, config.key_tokens, config.seed)
    names = read_json(run.data_dir / REPORT).get("sources", {})
    entries = prepared.get("sources", [])
    others = ""
    if prepared.get("config", settings) != settings:
        others = "settings (of config.data, config.mae, config.key_tokens or config.seed)"
    elif len(names) == len(entries) > 0:
        made_of = dict(zip(names, entries, strict=True))
        # The same rows under another name are no others.
        if are_others(data, config.seed, made_of):
            now = identities(open_sources(config.data, config.seed))
            others = "sources" if now != entries else ""
    if others:
        raise ConfigError(
            f"{run.data_dir} was prepared with other {others} than there are now; leave them as "
            "they were, or run `tl-jax prepare` again"
        )
    now = _texts(run)
    for name, words in (("tokenizer", "tokenizer"), ("template", "chat template")):
        if name in prepared and prepared[name] != now.get(words):
            raise ConfigError(
                f"{run.data_dir} was prepared with another {words} than {run.model_dir} has now; "
                "put that back, or run `tl-jax prepare` again"
            )


def _texts(run: Run) -> dict[str, str]:
    chat = run.renderer.chat
    template = {} if chat is None else {"chat template": chat.fingerprint}
    stops = " ".join(map(str, run.renderer.stop_ids))
    return {"tokenizer": run.tokenizer.fingerprint, "stop tokens": stops, **template}


def _of_reward(run: Run) -> dict[str, str]:
    """Return the model that reward training starts from, and digests of the files that it runs."""
    config = run.config
    files = {
        "config.reward.path": config.reward.path.rpartition(":")[0],
        "config.environment.path": config.environment.path,
    }
    # Whether they are there is checked where they are opened.
    found = {name: digest(file) for name, file in files.items() if Path(file).is_file()}
    phase = "supervised" if run.phase_done("supervised") else "before"
    return {"the model it starts from": f"{phase} step {run.model_step(phase)}", **found}


def _weights(run: Run) -> dict[str, Path]:
    """Return the files of the initial model by name."""
    found = [run.model_dir / "config.json", *hf_directory.weight_files(run.model_dir)]
    files = {file.name: file for file in found}
    if run.config.model.adapter:
        files |= {name: Path(run.config.model.adapter) / name for name in peft.FILES}
    return files


def _digests(files: Mapping[str, Path], record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return size, time and digest of files; those of known size and time are not read again."""
    known = record.get("files", {})
    found: dict[str, dict[str, Any]] = {}
    for name, file in files.items():
        if not file.is_file():
            raise ConfigError(f"{file} is gone; put it back: the run was trained from it")
        stat = file.stat()
        found[name] = {"bytes": stat.st_size, "time_ns": stat.st_mtime_ns}
    fresh = [name for name, entry in found.items() if not _is_same(entry, known.get(name))]
    digests = model_files.digests(files[name] for name in fresh)
    read = dict(zip(fresh, digests, strict=True))
    for name, entry in found.items():
        entry["sha256"] = read[name] if name in read else known[name]["sha256"]
    return found


def _is_same(entry: Mapping[str, Any], known: Any) -> bool:
    return isinstance(known, dict) and "sha256" in known and {**known, **entry} == known


def _changed(record: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    if not record:
        return []
    files, texts = record.get("files", {}), record.get("texts", {})
    names = [
        name
        for name, entry in found["files"].items()
        if (files.get(name) or {}).get("sha256") != entry["sha256"]
    ]
    keys = texts.keys() | found["texts"].keys()
    return names + sorted(key for key in keys if texts.get(key) != found["texts"].get(key))


def _refusal(run: Run, changed: list[str]) -> str:
    return (
        f"{run.run_dir}: since its training began has changed: {', '.join(changed)}. Put back what "
        "it was trained from, or go on with `tl-jax train --force`, which writes the change into "
        f"{FILE}"
    )
