"""The sentences of the first screen, for every order of rows and controls and every pattern of p.

What each sentence may say is worked out here again, from the tests themselves.
"""

import re
from itertools import combinations, permutations, product

import pytest

from reporting.findings import (
    HELPS,
    HELPS_NOT,
    OPEN,
    SHUFFLED,
    Field,
    Paired,
    adding,
    helping,
    in_short,
    lead,
    leading,
    listed,
    number,
)

NAMES = ("a", "b", "c", "noise")


def field_of(order, significant, shuffled=None, label="KNN"):
    """Return a field whose means fall in this order; the pairs named are significant."""
    means = {name: 0.5 - 0.1 * place for place, name in enumerate(order)}
    pairs = {}
    for one, other in combinations(order, 2):
        difference = means[one] - means[other]
        p = 0.01 if {one, other} in significant else 0.4
        pairs[one, other] = Paired(difference, difference - 0.05, difference + 0.05, p)
        pairs[other, one] = pairs[one, other].turned()
    rows = {name: mean for name, mean in means.items() if name != "noise"}
    controls = {name: mean for name, mean in means.items() if name == "noise"}
    kept = {
        name: Paired(0.1 * sign or 0.02, 0, 0, 0.01 if sign else 0.4)
        for name, sign in (shuffled or {}).items()
    }
    return Field(label, rows, controls, pairs, kept)


def every_pattern():
    pairs = [set(pair) for pair in combinations(NAMES, 2)]
    for order in permutations(NAMES):
        for mask in product((False, True), repeat=len(pairs)):
            yield order, [pair for pair, real in zip(pairs, mask, strict=True) if real]


def test_every_order_and_pattern_of_p_is_told_as_the_tests_of_the_leader_have_it():
    """24 orders of three rows and noise, 64 patterns of p each: no claim beyond a test."""
    for order, real in every_pattern():
        rows = [name for name in order if name != "noise"]
        best, others = rows[0], rows[1:]
        text = lead(field_of(order, real))
        equal = [name for name in others if {best, name} not in real]
        if equal:
            assert f"no test tells it from {listed(equal, 'or')}" in text
            assert "leads" not in text
        else:
            assert text.startswith(f"{best} leads, significantly above every other")
        beneath = order[0] == "noise" and {best, "noise"} in real
        assert ("noise lies significantly above it" in text) == beneath
        assert "cannot be told apart" not in text  # no relation that is taken as transitive


def test_every_order_and_pattern_of_p_gives_each_row_its_verdict():
    shuffles = list(product((-1, 0, 1, None), repeat=3))
    for at, (order, real) in enumerate(every_pattern()):
        for signs in (shuffles[at % 64], shuffles[(at * 7 + 13) % 64]):
            shuffled = {n: s for n, s in zip("abc", signs, strict=True) if s is not None}
            each = field_of(order, real, shuffled)
            told = {kind: set() for kind in (HELPS, HELPS_NOT, OPEN)}
            for name in "abc":
                tests = [shuffled[name]] if name in shuffled else []
                above = order.index(name) < order.index("noise")
                tests.append((1 if above else -1) if {name, "noise"} in real else 0)
                want = HELPS_NOT if -1 in tests else OPEN if 0 in tests else HELPS
                assert each.verdict(name) == want
                told[want].add(name)
            assert said(helping([each])) == told


def said(sentence):
    """Return {verdict: rows} that the first sentence claims."""
    names = {kind: set() for kind in (HELPS, HELPS_NOT, OPEN)}
    text = sentence.removeprefix("Under KNN ").removesuffix(".").removesuffix(" whether it helps")
    whole = {
        "every representation helps": HELPS,
        "no representation helps: a control lies above each": HELPS_NOT,
        "it cannot be said of any representation": OPEN,
    }
    if text in whole:
        return {**names, whole[text]: set("abc")}
    patterns = {
        HELPS: r"^([abc](?: and [abc])?) helps?\b",
        HELPS_NOT: r"(?:^|, )([abc](?: and [abc])?) (?:does|do) not",
        OPEN: r"(?:^|, )of ([abc](?: and [abc])?) it cannot be said",
    }
    for kind, pattern in patterns.items():
        found = re.search(pattern, text)
        names[kind] = set(found[1].split(" and ")) if found else set()
    return names


def test_not_telling_apart_is_not_transitive():
    """a-b .70, a-c .22, b-c .0003: b and c are told apart, so no sentence puts the three as one."""
    each = field_of(("b", "a", "c", "noise"), [{"b", "c"}])
    assert lead(each) == "b has the highest mean, and no test tells it from a"
    each = field_of(("a", "b", "c", "noise"), [{"b", "c"}])
    assert lead(each) == "a has the highest mean, and no test tells it from b or c"


def test_noise_significantly_above_the_leader_is_said_twice():
    each = field_of(("noise", "a", "b", "c"), [{"noise", n} for n in "abc"], label="BERT4Rec")
    assert helping([each]) == ("Under BERT4Rec no representation helps: a control lies above each.")
    assert "though noise lies significantly above it" in leading([each])


def test_recommenders_of_which_the_same_is_said_are_told_together():
    real = [{name, "noise"} for name in "abc"]
    each = field_of(NAMES, real), field_of(NAMES, real, label="EASE+")
    assert helping(list(each)) == "Under every recommender every representation helps."
    third = field_of(("noise", "a", "b", "c"), [], label="BERT4Rec")
    assert helping([*each, third]) == (
        "Under KNN and EASE+ every representation helps; under BERT4Rec it cannot be said of any "
        "representation whether it helps."
    )
    mixed = field_of(("a", "noise", "b", "c"), [{"a", "noise"}, {"noise", "c"}])
    assert helping([mixed]) == "Under KNN a helps, c does not, of b it cannot be said."


def test_many_rows_are_counted_and_not_listed():
    rows = {f"e{n}": 0.5 + n / 100 for n in range(10)}
    against = {n: Paired(0.1, 0.05, 0.15, 0.01 if n != "e3" else 0.5) for n in rows}
    each = Field("KNN", rows, shuffled=against)
    assert helping([each]) == ("Under KNN 9 of 10 representations help, of e3 it cannot be said.")


def test_what_was_not_tested_is_said_to_be_untested():
    each = Field("KNN", {"a": 0.3, "b": 0.2})
    assert helping([each]) == "Whether any representation helps was not tested."
    assert leading([each]) == "Under KNN a has the highest mean, which was not tested."
    assert helping([Field("KNN", {})]) == "No representation was compared yet."
    only = Field("KNN", {"a": 0.3}, shuffled={"a": Paired(0.1, 0, 0.2, 0.01)})
    assert helping([only]) == "Under KNN a helps."
    assert list(only.against("a")) == [SHUFFLED]


@pytest.mark.parametrize(
    ("sign", "said"),
    [
        (1, "under KNN the leader lies significantly above it"),
        (0, "under KNN no test tells the leader from it"),
        (-1, "under KNN it lies significantly above the leader"),
    ],
)
def test_the_leader_is_set_beside_listening_alone(sign, said):
    pair = Paired(0.1 * sign, -0.1, 0.1, 0.01 if sign else 0.6)
    each = Field("KNN", {"a": 0.3}, listening={"a": pair}, alone=("EASE", 0.4))
    assert adding([each]) == f"Beside listening alone (EASE, .400): {said}."
    assert adding([Field("KNN", {"a": 0.3})]) == ""


def test_numbers_are_short():
    assert [number(v) for v in (0.5, -0.25, 1.0, -0.0001, float("nan"))] == [
        ".500", "-.250", "1.000", ".000", "–"
    ]  # fmt: skip


def short_of(*verdicts):
    """Return in_short of a field for each string, of which letter n is the verdict on row rN."""
    sign = {"+": 1, "-": -1, "o": 0}
    fields = []
    for at, each in enumerate(verdicts):
        rows = {f"row{n}": 0.9 - n / 100 for n in range(len(each))}
        tests = {f"row{n}": Paired(0.1 * sign[v], 0, 0, 0.01 if v != "o" else 0.4)
                 for n, v in enumerate(each)}  # fmt: skip
        fields.append(Field(f"Recommender with a long name {at}", rows, shuffled=tests))
    return in_short(fields)


TOLD_SHORT = {
    ("+++", "+++"): "",  # helping says it in as few words
    ("++o", "+oo", "ooo", "o-o"): (
        "2 of 3 representations help at least one of 4 recommenders; row0 helps the most, 2 of "
        "them; row1 lies significantly below a control under at least one of 4 recommenders."
    ),
    ("+o", "+-", "++", "+-", "+o"): (
        "2 of 2 representations help at least one of 5 recommenders; row0 helps all; row1 lies "
        "significantly below a control under at least one of 5 recommenders."
    ),
    ("ooo", "o-o", "-oo", "--o"): (
        "Of 3 representations none was shown to help any of 4 recommenders; row0 and row1 lie "
        "significantly below a control under at least one of 4 recommenders."
    ),
    ("+oo", "o+o", "oo+", "ooo"): ("3 of 3 representations help at least one of 4 recommenders."),
}


@pytest.mark.parametrize("verdicts", TOLD_SHORT)
def test_many_recommenders_are_told_in_one_sentence_first(verdicts):
    assert short_of(*verdicts) == TOLD_SHORT[verdicts]
