"""A Hugging Face model directory on disk: safetensors read lazily and written file by file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from tl_jax.convert import model_files, safetensors_file
from tl_jax.convert.model_files import CHECKSUMS, NAMED_TEMPLATES
from tl_jax.convert.safetensors_file import DTYPES, Writable
from tl_jax.errors import ModelError

SHARD_BYTES = 2 * 1024**3
"""Default size limit of one safetensors file."""

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PLAIN_TYPES = ("F64", "F32", "F16", "BF16")
# Beside tokenizer.json it would be read in its place where mistral-common is installed.
_TEKKEN = "tekken.json"
# Classes that take tokenizer.json as it is; transformers 4 knows the first only.
_READ_THE_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    *_TEMPLATE_FILES,
)


def dtype_of(name: str) -> np.dtype:
    """Return the numpy type called ``name``.

    Raises:
      ModelError: Not one of ``DTYPES``.
    """
    if name not in DTYPES:
        raise ModelError(f"dtype must be one of {', '.join(DTYPES)}, got {name!r}")
    return DTYPES[name]


class TensorFiles:
    """The safetensors files of a model directory, opened lazily; use as a context manager.

    Attributes:
      files: Tensor name to the path of the file that holds it.
    """

    def __init__(self, directory: str | Path) -> None:
        """Read the files' headers; no tensor is read.

        Raises:
          ModelError: No safetensors files, a damaged one, one that the index names is absent, or
            two that hold the same tensor.
        """
        self.files: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, str] = {}
        self._handles: dict[Path, Any] = {}
        for file in weight_files(Path(directory)):
            try:
                with safe_open(file, framework="numpy") as handle:
                    for name in handle.keys():
                        if name in self.files:
                            raise ModelError(
                                f"{file}: {name} is in {self.files[name].name}, too; take the "
                                "file away that is not meant"
                            )
                        self.files[name] = file
                        part = handle.get_slice(name)
                        self._shapes[name] = tuple(part.get_shape())
                        self._types[name] = part.get_dtype()
            except (SafetensorError, OSError) as error:
                raise ModelError(f"{file}: cannot be read as safetensors: {error}") from error

    def __enter__(self) -> TensorFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor from its header."""
        return self._shapes[name]

    def check_type(self, name: str) -> None:
        """Refuse a tensor whose values are no plain numbers, but those of a quantised model.

        Raises:
          ModelError: The message names the file, the tensor and its type.
        """
        if self._types[name] not in _PLAIN_TYPES:
            raise ModelError(
                f"{self.files[name]}: {name} is of type {self._types[name]}, in which only a "
                f"quantised model is kept; take the weights from before that, as "
                f"{', '.join(_PLAIN_TYPES)}"
            )

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Read only the part ``index`` of a tensor (as stored: no transpose, no cast)."""
        file = self.files[name]
        if file not in self._handles:
            self._handles[file] = safe_open(file, framework="numpy").__enter__()
        return self._handles[file].get_slice(name)[index]

    def release(self) -> None:
        """Close the files until they are read again.

        They are mapped into memory: what was read of an open file counts as memory of the process.
        """
        while self._handles:
            self._handles.popitem()[1].__exit__(None, None, None)


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files of a model directory.

    Raises:
      ModelError: There are none, the index names one that is absent or elsewhere, or a file is a
        link out of the directory.
    """
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such directory")
    model_files.check_own(directory)
    index, whole = directory / _INDEX, directory / _WEIGHTS
    files = [directory / name for name in _indexed(index)] if index.is_file() else [whole]
    if whole.is_file() and files != [whole]:
        # transformers reads the whole file, others the parts: one of them is not meant.
        raise ModelError(
            f"{directory}: holds {_WEIGHTS} and {_INDEX}, which names other files; take away "
            "those that are not the model"
        )
    missing = [file for file in files if not file.is_file()]
    if files and not missing:
        return files
    if index.is_file():
        absent = ", ".join(file.name for file in missing) or "nothing"
        raise ModelError(f"{index}: names {absent}, not found beside it; fetch it again")
    # Of a model on the Hub only the index of such files is fetched.
    kinds = (".bin", ".pt", ".pth", ".bin.index.json")
    pickled = sorted(p.name for p in directory.iterdir() if p.name.endswith(kinds))
    if pickled:
        raise ModelError(
            f"{directory}: holds {pickled[0]} but no safetensors; pickled weights can run code and "
            "are not read. Convert them where torch is installed: "
            "`AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)`"
        )
    if other := sorted(directory.glob("*.safetensors")):
        raise ModelError(
            f"{directory}: holds {other[0].name}, but neither {_WEIGHTS} nor {_INDEX}, which says "
            "what is in which file; fetch that, too, or give a single file this name"
        )
    raise ModelError(
        f"{directory}: holds neither {_WEIGHTS} nor {_INDEX}; a model of the Hub that has pickled "
        "weights only must be converted first, as they are never fetched"
    )


def write_tensors(
    directory: Path | None,
    tensors: Mapping[str, Writable],
    *,
    dtype: str,
    max_shard_bytes: int = SHARD_BYTES,
    on_tensor: Callable[[int, int], None] | None = None,
) -> None:
    """Write tensors as safetensors files of at most ``max_shard_bytes``, one in memory at a time.

    A tensor larger than the limit gets a file of its own. More than one file come with the index
    that ``transformers`` reads. Every file is read back and compared with what was meant; the
    digests are left in ``SHA256SUMS``.

    Args:
      directory: Where to write; None only reads, for a process that takes part but does not write.
      tensors: What to write, by name.
      dtype: Type of the tensors, one of ``DTYPES``.
      max_shard_bytes: Size limit of one file.
      on_tensor: Told how many tensors are written, and of how many.

    Raises:
      ModelError: An unknown ``dtype``, or a file does not hold what was written to it.
    """
    dtype_of(dtype)
    if directory is None:
        for tensor in tensors.values():
            tensor.read()
        return
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if on_tensor is not None:
            on_tensor(done, len(tensors))

    sizes = {name: safetensors_file.size_of(tensor, dtype) for name, tensor in tensors.items()}
    shards = _shards(sizes, max_shard_bytes)
    files: dict[str, str] = {}
    digests: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        file = _WEIGHTS if len(shards) == 1 else file
        part = {name: tensors[name] for name in names}
        digests[file] = safetensors_file.write(directory / file, part, dtype=dtype, on_tensor=count)
        if safetensors_file.sha256(directory / file) != digests[file]:
            raise ModelError(
                f"{directory / file}: reads back other bytes than were written; check the disk"
            )
        files |= dict.fromkeys(names, file)
    if len(shards) > 1:
        metadata = {"total_size": sum(sizes.values())}
        write_json(directory / _INDEX, {"metadata": metadata, "weight_map": files})
    lines = [f"{digest}  {file}\n" for file, digest in digests.items()]
    (directory / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def copy_tokenizer(
    source: str | Path,
    target: Path,
    *,
    chat_template: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Copy the tokenizer files that ``source`` has.

    The copy names a class that takes ``tokenizer.json`` as it is: those of some families write its
    steps anew, so that other ids come out than the model is trained on.

    Args:
      source: Directory to copy from.
      target: Directory to copy to.
      chat_template: Takes the place of the chat template of ``source``, wherever that stands;
        empty leaves it out, with all that have a name, None keeps it.
      settings: Of ``tokenizer_config.json``, in place of those of ``source``; None takes one out.

    Raises:
      ModelError: A file is a link out of ``source``.
    """
    model_files.check_own(source)
    for name in _TOKENIZER_FILES:
        file = Path(source) / name
        if file.is_file() and (chat_template is None or name not in _TEMPLATE_FILES):
            shutil.copyfile(file, target / name)
    tekken = Path(source) / _TEKKEN
    if tekken.is_file() and not (Path(source) / _TOKENIZER_FILES[0]).is_file():
        shutil.copyfile(tekken, target / _TEKKEN)
    for file in (Path(source) / NAMED_TEMPLATES).glob("*.jinja"):
        # That for tools would be taken in place of the trained one; others need one beside them.
        if chat_template is None or (chat_template and file.stem != "tool_use"):
            (target / NAMED_TEMPLATES).mkdir(exist_ok=True)
            shutil.copyfile(file, target / NAMED_TEMPLATES / file.name)
    settings_file = target / "tokenizer_config.json"
    try:
        before = read_json(settings_file) if settings_file.is_file() else {}
    except ModelError:
        before = {}  # copied as it is: no tokenizer is read from it here
    given = settings or {}
    kept = {name: value for name, value in before.items() if name not in given}
    wanted = kept | {name: value for name, value in given.items() if value is not None}
    if chat_template is not None:
        wanted.pop("chat_template", None)
    if before and (target / "tokenizer.json").is_file():
        if before.get("tokenizer_class") not in _READ_THE_FILE:
            wanted["tokenizer_class"] = _READ_THE_FILE[0]
    if wanted != before:
        write_json(settings_file, wanted)
    if chat_template:
        (target / _TEMPLATE_FILES[0]).write_text(chat_template, encoding="utf-8")


def generation_stops(directory: str | Path) -> tuple[int, ...]:
    """Return the ids that end generation by the settings of a model directory.

    They stand in ``generation_config.json``; without that file, in ``config.json``, as engines and
    ``transformers`` have it.

    Raises:
      ModelError: The file is damaged.
    """
    files = [Path(directory) / name for name in ("generation_config.json", "config.json")]
    file = next((file for file in files if file.is_file()), None)
    found = None if file is None else read_json(file).get("eos_token_id")
    ids = found if isinstance(found, list) else [found]
    return tuple(token for token in ids if isinstance(token, int) and 0 <= token < 2**31)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
      ModelError: Not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: must be a JSON object, got {type(value).__name__}")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with a fixed layout."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _shards(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Divide tensors among files in order; ``sizes`` and ``limit`` in bytes."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _indexed(index: Path) -> list[str]:
    weight_map = read_json(index).get("weight_map", {})
    if not isinstance(weight_map, Mapping):
        raise ModelError(f"{index}: weight_map must be an object, tensor name to file name")
    for name in weight_map.values():
        # A downloaded index must not lead to files elsewhere.
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelError(f"{index}: names {name!r}; must be a file beside the index")
    return sorted(set(weight_map.values()))
