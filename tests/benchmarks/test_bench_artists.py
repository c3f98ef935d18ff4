"""The planted artists: sound gains where it says more than they do, and only there."""

import json

from benchmarks.bench_artists import ArtistsConfig, main


def test_sound_gains_where_an_artist_plays_two_tastes_and_seldom_where_it_plays_one(capsys):
    main(ArtistsConfig(draws=12, users=80))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["beyond"]["gains"] == 12 and found["beyond"]["mean"] > 0.1
    assert found["only"]["gains"] <= 3 and abs(found["only"]["mean"]) < 0.01
