"""The record of a training run: one line an epoch, in log.jsonl, TensorBoard and the terminal."""

from __future__ import annotations

import io
import json
import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from core.artifacts import append, atomic_path

NO_CURVE = ("epoch", "seconds", "best_epoch")


class Curves:
    """The records of a run's epochs so far, on disk before `add` returns.

    Events are written here and not by torch's SummaryWriter: that does it in a thread of its own,
    whose errors (a full disk) come up late and cannot be caught.

    Args:
        folder: of the run.
        records: of the epochs that are done, as last.pt has them; both files are made to say the
            same, because a kill may have come between a checkpoint and its record.
    """

    def __init__(self, folder: Path, records: list[dict]):
        self.log = folder / "log.jsonl"
        with atomic_path(self.log) as temporary:
            temporary.write_text("".join(_line(record) for record in records))
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.events = folder / name
        start = [
            Event(wall_time=time.time(), file_version="brain.Event:2"),
            # From this step on TensorBoard forgets what earlier files of the folder say.
            Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START)),
        ]
        append(self.events, _encode(start + [_event(record) for record in records]))

    def add(self, record: dict) -> None:
        """Append one epoch: `epoch` and whatever numbers are known of it."""
        append(self.log, _line(record).encode())
        append(self.events, _encode([_event(record)]))


def describe_epoch(record: dict, epochs: int, better: bool) -> str:
    """Return the terminal's line of one epoch; a star marks the best so far."""
    metrics = "".join(f"  {name} {value:.4f}" for name, value in record.items() if "@" in name)
    val = f"  val {_short(record['val_loss'])}" if "val_loss" in record else ""
    return (
        f"epoch {record['epoch']:>3}/{epochs}  train {_short(record['train_loss'])}"
        f"{val}{metrics}{'*' if better else ' '}  "
        f"best @ {record['best_epoch']}  "
        f"rate {record['learning_rate']:.0e}  {record['seconds']:.1f} s"
    )


def _short(loss: float) -> str:
    """Return the loss in 5 decimals, or 5 digits where that would show few of them."""
    return f"{loss:.5f}" if abs(loss) >= 0.01 else f"{loss:.4e}"


def _line(record: dict) -> str:
    return json.dumps(record) + "\n"


def _event(record: dict) -> Event:
    values = [
        Summary.Value(tag=name, simple_value=value)
        for name, value in record.items()
        if name not in NO_CURVE
    ]
    return Event(wall_time=time.time(), step=record["epoch"], summary=Summary(value=values))


def _encode(events: list[Event]) -> bytes:
    """Return the events as TensorBoard's files hold them, each with its length and checksums."""
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    for event in events:
        writer.write(event.SerializeToString())
    return buffer.getvalue()
