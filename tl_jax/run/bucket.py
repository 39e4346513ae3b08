"""Files of a folder on object storage, with patience: requests that fail are made again."""

from __future__ import annotations

import concurrent.futures
import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tl_jax.errors import ConfigError, RunNotWritable
from tl_jax.screen import visible

logger = logging.getLogger(__name__)

SCHEMES = {
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "s3": "s3fs",
    "s3a": "s3fs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}
"""Scheme of a place -> the package that reads and writes there."""

TRIES = 8
"""Requests in all, of which the last ones wait up to half a minute for each other."""
_FIRST_S, _MOST_S = 0.5, 30.0
_THREADS = 8
# The same request would get the same answer.
_FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, ImportError, NotImplementedError)
# What kinds of storage call the content of an object, the surest first.
_VERSIONS = ("ETag", "etag", "md5Hash", "crc32c", "LastModified", "last_modified", "created")

T = TypeVar("T")


def is_bucket(place: str) -> bool:
    """Whether a place is one on which a run can lie, such as ``gs://bucket/run``."""
    scheme, found, _ = place.partition("://")
    return bool(found) and scheme in SCHEMES


class Bucket:
    """A folder on object storage; an object is written whole or not at all.

    Credentials, regions and endpoints are found as the package of the storage finds them, such as
    ``AWS_PROFILE`` and ``AWS_ENDPOINT_URL``.

    Args:
      place: Such as ``gs://bucket/runs/first``.

    Raises:
      ConfigError: Its package is not installed, or the place cannot be read.
    """

    def __init__(self, place: str):
        self.place = place.rstrip("/")
        scheme = place.partition("://")[0]
        try:
            import fsspec

            found: Any = fsspec.url_to_fs(self.place, use_listings_cache=False)
        except ImportError as error:
            raise ConfigError(
                f"{place}: needs the package {SCHEMES[scheme]}: pip install {SCHEMES[scheme]}"
            ) from error
        except Exception as error:
            raise ConfigError(f"{place}: cannot be opened ({visible(str(error))})") from error
        self._fs, root = found
        self._root = str(root).rstrip("/")

    def listing(self) -> dict[str, str]:
        """Return the version of every object by its name; a folder that is not there has none."""

        def work() -> dict[str, str]:
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self._root, detail=True)
            except FileNotFoundError:
                return {}
            return {
                path.removeprefix(f"{self._root}/"): _version(info) for path, info in found.items()
            }

        return self._persist("the list of its files", work)

    def version(self, name: str) -> str:
        """Return the version of one object."""
        return self._persist(name, lambda: _version(self._fs.info(self._path(name))))

    def read(self, name: str) -> bytes | None:
        """Return what an object holds, or None if there is none."""
        try:
            return self._persist(name, lambda: self._fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write an object.

        Raises:
          ConfigError: There is no such bucket.
        """
        try:
            self._persist(name, lambda: self._fs.pipe_file(self._path(name), content))
        except FileNotFoundError as error:
            raise ConfigError(
                f"{self.place}: there is no such bucket ({visible(str(error))}); make it first"
            ) from error

    def fetch(self, name: str, target: Path) -> None:
        """Copy an object to a file, which is written whole or not at all.

        Raises:
          FileNotFoundError: There is no such object.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(target.name + ".tmp")
        try:
            self._persist(name, lambda: self._fs.get_file(self._path(name), str(draft)))
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)

    def send(self, source: Path, name: str) -> None:
        """Copy a file to an object.

        Raises:
          FileNotFoundError: The file is gone.
        """
        try:
            self._persist(name, lambda: self._fs.put_file(str(source), self._path(name)))
        except FileNotFoundError as error:
            if source.exists():  # then it is the bucket that is gone
                raise RunNotWritable(f"{self.place}: {visible(str(error))}") from error
            raise

    def remove(self, name: str) -> None:
        """Remove an object; one that is gone already does no harm."""

        def work() -> None:
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError:
                pass

        self._persist(name, work)

    def each(self, names: Iterable[str], work: Callable[[str], None]) -> None:
        """Do the same for several objects side by side; the first error is raised in the end."""
        with concurrent.futures.ThreadPoolExecutor(_THREADS, "bucket") as pool:
            for done in [pool.submit(work, name) for name in names]:
                done.result()

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _persist(self, name: str, work: Callable[[], T]) -> T:
        for number in range(TRIES):
            try:
                return work()
            except _FINAL as error:
                if isinstance(error, FileNotFoundError):
                    raise
                raise RunNotWritable(f"{self._path(name)}: {visible(str(error))}") from error
            except Exception as error:  # every kind of storage has its own
                if number == TRIES - 1:
                    raise RunNotWritable(
                        f"{self.place}: {name} failed {TRIES} times ({visible(str(error))})"
                    ) from error
                logger.info("%s: %s: %s; again", self.place, name, visible(str(error)))
                # Hosts that were refused together do not come back together.
                time.sleep(random.uniform(0, min(_MOST_S, _FIRST_S * 2**number)))
        raise AssertionError


def _version(info: Mapping[str, Any]) -> str:
    mark = next((info[name] for name in _VERSIONS if info.get(name)), "")
    return f"{mark} {info.get('size')}"
