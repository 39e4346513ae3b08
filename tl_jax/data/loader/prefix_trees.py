"""Merge samples that begin alike, so that a row holds every shared token once.

A *tree* is a sequence of entries in depth-first order: what several samples begin with comes first,
then what each goes on with. An entry pairs an input id with the target after it; the samples that
run through it are its *samples*. Two samples share the entries whose input ids they share from the
start on. Where they part, the last shared input has two targets: it is one entry as long as at most
one of the targets is trained, and is repeated for every further target that is.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from tl_jax.data.examples.order import common_prefix

MOST_SAMPLES = 64
"""Samples of a tree: a batch of few trees has a gradient of few kinds of samples."""

_WORTH = 16
"""A beginning of less than this part of a sample is not worth being shared."""


def merge(ids: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Merge samples into a tree, in which each sample shares what it can with the one before.

    Neighbours of a sorted order share all that there is to share; any other order gives a tree that
    is right and longer.

    Args:
      ids: ``[n]`` int32 ids of every sample, two or more.
      weights: ``[n]`` float32 loss weight of every id as a target, not negative.

    Returns:
      Of every entry, each ``[T]``: ``tokens`` and ``targets`` (int32), ``weights`` (float32, the
      sum over samples), ``positions`` (int32, of the token in its samples), ``visible_until``
      (int32, the entry of this tree at which what follows on the token ends), ``samples`` (int32,
      how many run through it) and ``trained`` (int32, how many of them train the target).
    """
    sizes = [len(sample) - 1 for sample in ids]
    # The first depth at which a sample differs from the one before in input or target.
    parts = [0] + [
        min(max(common_prefix(before, sample) - 1, 0), len(sample) - 1)
        for before, sample in zip(ids, ids[1:], strict=False)
    ]
    ends = np.cumsum([size - part for size, part in zip(sizes, parts, strict=True)])
    firsts = [0, *ends[:-1].tolist()]

    weight = np.zeros(ends[-1], np.float32)
    trained = np.zeros(ends[-1], np.int32)
    samples = np.zeros(ends[-1], np.int32)
    path = np.zeros(max(sizes), np.intp)  # the entry of the present sample at every depth
    siblings: list[tuple[int, int]] = []  # (sample, entry with its input and another target)
    for i, (size, part, first) in enumerate(zip(sizes, parts, firsts, strict=True)):
        if i and part < min(size, sizes[i - 1]) and ids[i][part] == ids[i - 1][part]:
            siblings.append((i, int(path[part])))
        path[part:size] = np.arange(first, ends[i])
        counted = np.flatnonzero(weights[i][1:])
        weight[path[counted]] += weights[i][1:][counted]
        trained[path[counted]] += 1
        samples[path[:size]] += 1

    tokens = np.concatenate([x[p:-1] for x, p in zip(ids, parts, strict=True)])
    targets = np.concatenate([x[p + 1 :] for x, p in zip(ids, parts, strict=True)])
    kept = np.ones(len(tokens), bool)
    stands_in: dict[int, int] = {}
    shared = list(parts)  # how many entries of the sample before are also of this one
    for i, sibling in siblings:
        own, other = firsts[i], stands_in.get(sibling, sibling)
        if weight[own] and weight[other]:
            continue
        if weight[own]:
            targets[other], weight[other], trained[other] = targets[own], weight[own], trained[own]
        samples[other] += samples[own]
        kept[own], stands_in[own] = False, other
        shared[i] += 1

    places = np.concatenate([[0], np.cumsum(kept)])
    until = np.zeros(len(tokens), np.int32)
    visible = np.zeros(max(sizes), np.int32)  # where the subtree at every depth of a path ends
    following = 0
    for i in reversed(range(len(ids))):
        visible[following : sizes[i]] = places[ends[i]]
        until[firsts[i] : ends[i]] = visible[parts[i] : sizes[i]]
        following = shared[i]
    positions = [np.arange(p, n, dtype=np.int32) for p, n in zip(parts, sizes, strict=True)]
    found = {
        "tokens": tokens,
        "targets": targets,
        "weights": weight,
        "positions": np.concatenate(positions),
        "visible_until": until,
        "samples": samples,
        "trained": trained,
    }
    return {name: values[kept] for name, values in found.items()}


def cut(
    lengths: np.ndarray, shared: np.ndarray, capacity: int, most_samples: int = MOST_SAMPLES
) -> np.ndarray:
    """Cut samples in sorted order into trees that take the fewest places of rows.

    A tree of more than half a row is counted as a whole row, as hardly anything fits behind it; a
    smaller one takes its entries. A sample that has little in common with both neighbours stays
    alone, as it mixes better.

    Args:
      lengths: ``[N]`` ids of every sample; none has more targets than ``capacity``.
      shared: ``[N]`` ids that it has in common with the sample before from the first one on.
      capacity: Entries of a row.
      most_samples: Samples of a tree.

    Returns:
      ``[trees + 1]``, the first sample of every tree, and N.
    """
    entries = np.asarray(lengths, np.int64) - 1
    repeated = np.minimum(np.maximum(np.asarray(shared, np.int64) - 1, 0), entries)
    little = np.append(repeated * _WORTH <= entries, True)
    alone = little[:-1] & little[1:]
    free = alone | (little[:-1] & np.append(True, alone[:-1]))
    sums = np.concatenate([[0], np.cumsum(entries - repeated)])
    # A tree of the samples from j on and before k has at most ends[k] - starts[j] entries.
    ends, starts = sums.tolist(), (sums[:-1] - repeated).tolist()
    counted = (sums[:-1] - np.where(free, 0, repeated)).tolist()
    count = len(starts)
    least = [0] * (count + 1)  # places of the best trees of the first k samples
    begin = [0] * (count + 1)  # of the last of these trees
    # Where the last tree may begin: of the better ones the last, the best one first.
    small: collections.deque[int] = collections.deque()
    large: collections.deque[int] = collections.deque()
    for end in range(1, count + 1):
        last = end - 1
        while small and least[small[-1]] - counted[small[-1]] >= least[last] - counted[last]:
            small.pop()
        while large and least[large[-1]] >= least[last]:
            large.pop()
        for open_, room in ((small, capacity // 2), (large, capacity)):
            open_.append(last)
            while open_ and (end - open_[0] > most_samples or ends[end] - starts[open_[0]] > room):
                open_.popleft()
        begin[end] = large[0]
        least[end] = least[large[0]] + capacity
        if small:
            places = least[small[0]] + ends[end] - counted[small[0]]
            if places <= least[end]:
                begin[end], least[end] = small[0], places
    found = [count]
    while found[-1]:
        found.append(begin[found[-1]])
    return np.asarray(found[::-1], np.int64)
