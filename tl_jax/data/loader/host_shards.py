"""The rows of this host in global batches that one or several streams make together."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import numpy as np

Row = dict[str, np.ndarray]


class HostRows:
    """Iterator of this host's rows of every global batch.

    Stream ``s`` of ``S`` gives the rows from ``s * rows / S`` on. A host opens the streams that its
    rows come from, so the global batches are the same for any number of hosts. Orbax saves the
    position through ``save`` and ``load``, one file per stream; other hosts may go on from it.

    Args:
      open_stream: Returns the iterator of a stream, ``[rows / S, ...]`` arrays by name, from its
        number.
      streams: How many there are; divides ``rows``.
      rows: Rows of a global batch.
      own: Numbers of this host's rows, ascending.
    """

    def __init__(
        self,
        open_stream: Callable[[int], grain.DatasetIterator],
        streams: int,
        rows: int,
        own: Sequence[int] | np.ndarray,
    ):
        size = rows // streams
        of_stream = np.asarray(own) // size
        self._count = streams
        self._taken = {
            int(number): np.asarray(own)[of_stream == number] - number * size
            for number in np.unique(of_stream)
        }
        self._streams = {number: open_stream(number) for number in self._taken}

    def __iter__(self) -> HostRows:
        return self

    def __next__(self) -> Row:
        parts = [
            {name: values[self._taken[number]] for name, values in next(stream).items()}
            for number, stream in self._streams.items()
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def get_state(self) -> dict[str, Any]:
        """Return the position of each stream that is open here, as JSON has it."""
        return {self._name(number): stream.get_state() for number, stream in self._streams.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go to a position, of which only the streams that are open here are read.

        Raises:
          ValueError: It is of other streams, of another file or of other settings.
        """
        for number, stream in self._streams.items():
            if self._name(number) not in state:
                raise ValueError(
                    f"the data position cannot be resumed: it holds {', '.join(sorted(state))} "
                    f"and not {self._name(number)}. Restore the old config.data.streams, or start "
                    "in a new run directory."
                )
            stream.set_state(state[self._name(number)])

    def close(self) -> None:
        """Stop the threads that read ahead."""
        for stream in self._streams.values():
            stream.close()

    async def save(self, directory: Any) -> Any:
        """Return what writes the present position to a directory that is being made (Orbax)."""
        return _write(directory, {name: json.dumps(at) for name, at in self.get_state().items()})

    async def load(self, directory: Any) -> Any:
        """Return what goes to the position in a directory (Orbax)."""
        return self._read(directory)

    async def _read(self, directory: Any) -> None:
        files = await asyncio.to_thread(lambda: sorted(directory.glob("stream_*.json")))
        texts = {file.stem: await asyncio.to_thread(file.read_text) for file in files}
        self.set_state({name: json.loads(text) for name, text in texts.items()})

    def _name(self, number: int) -> str:
        return f"stream_{number}-of-{self._count}"


async def _write(directory: Any, texts: Mapping[str, str]) -> None:
    path = await directory.await_creation()
    for name, text in texts.items():
        # Hosts that share a stream write the same file; each puts it there whole.
        draft = path / f"{name}.{uuid.uuid4().hex}.tmp"
        await asyncio.to_thread(draft.write_text, text)
        await asyncio.to_thread(draft.replace, path / f"{name}.json")
