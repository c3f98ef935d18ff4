"""How plays are split: by dates, by time before the last play, by shares of the time there is.

`Rule.parse` takes dates alone, as the published studies have them; `rule_of` takes all there is,
and what it is asked for in days before the last play it reckons from the plays' ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from core.days import EPOCH, day_of
from core.options import InputError

PARTS = ("train", "val", "test", "cold_test")  # the last one only of a protocol that asks for it
HELD_OUT = "held_out"  # what users played in the times held out, of all tracks: `counts_unknown`
UNITS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}  # seconds
STEP = timedelta(microseconds=1)


@dataclass(frozen=True)
class Protocol:
    """What a study published: its dates, its users, and whether it has a cold test.

    Attributes:
        seen: whether a track of train may be held out, and listed, for its user again.
        val_last, gap: validation is the time before the test, with gaps around it.
    """

    train_from: str | None
    test_from: str
    test_until: str | None
    val_share: float
    cold: bool
    seen: str = "drop"
    val_last: str | None = None
    gap: str | None = None


PROTOCOLS = {
    # Tamm and Aljanaki, RecSys '24.
    "recsys": Protocol("2019-02-20", "2020-02-20", None, 0.5, cold=False),
    # Its extension, arXiv 2604.23077: a year before February 2019, which is held out. Users with a
    # cold pair never validate.
    "journal": Protocol("2018-02-01", "2019-02-01", "2019-03-01", 0.3, cold=True),
    # Yambda's benchmark: of 26,000,000 s the last day tests, the day before validates.
    "yambda": Protocol(None, "25913600s", None, 0.5, False, "keep", "1d", "1800s"),
}


@dataclass(frozen=True)
class Rule:
    """How to split: train from `train_from`, held out from `test_from` until `test_until`.

    The first two moments are included, the last is not; without it all that follows is held out.
    Without `val_from`, those held out validate or test by `val_share` and `seed`, as `test_users`
    says; with `cold`, cold pairs are a part of the split, and who has one never validates.

    Attributes:
        val_from, val_until: the time that validates, for all users.
        train_until: the end of train, where it is not the first of the times that follow.
        seen: drop: a held-out pair is played for the first time there; keep: train may have it.
        core: users and tracks of train have at least so many of each other there; 0 for any.
        relative: times are told from an unknown day.
    """

    train_from: date | None
    test_from: date
    test_until: date | None
    val_share: float = 0.5
    seed: int = 42
    cold: bool = False
    val_from: datetime | None = None
    val_until: datetime | None = None
    train_until: datetime | None = None
    seen: str = "drop"
    core: int = 0
    relative: bool = False

    @classmethod
    def parse(cls, train_from: str, test_from: str, test_until: str | None, **others) -> Rule:
        """Return the rule with its dates read from YYYY-MM-DD, or raise InputError."""
        rule = cls(
            _date("--train-from", train_from),
            _date("--test-from", test_from),
            None if test_until is None else _date("--test-until", test_until),
            **others,
        )
        if rule.test_from <= rule.train_from:
            raise InputError(
                f"--test-from {test_from} must be later than --train-from {train_from}"
            )
        if rule.test_until and rule.test_until <= rule.test_from:
            raise InputError(
                f"--test-until {test_until} must be later than --test-from {test_from}"
            )
        return rule.checked()

    def checked(self) -> Rule:
        if not 0 < self.val_share < 1:
            raise InputError(f"--val-share must be between 0 and 1, got {self.val_share}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed must be between 0 and 2^32 - 1, got {self.seed}")
        if self.core < 0:
            raise InputError(f"--core must be at least 0, got {self.core}")
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        return PARTS if self.cold else PARTS[:3]

    @property
    def by_time(self) -> bool:
        """Whether validation is a time of its own, and not half of the users."""
        return self.val_from is not None

    @property
    def counts_unknown(self) -> bool:
        """Whether plays of tracks that train does not know count, as Yambda's metrics want it."""
        return self.by_time and self.seen == "keep"

    @property
    def is_plain(self) -> bool:
        """Whether it is one of the published studies' kind, which pairs.read_pairs is made for."""
        return not (self.by_time or self.train_until or self.core) and self.seen == "drop"

    def edges(self) -> list[datetime]:
        """Return where train ends, validation begins and ends, and the test begins."""
        test = moment(self.test_from)
        val_from, val_until = self.val_from or test, self.val_until or test
        return [self.train_until or val_from, val_from, val_until, test]

    def windows(self) -> dict[str, tuple[datetime | None, datetime | None]]:
        """Return the time of each part, the end not included; None for the plays' own ends."""
        train_until, val_from, val_until, test = self.edges()
        until = None if self.test_until is None else moment(self.test_until)
        train = (None if self.train_from is None else moment(self.train_from), train_until)
        val = (val_from, val_until) if self.by_time else (test, until)
        return {"train": train, "val": val, "test": (test, until)}

    def told(self) -> dict:
        """Return what split.json says of a rule that is not plain."""
        windows = {
            part: [None if end is None else str(end) for end in ends]
            for part, ends in self.windows().items()
        }
        return {
            "windows": windows,
            "validation": "time" if self.by_time else "users",
            "seen": self.seen,
            "core": self.core,
        }

    def __str__(self) -> str:
        start = "the first play" if self.train_from is None else self.said(self.train_from)
        told = [f"train from {start}", f"held out from {self.said(self.test_from)}"]
        if self.by_time:
            told.insert(1, f"validation from {self.said(self.val_from)}")
        return ", ".join(told) + (f" until {self.said(self.test_until)}" if self.test_until else "")

    def said(self, when: date) -> str:
        """Return a moment in words: a date, with a time where it has one, or a day."""
        if self.relative:
            return day_of(moment(when))
        text = str(moment(when).replace(microsecond=0))
        return text.removesuffix(" 00:00:00")


def moment(when: date) -> datetime:
    """Return a date's first moment; a moment is itself."""
    return when if isinstance(when, datetime) else datetime.combine(when, datetime.min.time())


@dataclass(frozen=True)
class Asked:
    """What stage 1 is asked for, as text; see 1_train_test_split.py."""

    train_from: str | None = None
    test_from: str | None = None
    test_until: str | None = None
    train_last: str | None = None
    val_last: str | None = None
    test_last: str | None = None
    gap: str | None = None


def rule_of(asked: Asked, ends: tuple[datetime, datetime], relative: bool, **others) -> Rule:
    """Return the rule of what is asked for.

    Args:
        ends: the first and the last play.
        relative: times are told from an unknown day.
        others: val_share, seed, cold, seen and core of a Rule.

    Raises:
        InputError: two options for one moment, moments out of order, or beyond the calendar; the
            message names them.
    """
    try:
        return _rule_of(asked, ends, relative, **others)
    except OverflowError as error:
        given = ", ".join(
            f"--{name.replace('_', '-')} {value}" for name, value in vars(asked).items() if value
        )
        raise InputError(
            f"{given} reach beyond the years 1 to 9999; the plays are from {ends[0]} to {ends[1]}; "
            "give shorter times"
        ) from error


def _rule_of(asked: Asked, ends: tuple[datetime, datetime], relative: bool, **others) -> Rule:
    first, last = ends
    span = last + STEP - first
    given = [("--test-from", asked.test_from), ("--test-last", asked.test_last)]
    _one_of(given, needed=True)
    _one_of([("--train-from", asked.train_from), ("--train-last", asked.train_last)])
    until = _point("--test-until", asked.test_until, relative)
    if asked.test_last:
        test = (until or last + STEP) - _length("--test-last", asked.test_last, span)
    else:
        test = _point("--test-from", asked.test_from, relative)
    gap = _length("--gap", asked.gap, span) if asked.gap else timedelta(0)
    val_from = val_until = None
    if asked.val_last:
        val_until = test - gap
        val_from = val_until - _length("--val-last", asked.val_last, span)
    train_until = (val_from or test) - gap
    train_from = _point("--train-from", asked.train_from, relative)
    if asked.train_last:
        train_from = train_until - _length("--train-last", asked.train_last, span)
    rule = Rule(
        **{"train_from": train_from, "test_from": test, "test_until": until},
        **{"val_from": val_from, "val_until": val_until, "relative": relative},
        train_until=train_until if gap else None,
        **others,
    ).checked()
    start = first if train_from is None else train_from
    order = [("train", start), ("the end of train", train_until), ("the test", test)]
    order += [("--test-until", until)] if until else []
    for (before, earlier), (after, later) in zip(order, order[1:], strict=False):
        if later < earlier or (later == earlier and before != "the end of train"):
            raise InputError(
                f"{after}, {rule.said(later)}, must come later than {before}, "
                f"{rule.said(earlier)}: the plays are from {rule.said(first)} to {rule.said(last)}"
            )
    return rule


def _one_of(options: list[tuple[str, str | None]], needed: bool = False) -> None:
    given = [f"{flag} {value}" for flag, value in options if value is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} say the same thing; give one of them")
    if needed and not given:
        raise InputError(
            "when the test begins is not told; give --test-last 28d, --test-from with a date, or "
            "where the plays have none with days from the first, as 212d"
        )


def _date(flag: str, text: str) -> date:
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise InputError(f"{flag} must be a date YYYY-MM-DD, got {text!r}")


def _point(flag: str, text: str | None, relative: bool) -> datetime | None:
    if text is None:
        return None
    if relative:
        if re.match(r"\d{4}-\d\d", text):
            raise InputError(
                f"{flag} {text} is a date, but the plays have none: their times count from an "
                "unknown day; give days from there, as 212d, or --test-last 28d"
            )
        return EPOCH + _length(flag, text, None)
    return moment(_date(flag, text))


def _length(flag: str, text: str, span: timedelta | None) -> timedelta:
    """Return a length of time as 28d, 12h, 30min or 1800s, or 10% of the span."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(s|min|h|d|%)", text)
    if match and (match[2] != "%" or span is not None):
        number = float(match[1])
        if match[2] != "%":
            return timedelta(seconds=number * UNITS[match[2]])
        if 0 < number < 100:
            return span * (number / 100)
    share = ", or a share of the time there is as 10%" if span is not None else ""
    raise InputError(f"{flag} must be a length as 28d, 12h, 30min or 1800s{share}, got {text!r}")
