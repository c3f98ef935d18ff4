"""Who plays what when: a play log of invented users whose taste follows how tracks sound.

A user likes few styles, and of each style the tracks near one brightness; popularity is Zipf's;
tracks come out at their dates, the last of them after the default test date. A session keeps to
one style: some tracks are new to the user, the rest is heard again, favourites most often. So
the past of a user tells the style and brightness of what is discovered next, which no table of
plays can say of a track that came out yesterday.
"""

from __future__ import annotations

import numpy as np

FIRST_DAY = np.datetime64("2019-01-20")  # a month before the default train part
DAYS = 456  # to 2020-04-19: two months after the default test date
CATALOGUE = 0.4  # share of tracks that were out before the first day
ZIPF = 0.5  # popularity of the r-th track is (r + 10) ** -ZIPF
TASTE = 0.25  # Dirichlet concentration over styles: small is few styles
TOLERANCE = 0.12  # standard deviation of the brightness a user likes
NOVELTY = 15.0  # additional attention to a track on the day it comes out
NOVELTY_DAYS = 30  # days after which that has fallen to 1/e
DISCOVERIES = (30, 46)  # tracks a user gets to know, if there are enough
PLAYS_A_SESSION = 6


def listen(
    styles: np.ndarray, brightness: np.ndarray, n_users: int, n_plays: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return user_id int64, track int64 (row of styles) and datetime64[s] of every play, by time.

    Args:
        styles: int64 (n_tracks,) number of the style of each track.
        brightness: float64 (n_tracks,) from 0 to 1.
        n_users: all of them play.
        n_plays: at least 20 a user.
        seed: of every choice.
    """
    rng = np.random.default_rng([seed, 2])
    n_tracks = len(styles)
    popularity = (rng.permutation(n_tracks) + 10.0) ** -ZIPF
    age = rng.permutation(np.linspace(0, 1, n_tracks))  # 1 comes out last, 10 days before the end
    release = (age - CATALOGUE) / (1 - CATALOGUE) * (DAYS - 10)
    release[age < CATALOGUE] = -np.inf

    user_ids = np.sort(rng.choice(30 * n_users, n_users, replace=False)) + 1
    activity = rng.lognormal(0, 0.4, n_users).clip(0.5, 2.5)
    plays = np.diff(np.round(np.cumsum(activity) / activity.sum() * n_plays), prepend=0)
    plays = plays.astype(int)
    parts = []
    for n in plays:
        taste = rng.dirichlet(np.full(styles.max() + 1, TASTE))
        liking = np.exp(-(((brightness - rng.random()) / TOLERANCE) ** 2) / 2) + 0.005
        parts.append(_history(styles, taste, popularity * liking, release, n, rng))
    tracks, times = (np.concatenate(column) for column in zip(*parts, strict=True))
    users = np.repeat(user_ids, plays)
    order = np.lexsort((tracks, users, times))
    return users[order], tracks[order], times[order]


def _history(styles, taste, liking, release, n_plays: int, rng):
    """Return the tracks and the times of all plays of one user."""
    days = np.sort(rng.choice(DAYS, min(DAYS, -(-n_plays // PLAYS_A_SESSION)), replace=False))
    sizes = 1 + rng.multinomial(n_plays - len(days), np.full(len(days), 1 / len(days)))
    discoveries = min(rng.integers(*DISCOVERIES), 0.6 * n_plays, 0.6 * len(styles))
    counts = np.zeros(len(styles))
    tracks, times = [], []
    for day, size in zip(days, sizes, strict=True):
        mood = np.where(styles == rng.choice(len(taste), p=taste), 1, 0.02)
        novelty = NOVELTY * np.exp(-np.maximum(day - release, 0) / NOVELTY_DAYS)
        out_of_reach = (release > day) | (counts > 0)
        appeal = np.where(out_of_reach, 0, mood * liking * (1 + novelty))
        played = _session(appeal, mood * counts, size, discoveries / n_plays, rng)
        np.add.at(counts, played, 1)
        tracks.append(played)
        times.append(_clock(day, size, rng))
    return np.concatenate(tracks), np.concatenate(times)


def _session(appeal, known, size: int, share_new: float, rng) -> np.ndarray:
    """Return the tracks of one session: new ones by appeal, known ones by how often they ran."""
    n_new = size if not known.any() else rng.binomial(size, share_new)
    n_new = min(n_new, np.count_nonzero(appeal))
    new = _draw(appeal, n_new, rng)
    known = known.copy()
    known[new] += 1  # what is found may run again at once
    again = rng.choice(len(known), size - n_new, p=known / known.sum())
    return rng.permutation(np.concatenate([new, again]))


def _draw(weights, n: int, rng) -> np.ndarray:
    """Return n different indices, drawn one after another in proportion to the weights.

    Exponential race: the first n of arrivals at rates `weights`.
    """
    with np.errstate(divide="ignore"):
        arrivals = rng.exponential(size=len(weights)) / weights
    return np.argsort(arrivals)[:n]


def _clock(day, size: int, rng) -> np.ndarray:
    """Return the times of one session's plays, in seconds: an evening, a track every 2-6 min."""
    start = rng.normal(19, 3) % 24 * 3600
    seconds = start + np.cumsum(rng.uniform(120, 360, size))
    return FIRST_DAY.astype("datetime64[s]") + (day * 86_400 + seconds).astype("timedelta64[s]")
