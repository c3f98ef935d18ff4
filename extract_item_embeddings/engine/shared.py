"""What several backbones compute from the same clip, computed once: a front end in common."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MOST = 64  # results that wait at most; who is further behind computes its own


@dataclass
class _Entry:
    result: Any = None
    left: int = 0  # sharers that have not had it
    ready: threading.Event = field(default_factory=threading.Event)


class Shared:
    """Results of one function, kept until each of its sharers has had them.

    Args:
        sharers: how many ask for each result, once each.
    """

    def __init__(self, sharers: int):
        self.sharers = sharers
        self.lock = threading.Lock()
        self.entries: OrderedDict[bytes, _Entry] = OrderedDict()  # by the clip's content

    def get(self, clip: np.ndarray, function: Callable[[], Any]) -> Any:
        """Return function() of this clip, or what another sharer's call has returned for it.

        Sharers ask in threads of their own; one that comes while the first still computes waits.
        """
        key = hashlib.sha256(np.ascontiguousarray(clip)).digest()
        with self.lock:
            entry = self.entries.get(key)
            if first := entry is None:
                entry = self.entries[key] = _Entry(left=self.sharers)
                if len(self.entries) > MOST:
                    self.entries.popitem(last=False)
            entry.left -= 1
            if not entry.left:
                self.entries.pop(key, None)
        if not first:
            entry.ready.wait()
            return function() if entry.result is None else entry.result
        try:
            entry.result = function()
        finally:
            entry.ready.set()  # also when it failed: the others then try themselves
        return entry.result
