"""Downloads from a server that cuts, throttles, lies about lengths and lacks ranges."""

import dataclasses
import hashlib
import time
from email.utils import formatdate

import numpy as np
import pytest

from core.options import InputError, WorkError
from open_data.sources import Source
from open_data.transfer import Mismatch, Pace, Part, Transfer, Unreachable, check_rate, verify
from tests.open_data.unreliable_server import (
    cutting,
    first_times,
    serve,
    serving,
    silent_after,
    without_ranges,
)

BODY = np.random.default_rng(0).bytes(400_000)
OTHER = np.random.default_rng(1).bytes(400_000)
FILES = {"/table": BODY}
MD5 = hashlib.md5(BODY).hexdigest()


def source_at(*addresses, **known):
    return Source(name="table", group="table", file="table", addresses=addresses, **known)


def quick(**more):
    return Transfer(**{"base_wait": 0.001, "tries": 4, "patience": (10, 10), **more})


def fetched(tmp_path, behave=None, files=FILES, known=None, **more):
    """Fetch /table from a server that behaves so; return (facts, requests, file's bytes)."""
    known = {"md5": MD5} if known is None else known
    with serving(files, {"/table": behave} if behave else {}) as server:
        source = source_at(f"{server.address}/table?download=1", **known)
        facts = quick(**more).fetch(source, tmp_path / "table")
        return facts, server.requests, (tmp_path / "table").read_bytes()


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_and_verified(tmp_path):
    facts, requests, body = fetched(tmp_path, known={"md5": MD5, "bytes": len(BODY)})
    assert body == BODY and leftovers(tmp_path) == ["table"]
    assert facts["checked"] == ["md5"] and facts["bytes"] == len(BODY)
    assert facts["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert requests == [("/table", None, None)]


def test_a_cut_connection_goes_on_where_it_was(tmp_path):
    _, requests, body = fetched(tmp_path, cutting(150_000))
    assert body == BODY
    firsts = [int(r[1].removeprefix("bytes=").rstrip("-")) for r in requests[1:]]
    assert firsts == [150_000, 300_000] and {r[2] for r in requests[1:]} == {'"v1"'}


def test_many_cuts_are_no_reason_to_give_up_while_bytes_arrive(tmp_path):
    _, requests, body = fetched(tmp_path, cutting(20_000), tries=2)
    assert body == BODY and len(requests) == 20


def test_another_command_goes_on_with_what_an_interrupted_one_left(tmp_path):
    with serving(FILES, {"/table": cutting(0)}) as server:
        source = source_at(f"{server.address}/table", md5=MD5)
        part = Part(tmp_path / "table")
        part.path.write_bytes(BODY[:100_000])
        part.note(source.addresses[0], '"v1"', len(BODY))
        server.behave = {}
        quick().fetch(source, tmp_path / "table")
        assert server.requests == [("/table", "bytes=100000-", '"v1"')]
    assert (tmp_path / "table").read_bytes() == BODY and leftovers(tmp_path) == ["table"]


def test_a_file_that_changed_meanwhile_starts_again(tmp_path):
    part = Part(tmp_path / "table")
    with serving({"/table": OTHER}) as server:
        source = source_at(f"{server.address}/table")
        part.path.write_bytes(BODY[:100_000])
        part.note(source.addresses[0], '"v0"', len(BODY))
        quick().fetch(source, tmp_path / "table")
        assert server.requests == [("/table", "bytes=100000-", '"v0"')]
    assert (tmp_path / "table").read_bytes() == OTHER


def test_without_mark_and_checksum_nothing_is_gone_on_with(tmp_path):
    def unmarked(handler, body):
        handler.answer(200, body)

    Part(tmp_path / "table").path.write_bytes(OTHER[:100_000])
    _, requests, body = fetched(tmp_path, unmarked, known={})
    assert body == BODY and requests == [("/table", None, None)]


def test_a_server_without_ranges_starts_again(tmp_path):
    _, requests, body = fetched(tmp_path, without_ranges(100_000, 50_000))
    assert body == BODY and len(requests) == 3


def test_a_server_without_ranges_that_always_cuts_is_given_up(tmp_path):
    cuts = [100_000, 90_000, 95_000] * 20
    with pytest.raises(WorkError, match="given up after 4 tries .the connection was cut"):
        fetched(tmp_path, without_ranges(*cuts))
    assert leftovers(tmp_path) == [".table.part", ".table.part.json"]


@pytest.mark.parametrize("status", [429, 503, 500])
def test_throttling_is_waited_for(tmp_path, status):
    told = []
    _, requests, body = fetched(tmp_path, first_times(3, status), tell=told.append)
    assert body == BODY and len(requests) == 4
    assert len(told) == 3 and f"status {status}" in told[0]


def test_retry_after_is_kept_as_seconds_and_as_a_date(tmp_path):
    started = time.time()
    fetched(tmp_path, first_times(1, 429, Retry_After="1"))
    assert time.time() - started > 0.95
    started = time.time()
    date = formatdate(started + 2, usegmt=True)  # of whole seconds
    fetched(tmp_path, first_times(1, 503, Retry_After=date))
    assert time.time() - started > 0.95


def test_throttled_for_ever_is_an_error_that_says_so(tmp_path):
    with pytest.raises(WorkError, match=r"table .table. could not be had: .*4 tries .status 429"):
        fetched(tmp_path, first_times(99, 429))


def test_silence_in_the_middle_is_a_cut(tmp_path):
    _, requests, body = fetched(tmp_path, silent_after(65_536 * 2, 3), patience=(10, 1))
    assert body == BODY and requests[1] == ("/table", "bytes=131072-", '"v1"')


def test_a_length_that_promises_more_than_there_is(tmp_path):
    def lying(handler, body):
        if handler.headers.get("Range"):
            serve(handler, body)  # 416, with the true length
        else:
            handler.answer(200, body, length=len(body) + 1000, ETag='"v1"')

    assert fetched(tmp_path, lying)[2] == BODY


def test_a_length_that_is_not_the_listed_one_is_refused(tmp_path):
    with pytest.raises(WorkError, match="400,000 bytes there, the list says 399,999"):
        fetched(tmp_path, known={"bytes": 399_999})
    assert leftovers(tmp_path) == []


def test_a_length_that_promises_less_does_not_pass(tmp_path):
    def lying(handler, body):
        handler.answer(200, body, length=1000)

    with pytest.raises(WorkError, match="md5 is .*nothing is kept"):
        fetched(tmp_path, lying)
    assert leftovers(tmp_path) == []


def test_without_any_length_the_checksum_decides(tmp_path):
    def endless(sent):
        def behave(handler, body):
            handler.send_response(200)
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.wfile.write(body[:sent])
            handler.close_connection = True

        return behave

    assert fetched(tmp_path, endless(None))[2] == BODY
    (tmp_path / "table").unlink()
    with pytest.raises(WorkError, match="md5"):
        fetched(tmp_path, endless(1000))
    with pytest.raises(WorkError, match="given up after 4 tries"):
        fetched(tmp_path, endless(1000), known={"md5": MD5, "bytes": len(BODY)})


def test_a_body_longer_than_the_list_says_is_dropped(tmp_path):
    def endless(handler, body):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    with pytest.raises(WorkError, match="longer than the 1,000 bytes"):
        fetched(tmp_path, endless, known={"bytes": 1000})
    assert leftovers(tmp_path) == []


def test_a_wrong_checksum_keeps_nothing(tmp_path):
    with pytest.raises(WorkError, match="its sha256 is .* the list says 0000"):
        fetched(tmp_path, known={"sha256": "0" * 64})
    assert leftovers(tmp_path) == []


def test_a_checksum_of_git_is_the_blobs(tmp_path):
    blob = hashlib.sha1(b"blob %d\0" % len(BODY) + BODY).hexdigest()
    assert fetched(tmp_path, known={"git": blob})[0]["checked"] == ["git"]


def test_an_unknown_checksum_is_told(tmp_path):
    facts = fetched(tmp_path, known={})[0]
    assert facts["checked"] == [] and len(facts["sha256"]) == 64


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<!DOCTYPE html><html>Sign in", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs"),
    ],
)
def test_what_servers_send_in_place_of_a_file(tmp_path, body, what):
    with pytest.raises(WorkError, match=what):
        fetched(tmp_path, files={"/table": body}, known={})
    assert leftovers(tmp_path) == []


def test_the_next_address_is_asked(tmp_path):
    with serving({"/b": OTHER, "/c": BODY}) as server:
        addresses = [f"{server.address}/{name}" for name in ("gone", "b", "c")]
        facts = quick().fetch(source_at(*addresses, md5=MD5), tmp_path / "table")
    assert facts["address"] == addresses[2] and (tmp_path / "table").read_bytes() == BODY


def test_a_missing_file_is_not_asked_for_again(tmp_path):
    with serving({}) as server:
        with pytest.raises(WorkError, match="status 404"):
            quick().fetch(source_at(f"{server.address}/table"), tmp_path / "table")
        assert len(server.requests) == 1


def test_redirects_are_followed_with_the_range(tmp_path):
    def elsewhere(handler, body):
        handler.answer(302, Location="/real")

    with serving({"/real": BODY}, {"/table": elsewhere, "/real": cutting(250_000)}) as server:
        quick().fetch(source_at(f"{server.address}/table", md5=MD5), tmp_path / "table")
        assert [r[0] for r in server.requests] == ["/table", "/real"] * 2
        assert server.requests[-1][1] == "bytes=250000-"


def test_what_a_server_calls_an_encoding_stays_packed(tmp_path):
    import gzip

    packed = gzip.compress(BODY[:1000])

    def encoded(handler, body):
        handler.answer(200, packed, Content_Encoding="gzip")

    assert fetched(tmp_path, encoded, known={})[2] == packed


def test_a_part_longer_than_the_file_starts_again(tmp_path):
    Part(tmp_path / "table").path.write_bytes(OTHER + BODY)
    assert fetched(tmp_path)[2] == BODY


def test_a_whole_part_is_only_verified(tmp_path):
    Part(tmp_path / "table").path.write_bytes(BODY)
    _, requests, body = fetched(tmp_path)
    assert body == BODY and requests == [("/table", "bytes=400000-", None)]


def test_another_range_than_asked_for_is_not_appended(tmp_path):
    def confused(handler, body):
        if handler.headers.get("Range"):
            handler.answer(206, body, Content_Range=f"bytes 0-{len(body) - 1}/{len(body)}")
        else:
            serve(handler, body)

    Part(tmp_path / "table").path.write_bytes(BODY[:1000])
    assert fetched(tmp_path, confused)[2] == BODY


def test_without_a_network_no_time_is_lost(tmp_path):
    with serving({}) as server:
        address = server.address  # of nobody, afterwards
    with pytest.raises(Unreachable, match="given up after 3 tries .the connection was refused"):
        quick(tries=50).fetch(source_at(f"{address}/table"), tmp_path / "table")


def test_a_folder_stands_in_for_a_server(tmp_path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "table").write_bytes(BODY)
    source = source_at(str(tmp_path / "mirror" / "table"), md5=MD5)
    quick().fetch(source, tmp_path / "table")
    assert (tmp_path / "table").read_bytes() == BODY
    gone = dataclasses.replace(source, addresses=(str(tmp_path / "gone"),))
    with pytest.raises(WorkError, match="no such file"):
        quick().fetch(gone, tmp_path / "other")


def test_the_pace_is_one_for_all():
    pace = Pace(1000, clock=lambda: 5.0)
    assert [pace.wait_for(n) for n in (500, 1000, 1)] == [0.0, 0.5, 1.5]
    assert Pace(None).wait_for(10**9) == 0


def test_a_limited_rate_takes_its_time(tmp_path):
    started = time.monotonic()
    fetched(tmp_path, pace=Pace(check_rate("800kB")))
    assert time.monotonic() - started > 0.3


@pytest.mark.parametrize("text", ["fast", "-1", "0", "2TB", ""])
def test_a_rate_that_is_none(text):
    with pytest.raises(InputError, match="--limit-rate"):
        check_rate(text)


def test_rates():
    assert [check_rate(t) for t in (None, "500", "2MB", "1.5M/s", "3k")] == [
        *(None, 500, 2_000_000, 1_500_000, 3000)
    ]


def test_verify_names_what_differs(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    with pytest.raises(Mismatch, match="3 bytes, the list says 4"):
        verify(source_at("http://x/f", bytes=4), tmp_path / "f")
