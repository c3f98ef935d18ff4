"""Clips to checked vectors, in batches that fit into the memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from tqdm import tqdm

from core.options import WorkError
from extract_item_embeddings.engine.backbone import Backbone


class Batches:
    """Clips to checked vectors; clips of equal length share a batch.

    A batch that does not fit into the memory is halved until it does, and the smaller size stays.
    """

    def __init__(self, backbone: Backbone, size: int):
        self.backbone, self.size = backbone, size
        self.tried = False

    def embed(self, clips: Iterable) -> Iterator[tuple[int, np.ndarray | str]]:
        """Yield (track_idx, vector) for each (track_idx, clip), or (track_idx, reason)."""
        waiting: dict[int, list] = {}
        for row, clip in clips:
            if isinstance(clip, str):
                yield row, clip
                continue
            batch = waiting.setdefault(len(clip), [])
            batch.append((row, clip))
            if len(batch) >= self.size:
                yield from self._embed(waiting.pop(len(clip)))
        for batch in waiting.values():
            yield from self._embed(batch)

    def _embed(self, batch: list) -> Iterator[tuple[int, np.ndarray | str]]:
        rows, clips = zip(*batch, strict=True)
        results = self._results(clips)
        if not self.tried and len(rows) > 1 and all(isinstance(r, str) for r in results):
            raise WorkError(
                f"{self.backbone.name}: every clip of the first batch {results[0]}; expected "
                "numbers: check its weights and --device before more time goes into it"
            )
        self.tried = True
        return zip(rows, results, strict=True)

    def _results(self, clips: tuple[np.ndarray, ...]) -> list[np.ndarray | str]:
        """Return the vector of each clip or the reason why it has none."""
        results: list[np.ndarray | str] = []
        size = self.size
        while len(results) < len(clips):
            piece = clips[len(results) : len(results) + self.size]
            found = self._vectors(piece)
            if not isinstance(found, str):
                results += [_vector_or_reason(vector) for vector in found]
            elif len(piece) == 1:
                results.append(found)
            else:
                self.size = len(piece) // 2
        if self.size < size:
            tqdm.write(f"out of memory with {size} clips at once: from here on {self.size}")
        return results

    def _vectors(self, clips: tuple[np.ndarray, ...]) -> np.ndarray | str:
        """Return float32 (len(clips), embedding_size), or why it does not fit into the memory."""
        try:
            vectors = self.backbone.embed(np.stack(clips))
        except Exception as error:
            if not self.backbone.is_out_of_memory(error):
                raise
            said = str(error).partition("\n")[0] or type(error).__name__
            return f"does not fit into the memory, even alone: {said}"
        expected = (len(clips), self.backbone.embedding_size)
        if vectors.shape != expected or vectors.dtype != np.float32:
            raise WorkError(
                f"{self.backbone.name} returned {vectors.dtype} {vectors.shape} for a batch, "
                f"expected float32 {expected}: its embed() or embedding_size is wrong"
            )
        return vectors


def _vector_or_reason(vector: np.ndarray) -> np.ndarray | str:
    if not np.isfinite(vector).all():
        return "gives a vector with NaN or infinite values"
    return vector if vector.any() else "gives a vector of zeros"
