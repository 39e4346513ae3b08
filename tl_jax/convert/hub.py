"""Models of the Hugging Face Hub: their files in the local cache, held at one commit."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors

from tl_jax.convert import hf_directory, model_files
from tl_jax.convert.hf_directory import ModelError

PIN = "hub_model.json"
"""File in a run directory with the id, revision and commit of the run's initial model."""

_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DEFAULT_REVISION = "main"
_CONFIG = "config.json"
# Weights and tokenizers that hold data only: no pickles, no Python.
_FILES = ("*.safetensors", "*.json", "*.jinja", "merges.txt", "tokenizer.model")
# Other forms of the same weights, and exports to other frameworks in folders: all folders but that
# of the named chat templates, which the patterns can say only letter by letter.
_NAMED = model_files.NAMED_TEMPLATES
_NOT = (
    "consolidated*",
    *(f"{_NAMED[:size]}[!{_NAMED[size]}]*/*" for size in range(len(_NAMED))),
    *(f"{_NAMED[:size]}/*" for size in range(1, len(_NAMED))),
    *(f"{_NAMED}{rest}" for rest in ("?*/*", "/*.json", "/*.safetensors")),
)


@dataclasses.dataclass(frozen=True)
class HubModel:
    """A model of the Hub at one commit.

    Attributes:
      id: ``organisation/name``.
      revision: Branch, tag or commit that was asked for.
      commit: The 40 hexadecimal digits it stood for.
      directory: Where its files lie on this machine.
    """

    id: str
    revision: str
    commit: str
    directory: Path


def is_id(text: str) -> bool:
    """Whether ``text`` reads ``organisation/name`` or ``organisation/name@revision``.

    A path that exists on this machine is no id.
    """
    return _ID.fullmatch(text) is not None and not Path(text).exists()


def fetch(text: str, files: tuple[str, ...] = _FILES) -> HubModel:
    """Bring a model's files into the local cache, or find them there.

    Only safetensors, JSON and tokenizer files are fetched, none that could run code.

    Args:
      text: An id; without a revision, ``main`` is meant.
      files: Patterns of the files wanted.

    Raises:
      ModelError: There is no such model or revision, its terms are not accepted, it is in another
        form, or it is not in the cache and the Hub cannot be reached; the message says what to do.
    """
    name, revision = _parse(text)
    directory = _snapshot(name, revision, files)
    if not _COMMIT.fullmatch(directory.name):
        raise ModelError(f"{text}: {directory} does not tell the commit of its files")
    if not (directory / _CONFIG).is_file():
        instead = model_files.held_instead(directory) or (
            "if it is a GGUF file, download that and give its path; if it holds adapters, give "
            "their model and the directory of the adapters as config.model.adapter"
        )
        raise ModelError(f"{text}: the Hub has no {_CONFIG} of it; {instead}")
    return HubModel(name, revision, directory.name, directory)


def pin(text: str, run_dir: str | Path) -> HubModel:
    """Return the model at the commit that the run uses; the first call decides it.

    The commit is written to ``hub_model.json`` in the run directory, so that later stages and
    other hosts work on the same files, also when the branch has moved or the Hub is out of reach.

    Raises:
      ModelError: As for ``fetch``.
    """
    known = pinned(text, run_dir)
    if known is not None:
        return known
    model = fetch(text)
    record = {"id": model.id, "revision": model.revision, "commit": model.commit}
    Path(run_dir).mkdir(parents=True, exist_ok=True)
    draft = Path(run_dir) / f"{PIN}.tmp"
    hf_directory.write_json(draft, record)
    draft.replace(Path(run_dir) / PIN)
    return model


def pinned(text: str, run_dir: str | Path) -> HubModel | None:
    """Return the model at the commit in the run directory, or None if the run has none of it.

    Raises:
      ModelError: As for ``fetch``, or the record is damaged.
    """
    file = Path(run_dir) / PIN
    if not file.is_file():
        return None
    record = hf_directory.read_json(file)
    name, revision = _parse(text)
    if (record.get("id"), record.get("revision")) != (name, revision):
        return None
    commit = str(record.get("commit"))
    if not _COMMIT.fullmatch(commit):
        raise ModelError(f"{file}: commit must be 40 hexadecimal digits, got {commit!r}")
    return HubModel(name, revision, commit, _at_commit(name, commit))


@functools.lru_cache(maxsize=8)
def _at_commit(name: str, commit: str) -> Path:
    """Look a commit up once in a process; its files never change."""
    return _snapshot(name, commit, _FILES)


def _parse(text: str) -> tuple[str, str]:
    match = _ID.fullmatch(text)
    if match is None:
        raise ModelError(f"{text}: must read organisation/name or organisation/name@revision")
    return match[1], match[2] or _DEFAULT_REVISION


def _snapshot(name: str, revision: str, files: tuple[str, ...]) -> Path:
    nowhere = f"{name}: no such directory here, and"
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=list(files), ignore_patterns=list(_NOT)
            )
        )
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{name}: its authors ask to accept their terms first; do so at "
            f"https://huggingface.co/{name} and log in with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"{nowhere} no such model on the Hugging Face Hub; correct the name, or log in with "
            "`hf auth login` if it is private"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"{name}: has no revision {revision!r}; see https://huggingface.co/{name}"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, ConnectionError) as error:
        raise ModelError(
            f"{nowhere} the Hugging Face Hub cannot be reached for a model that is not whole in "
            f"the cache ({error}); go online, or give a local directory"
        ) from error
