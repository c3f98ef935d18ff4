"""What was found, in words: what helps, who leads, and what that adds to listening alone.

A representation *helps* a recommender when it ranks significantly better than each of its controls
that was run: its own vectors given to the wrong tracks, and vectors that know nothing of sound. It
*does not help* when a control lies significantly above it. Otherwise it *cannot be said*: a test
that finds no difference shows none, and does not show that there is none. Tests are paired over
users and Holm-corrected; a row has to pass all of its controls, which needs no correction more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from evaluation.comparisons import ALPHA

HELPS, HELPS_NOT, OPEN = "helps", "does not help", "cannot be said"
NAMED = 4  # rows that a sentence names; of more it says how many
LONG = 170  # letters of a first sentence, beyond which it is said in short first
SHUFFLED = "its own vectors shuffled"


@dataclass(frozen=True)
class Paired:
    """One mean less another over the same users, its 95 % interval, and p after correction."""

    difference: float
    low: float
    high: float
    p: float

    @property
    def sign(self) -> int:
        """1 or -1 where the difference is significant, else 0."""
        if not self.p < ALPHA:
            return 0
        return (self.difference > 0) - (self.difference < 0)

    def turned(self) -> Paired:
        return Paired(-self.difference, -self.high, -self.low, self.p)


@dataclass(frozen=True)
class Field:
    """What one recommender's tests say of one metric.

    Attributes:
        label: the recommender's name for people.
        rows: {name: mean} of the representations.
        controls: {name: mean} of vectors that know nothing of sound.
        pairs: {(one, other): one less the other} of rows and controls, each pair both ways.
        shuffled: {row: it less its own vectors shuffled}.
        listening: {row: it less what was heard by nobody's ear}, of the control `alone`.
        alone: name and mean of the control that knows plays and no sound, or None.
    """

    label: str
    rows: dict[str, float]
    controls: dict[str, float] = field(default_factory=dict)
    pairs: dict[tuple[str, str], Paired] = field(default_factory=dict)
    shuffled: dict[str, Paired] = field(default_factory=dict)
    listening: dict[str, Paired] = field(default_factory=dict)
    alone: tuple[str, float] | None = None

    def against(self, row: str) -> dict[str, Paired]:
        """Return the tests of a row against each of its controls that was run."""
        found = {SHUFFLED: self.shuffled[row]} if row in self.shuffled else {}
        named = {name: self.pairs.get((row, name)) for name in self.controls}
        return found | {name: pair for name, pair in named.items() if pair is not None}

    def verdict(self, row: str) -> str:
        """Return HELPS, HELPS_NOT or OPEN."""
        signs = [pair.sign for pair in self.against(row).values()]
        if -1 in signs:
            return HELPS_NOT
        return HELPS if signs and all(sign == 1 for sign in signs) else OPEN

    def of_representations(self) -> dict[str, str]:
        """Return the verdict on each representation, best first.

        HELPS where one of its rows has it, HELPS_NOT where all have it, else OPEN.
        """
        found: dict[str, set[str]] = {}
        for row in self.best_first():
            found.setdefault(representation(row), set()).add(self.verdict(row))
        return {
            name: HELPS if HELPS in kinds else OPEN if OPEN in kinds else HELPS_NOT
            for name, kinds in found.items()
        }

    def best_first(self) -> list[str]:
        return sorted(self.rows, key=lambda name: (-self.rows[name], name))


def helping(fields: list[Field]) -> str:
    """Return the first sentence: under which recommender what helps, does not, cannot be said."""
    fields = [each for each in fields if each.rows]
    if not fields:
        return "No representation was compared yet."
    if not any(each.against(row) for each in fields for row in each.rows):
        return "Whether any representation helps was not tested."
    text = _by_recommender(fields, _who_helps)
    return text[0].upper() + text[1:] + "."


def in_short(fields: list[Field]) -> str:
    """Return in one sentence over all recommenders what `helping` tells of each; '' if that does.

    Which representations help at least one recommender, and which most of them; and of how many a
    control lies above. A representation with several rows (trained, tuned) helps where one does.
    """
    if len(helping(fields)) <= LONG:
        return ""
    fields = [each for each in fields if any(each.against(row) for row in each.rows)]
    verdicts = [each.of_representations() for each in fields]
    rows = list(dict.fromkeys(name for each in verdicts for name in each))

    def told(kind: str) -> dict[str, int]:
        counts = {row: sum(each.get(row) == kind for each in verdicts) for row in rows}
        return {row: n for row, n in counts.items() if n}

    helped, below = told(HELPS), told(HELPS_NOT)
    n, those = len(fields), f"at least one of {len(fields)} recommenders"
    if n == 1:
        those = fields[0].label
    if helped:
        text = f"{len(helped)} of {len(rows)} representations help {those}"
        most = max(helped.values())
        names = [row for row, count in helped.items() if count == most]
        if len(names) <= NAMED and most > 1:
            verb = "helps" if len(names) == 1 else "help"
            text += (
                f"; {listed(names)} {verb} {'all' if most == n else f'the most, {most} of them'}"
            )
    else:
        whom = f"any of {n} recommenders" if n > 1 else those
        text = f"Of {len(rows)} representations none was shown to help {whom}"
    if below:
        text += f"; {_many(below)} below a control under {those}"
    return text + "."


def _many(names: dict[str, int]) -> str:
    if len(names) > NAMED:
        return f"{len(names)} lie significantly"
    return f"{listed(list(names))} {'lie' if len(names) > 1 else 'lies'} significantly"


def _who_helps(each: Field) -> str:
    """Return `every representation helps`, or `a helps, b does not, of c it cannot be said`."""
    rows = each.best_first()
    by_verdict = {kind: [row for row in rows if each.verdict(row) == kind] for kind in
                  (HELPS, HELPS_NOT, OPEN)}  # fmt: skip
    whole = {
        HELPS: "every representation helps",
        HELPS_NOT: "no representation helps: a control lies above each",
        OPEN: "it cannot be said of any representation whether it helps",
    }
    for kind, names in by_verdict.items():
        if len(names) == len(rows) > 1:
            return whole[kind]
    parts = []
    for kind, names in by_verdict.items():
        if not names:
            continue
        if len(names) > NAMED:
            each_once = len(set(map(representation, rows))) == len(rows)
            noun = "representations" if each_once else "rows"
            one, what = False, f"{len(names)} of {len(rows)} {noun}"
        else:
            one, what = len(names) == 1, listed(names)
        parts.append({
            HELPS: f"{what} {'helps' if one else 'help'}",
            HELPS_NOT: f"{what} {'does' if one else 'do'} not",
            OPEN: f"of {what} it cannot be said",
        }[kind])  # fmt: skip
    if not by_verdict[HELPS] and by_verdict[HELPS_NOT]:
        parts[0] += " help"
    return ", ".join(parts) + (" whether it helps" if parts[0].startswith("of ") else "")


def leading(fields: list[Field]) -> str:
    """Return the second sentence: who has the highest mean, and whom no test tells from it."""
    fields = [each for each in fields if each.rows]
    if not fields:
        return ""
    text = _by_recommender(fields, lead)
    return text[0].upper() + text[1:] + "."


def lead(each: Field) -> str:
    """Return who leads one recommender, claiming only what tests of the leader itself say."""
    best, *others = each.best_first()
    equal = [name for name in others if each.rows[name] == each.rows[best]]
    leaders, them = [best, *equal], "them" if equal else "it"
    if equal:
        text = f"{_named(leaders)} share the highest mean".replace(" others", " rows")
    elif not others:
        text = f"{best} is the only representation here"
    elif not any((best, other) in each.pairs for other in others):
        text = f"{best} has the highest mean, which was not tested"
    else:
        pairs = {other: each.pairs.get((best, other)) for other in others}
        tied = [name for name, pair in pairs.items() if pair and not pair.sign]
        untested = [name for name, pair in pairs.items() if not pair]
        if not tied and not untested:
            text = f"{best} leads, significantly above every other"
        else:
            text = f"{best} has the highest mean"
            if tied:
                text += f", and no test tells it from {_named(tied, 'or')}"
            if untested:
                text += f", untested beside {_named(untested)}"
    tests = [each.against(name) for name in leaders]
    above = [n for n in tests[0] if all(n in own and own[n].sign < 0 for own in tests)]
    if above:
        verb = "lie" if len(above) > 1 or SHUFFLED in above else "lies"
        text += f", though {listed(above)} {verb} significantly above {them}"
    return text


def _named(names: list[str], word: str = "and") -> str:
    return listed(names, word) if len(names) <= NAMED else f"{len(names)} others"


def representation(row: str) -> str:
    """Return the embedding of a row's name: `mfcc` of `mfcc (trained)`."""
    return row.split(" (")[0]


def adding(fields: list[Field]) -> str:
    """Return the third sentence: the leaders beside what listening alone reaches."""
    fields = [each for each in fields if each.rows]
    alone = next((each.alone for each in fields if each.alone), None)
    if alone is None:
        return ""
    signs: dict[int | None, list[str]] = {1: [], 0: [], -1: [], None: []}
    for each in fields:
        pair = each.listening.get(each.best_first()[0])
        signs[pair.sign if pair else None].append(each.label)
    texts = {  # where comes first: a "no test ... under every" could mean "not under all"
        1: "the leader lies significantly above it",
        0: "no test tells the leader from it",
        -1: "it lies significantly above the leader",
        None: "it was not tested",
    }
    parts = [
        f"under {_where(labels, fields)} {texts[sign]}" for sign, labels in signs.items() if labels
    ]
    return f"Beside listening alone ({alone[0]}, {number(alone[1])}): {'; '.join(parts)}."


def _by_recommender(fields: list[Field], say) -> str:
    """Return what is said of each recommender; those of which the same is said, together."""
    said: dict[str, list[str]] = {}
    for each in fields:
        said.setdefault(say(each), []).append(each.label)
    return "; ".join(f"under {_where(labels, fields)} {text}" for text, labels in said.items())


def _where(labels: list[str], fields: list[Field]) -> str:
    return "every recommender" if len(labels) == len(fields) > 1 else listed(labels)


def number(value: float | None, digits: int = 3) -> str:
    """Return .509, 1.000, or a dash where there is no number."""
    if value is None or value != value:
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def listed(names: list[str], word: str = "and") -> str:
    """Return `a`, `a and b`, `a, b and c`; nothing of none."""
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
