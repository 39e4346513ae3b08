"""Decide, with all trajectories in view, which of them are built: no duplicates, a sample.

All that is kept of a trajectory here is some 200 bytes; its signature and its name stay in files.
"""

from __future__ import annotations

import functools
import os
import random
import tempfile
from typing import Any

import numpy as np

from tl_jax.config import DataConfig
from tl_jax.data.prepare.dedup import BANDS, LENGTH, band_keys, find_duplicates
from tl_jax.data.prepare.files import named
from tl_jax.data.prepare.workspace import Workspace

_BUILT, _LEFT_OUT, _EXACT, _NEAR = range(4)
_KINDS = {"exact": _EXACT, "near": _NEAR}
_OPEN = 256
"""Chunks whose trajectories' names are at hand."""


def select(workspace: Workspace, chunks: int, data: DataConfig, seed: int) -> None:
    """Write the verdicts on the trajectories of all chunks, from the chunks' signatures.

    Args:
      workspace: Where both are.
      chunks: How many there are.
      data: ``duplicates`` and ``max_trajectories`` decide.
      seed: Of the sample.
    """
    sizes = [workspace.opened(workspace.scan(n)).sizes["digests"] // 16 for n in range(chunks)]
    starts = np.cumsum([0, *sizes])
    fates = np.zeros(starts[-1], np.uint8)
    of, similarity = np.zeros(len(fates), np.int32), np.zeros(len(fates))
    if data.duplicates != "keep":
        _mark_duplicates(workspace, starts, data.duplicates == "near", fates, of, similarity)
    left = np.flatnonzero(fates == _BUILT)
    if 0 < data.max_trajectories < len(left):
        # By their order alone, whatever chunks they are in.
        drawn = random.Random(f"{seed} trajectories").sample(
            range(len(left)), data.max_trajectories
        )
        fates[left] = _LEFT_OUT
        fates[left[drawn]] = _BUILT

    @functools.lru_cache(_OPEN)
    def scanned(chunk: int) -> list[list[Any]]:
        return workspace.opened(workspace.scan(chunk)).facts

    def verdict(number: int) -> dict[str, Any] | None:
        if fates[number] == _LEFT_OUT:
            return None
        chunk = int(np.searchsorted(starts, of[number], "right")) - 1
        _, *where = scanned(chunk)[int(of[number]) - int(starts[chunk])]
        kind = "exact" if fates[number] == _EXACT else "near"
        first = {"check": f"{kind} duplicate", "of": named(where)}
        return {**first, "similarity": float(similarity[number])}

    for chunk in range(chunks):
        here = range(int(starts[chunk]), int(starts[chunk + 1]))
        if fates[here.start : here.stop].any():
            places = (str(place) for place, *_ in scanned(chunk))
            verdicts = {p: verdict(n) for p, n in zip(places, here, strict=True) if fates[n]}
            workspace.write_verdicts(chunk, verdicts)


def _mark_duplicates(
    workspace: Workspace,
    starts: np.ndarray,
    near: bool,
    fates: np.ndarray,
    of: np.ndarray,
    similarity: np.ndarray,
) -> None:
    digests = np.zeros((len(fates), 2), np.uint64)
    keys = np.zeros((len(fates), BANDS if near else 0), np.uint64)
    row = 4 * LENGTH
    with tempfile.TemporaryFile(dir=workspace.path) as stream:
        for chunk, (start, stop) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
            part = workspace.opened(workspace.scan(chunk))
            digests[start:stop] = np.frombuffer(part.read("digests"), "<u8").reshape(-1, 2)
            if near:
                signatures = part.read("signatures")
                keys[start:stop] = band_keys(np.frombuffer(signatures, "<u4"))
                stream.write(signatures)
        stream.flush()

        def signature_of(number: int) -> np.ndarray:
            return np.frombuffer(os.pread(stream.fileno(), row, row * number), "<u4")

        for found in find_duplicates(digests, keys, signature_of):
            fates[found.number] = _KINDS[found.kind]
            of[found.number], similarity[found.number] = found.of, found.similarity
