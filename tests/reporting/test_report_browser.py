"""The report in a real browser: sorting, searching, playing, by mouse and by keyboard, offline."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import call_main
from pages import SIZES, broken_words, unfold, violations
from studies import add_audio, add_comparisons, add_styles, make_study

from core.trackids import read_trackids

pytest_plugins = ("browsing",)
STRANGE = "<i>&'%20#?"  # a track id that is markup, and not an address


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The report of a small study, with its audio copied."""
    top = tmp_path_factory.mktemp("study")
    root = make_study(top / "root", ids=["!", STRANGE, *(f"T{i:03}" for i in range(158))])
    add_styles(root)
    add_comparisons(root, {"toy": 0.9, "noise": 0.5}, [{"toy", "noise"}])
    add_audio(top / "audio", read_trackids(root))
    call_main("report", "--root", root, "--audio", top / "audio", "--copy-audio")
    return shutil.move(root / "report", top / "elsewhere")  # it must not need its root


def columns(page, table, place):
    """Return what a column sorts by, of each body of the table."""
    script = f"all => all.map(b => [...b.rows].map(row => row.cells[{place}].dataset.sort))"
    return page.eval_on_selector_all(f"#table-{table} tbody", script)


def test_every_table_sorts_by_every_heading_and_says_how(visit):
    page = visit("index.html")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    tables = page.eval_on_selector_all("table[data-sortable]", "all => all.map(each => each.id)")
    assert {"table-results", "table-runs", "table-embeddings", "table-comparisons"} <= set(tables)
    for name in tables:
        heads = page.locator(f"#{name} thead th:visible")
        assert heads.count() > 3
        for at in range(heads.count()):
            head, table = heads.nth(at), name.removeprefix("table-")
            numeric = "n" in (head.get_attribute("class") or "")
            for way in ("descending", "ascending") if numeric else ("ascending", "descending"):
                head.locator("button").click()
                assert head.get_attribute("aria-sort") == way
                for values in columns(page, table, head.evaluate("head => head.cellIndex")):
                    last = [value for value in values if value == ""]
                    there = [float(v) if numeric else v.lower() for v in values if v]
                    assert values[len(there) :] == last, (name, at, way)
                    assert there == sorted(there, reverse=way == "descending"), (name, at, way)
        assert page.locator(f"#{name} th[aria-sort]").count() == 1


def test_a_table_sorts_by_keyboard(visit):
    page = visit("index.html")
    button = page.locator("#table-results th button", has_text="HitRate@50")
    for key, way in (("Enter", "descending"), ("Space", "ascending")):
        button.focus()
        page.keyboard.press(key)
        assert button.locator("..").get_attribute("aria-sort") == way


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_the_screen_and_figures_are_the_ones_for_it(visit, size, scheme):
    page = visit("index.html", size, scheme)
    page.evaluate("document.querySelectorAll('img').forEach(each => { each.loading = 'eager' })")
    page.wait_for_function("[...document.images].every(each => each.complete)")
    shown = page.eval_on_selector_all(
        "picture img", "all => all.map(each => [each.currentSrc, each.naturalWidth])"
    )
    assert len(shown) >= 6
    for source, width in shown:
        assert width > 0
        assert ("-narrow" in source) == (size == "phone")
        assert ("-dark" in source) == (scheme == "dark")
    pages = [page, visit("listen.html", size, scheme), visit("listen.html#user=", size, scheme)]
    pages[2].locator("#mode").get_by_text("a user").click()
    for each in pages:
        assert each.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]


def test_text_can_be_read_in_light_and_dark(visit):
    """Contrast of 4.5 at least (WCAG AA) for text of every kind that the pages have."""
    script = """() => {
      const parse = (text) => text.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
      const paper = (node) => {
        for (; node; node = node.parentElement) {
          const color = parse(getComputedStyle(node).backgroundColor);
          if (color.length < 4 || color[3] === 1) return color;
        }
        return [255, 255, 255];
      };
      const low = [];
      for (const node of document.querySelectorAll("main *, nav *")) {
        const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
        if (!own || !node.checkVisibility() || node.closest("option, .skip")) continue;
        const [a, b] = [light(parse(getComputedStyle(node).color)), light(paper(node))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) low.push(`${node.tagName}.${node.className} ${contrast.toFixed(2)}`);
      }
      return [...new Set(low)];
    }"""
    for scheme in ("light", "dark"):
        for name in ("index.html", "listen.html"):
            page = visit(name, scheme=scheme)
            if name == "listen.html":
                page.locator("#mode").get_by_text("a user").click()
            assert page.evaluate(script) == [], (scheme, name)


def wait_for_sound(page):
    page.wait_for_function("() => { const a = document.getElementById('audio'); "
                           "return a.currentTime > 0.05 && a.duration > 0.9; }")  # fmt: skip


def test_a_track_is_found_by_keyboard_and_its_neighbours_play(visit):
    page = visit("listen.html")
    search = page.locator("#search")
    search.focus()
    page.keyboard.type("t00")
    options = page.locator("#found [role=option]")
    assert options.count() > 1 and all("T00" in text for text in options.all_inner_texts())
    wanted = options.nth(1).locator("span").inner_text()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert search.get_attribute("aria-activedescendant") == options.nth(1).get_attribute("id")
    page.keyboard.press("Enter")
    assert page.locator("#chosen .name").inner_text().startswith(wanted)
    assert page.url.endswith(f"#track={wanted}")
    assert page.locator("#found-box").is_hidden()

    columns = page.locator("#neighbours section")
    columns.nth(2).wait_for()
    assert columns.locator("h2").all_inner_texts() == ["shuffled", "toy", "noise"]
    cosines = [float(c) for c in re.findall(r"cosine (-?\.?\d+)", columns.nth(1).inner_text())]
    assert len(cosines) == 8 and cosines == sorted(cosines, reverse=True)
    for at in range(3):
        assert columns.nth(at).locator("li").count() == 8
    assert wanted not in columns.nth(1).locator("ol").inner_text()

    button = columns.nth(1).locator(".play").first
    page.evaluate("document.getElementById('audio').loop = true")  # or a slow test finds it ended
    for paused in ("false", "true"):
        button.focus()
        page.keyboard.press("Enter")
        if paused == "false":
            wait_for_sound(page)
        wanted_state = [button.get_attribute("data-place"), paused]
        page.wait_for_function(
            """([place, paused]) => String(document.getElementById("audio").paused) === paused &&
              document.querySelector(`#neighbours [data-place="${place}"] .play`)
                .getAttribute("aria-pressed") !== paused""",
            arg=wanted_state,
        )

    first = columns.nth(1).locator("a").first
    name = first.inner_text()
    first.click()
    page.wait_for_function("name => document.querySelector('#chosen .name').innerText"
                           ".startsWith(name)", arg=name)  # fmt: skip
    page.go_back()
    page.wait_for_function("name => document.querySelector('#chosen .name').innerText"
                           ".startsWith(name)", arg=wanted)  # fmt: skip


def test_play_all_goes_on_with_the_next_track(visit):
    page = visit("listen.html")
    page.locator("#neighbours section").nth(1).get_by_text("Play all").click()
    wait_for_sound(page)
    names = page.locator("#neighbours section").nth(1).locator(".name > :first-child")
    page.wait_for_function(  # a clip is a second long
        "name => document.getElementById('playing').textContent.startsWith(name)",
        arg=names.nth(1).inner_text(),
    )


def test_a_track_whose_id_is_markup_is_shown_as_text_and_plays(visit):
    page = visit("listen.html")
    page.locator("#search").fill(STRANGE)
    page.keyboard.press("Enter")
    assert page.locator("#chosen .name > :first-child").inner_text() == STRANGE
    page.locator("#chosen .play").click()
    wait_for_sound(page)


def test_a_search_without_a_match_says_so(visit):
    page = visit("listen.html")
    page.locator("#search").fill("no such thing")
    assert page.locator("#found-box").inner_text() == "no such track here"
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert page.locator("#found-box").is_hidden()


def test_an_address_of_nobody_and_a_missing_clip_are_told_in_words_and_go_on(visit, folder):
    page = visit("listen.html#track=nobody")
    assert page.locator("#said").inner_text() == (
        "There is no track nobody on this page; here is another."
    )
    page.goto(page.url.replace("track=nobody", "user=987654"))
    page.wait_for_function("document.getElementById('said').textContent.includes('user 987654')")
    page.goto(page.url.replace("user=987654", "track=T005"))
    column = page.locator("#neighbours section").nth(1)
    column.wait_for()
    names = column.locator(".name > :first-child")
    first = folder / "audio" / f"{names.first.inner_text()}.mp3"
    kept = first.rename(first.with_suffix(".away"))
    visit.expected += ["failed: ", "console: Failed to load resource"]
    column.get_by_text("Play all").click()
    page.wait_for_function(
        "() => document.getElementById('playing').textContent.includes('not there')"
    )
    assert names.nth(1).inner_text() in page.locator("#playing").inner_text()
    kept.rename(first)


def test_a_map_is_walked_by_keys_marks_every_embedding_and_plays(visit):
    page = visit("listen.html#map=T005")
    canvases = page.locator("#maps canvas")
    canvases.nth(1).wait_for()
    assert canvases.count() == 2  # noise has no map
    assert page.locator("#point .name").inner_text().startswith("T005")
    pictures = "[...document.querySelectorAll('#maps canvas')].map(each => each.toDataURL())"
    before = page.evaluate(pictures)
    canvases.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    after = page.evaluate(pictures)
    assert not page.locator("#point .name").inner_text().startswith("T005")
    assert before[0] != after[0] and before[1] != after[1]
    page.keyboard.press("Enter")
    wait_for_sound(page)
    page.locator("#map-mode").get_by_text("plays in train").click()
    assert "most plays" in page.locator("#legend").inner_text()
    assert page.evaluate(pictures)[0] != after[0]


def test_the_leaderboard_filters_pins_controls_and_stands_in_the_address(visit):
    page = visit("index.html")
    board = page.locator("#table-results")
    for name, value in (("recommender", "knn"), ("metric", "NDCG"), ("k", "10")):
        page.locator(f"#filters [name={name}][value='{value}'] + span").click()
    shown = board.locator("tbody.rows tr:visible td:first-child")
    assert set(shown.all_inner_texts()) == {"KNN"}
    heads = [head.strip() for head in board.locator("thead th:visible").all_inner_texts()]
    assert heads[-1].startswith("NDCG@10") and len(heads) == 6
    board.locator("th:visible button", has_text="NDCG@10").click()
    assert page.url.endswith("#recommender=knn&metric=NDCG&k=10&sort=-NDCG%4010")
    controls = board.locator("tbody.controls tr:visible").all_inner_texts()
    assert any("noise" in row for row in controls) and any("popular" in row for row in controls)
    with page.expect_download() as download:
        page.locator("#take-csv").click()
    head, *rows = Path(download.value.path()).read_text().splitlines()
    assert head.endswith("NDCG@10,NDCG@10_ci95")
    assert len(rows) == shown.count() + len(controls)
    with page.expect_download() as download:
        page.locator("#take-tex").click()
    text = Path(download.value.path()).read_text()
    assert all(part in text for part in (r"\caption{", r"\midrule", r"\textbf{", r"\label{"))

    again = visit(page.url.rpartition("/")[2])
    assert again.locator("[name=k][value='10']").is_checked()
    assert again.locator("th[aria-sort=descending]").inner_text().strip().startswith("NDCG@10")


def test_who_gains_is_told_of_any_two_rows(visit):
    page = visit("index.html")
    page.locator("#gains summary").click()
    page.wait_for_function("document.getElementById('gains-told').textContent.includes('better')")
    assert page.locator("#gains .histogram i").count() == 21
    rows = page.locator("#gains tbody tr")
    assert {"activity", "popularity"} <= set(rows.locator("td:first-child").all_inner_texts())
    page.locator("#one").select_option(label="KNN: toy")
    page.locator("#other").select_option(label="KNN: toy")
    page.wait_for_function(
        "document.getElementById('gains-told').textContent.includes('the same for 100 %')"
    )


@pytest.mark.parametrize("size", ["desktop", "phone", "paper"])
def test_no_word_of_a_table_is_broken_and_all_metrics_fit(visit, size):
    page = visit("index.html", "desktop" if size == "paper" else size)
    if size == "paper":
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 688, "height": 1000})
    page.locator("#gains").evaluate("each => { each.open = true; }")
    page.wait_for_function("document.getElementById('gains-told').textContent.includes('better')")
    assert broken_words(page) == []
    if size != "phone":
        board = page.locator(".board")
        assert board.evaluate("each => each.scrollWidth - each.clientWidth") <= 0


def test_users_without_a_difference_have_a_bar_of_their_own(visit):
    page = visit("index.html")
    counts = page.evaluate(
        """[...histogram([0, 0, 0, 0.01, -0.04, 0.1, 0.11, 1, -1, -0.95]).children]
          .map((each) => parseInt(each.title))"""
    )
    middle = len(counts) // 2
    assert counts[middle - 1 : middle + 3] == [1, 3, 2, 1]
    assert counts[0] == 2 and counts[-1] == 1 and sum(counts) == 10


def test_an_interval_is_students_and_of_one_user_there_is_none(visit):
    page = visit("index.html")
    for freedom, quantile in ((4, 2.776), (10, 2.228), (60, 2.0003), (6000, 1.9603)):
        assert page.evaluate(f"studentT({freedom})") == pytest.approx(quantile, rel=0.01)
    assert page.evaluate("give(summary([0.25]))") == ".250"
    assert page.evaluate("give(summary([0.1, 0.2, 0.3, 0.4, 0.5]))") == ".300 \u00b1 .196"


def test_a_place_on_the_page_is_no_state_of_it(visit):
    """The skip link, and headings: what is shown stays."""
    page = visit("index.html#recommender=knn&k=10")
    page.evaluate("location.hash = '#content'")
    page.wait_for_function("location.hash === '#content'")
    page.wait_for_timeout(100)
    assert page.locator("[name=recommender][value=knn]").is_checked()
    assert page.locator("[name=k][value='10']").is_checked()
    page = visit("listen.html#user=")
    page.locator("#known section").first.wait_for()
    page.evaluate("location.hash = '#content'")
    page.wait_for_timeout(100)
    assert page.locator("#user-mode").is_visible() and page.locator("#track-mode").is_hidden()


def test_a_title_is_found_without_its_accents_and_runs_its_own_way(visit):
    page = visit("listen.html")
    page.evaluate(
        """() => { tracks[3].name = tracks[3].title = "Bj\u00f6rk: J\u00f3ga"; texts = null;
          tracks[4].name = tracks[4].title = "\u05e9\u05dc\u05d5\u05dd: 12 <b>&"; }"""
    )
    page.locator("#search").fill("bjork joga")
    assert page.locator("#found [role=option]").count() == 1
    page.locator("#search").fill("12 <b>")
    option = page.locator("#found [role=option]")
    assert option.locator("span").inner_text().endswith("12 <b>&")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#chosen').textContent.includes('12 <b>&')")
    name = page.locator("#chosen .name > :first-child")
    assert name.evaluate("each => getComputedStyle(each).unicodeBidi") == "isolate"
    page.evaluate("tracks[4].name = 'x'.repeat(4000); showTrack(4)")
    page.wait_for_function("document.querySelector('#chosen').textContent.includes('xxxx')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_tracks_of_no_known_style_are_told_apart_on_the_map(visit):
    page = visit("listen.html#map=")
    page.locator("#legend li").first.wait_for()
    known = page.locator("#legend li").all_inner_texts()
    assert "not known" not in known
    page.evaluate("() => { tracks[0].kind = -1; showMaps(0); }")
    page.wait_for_function("document.getElementById('legend').textContent.includes('not known')")
    assert page.evaluate("colour(tracks[0])") not in page.evaluate("Object.values(COLOURS).flat()")


@pytest.mark.parametrize(
    ("size", "scheme"), [("desktop", "light"), ("desktop", "dark"), ("phone", "light")]
)
def test_axe_finds_no_violation(visit, size, scheme):
    """Every page and mode, by axe-core (WCAG A, AA and best practices)."""
    for name in ("index.html", "listen.html", "listen.html#user=", "listen.html#map="):
        page = visit(name, size, scheme)
        if name == "index.html":
            unfold(page)
        else:
            page.locator("li.track:visible").first.wait_for()
        assert violations(page) == [], name


def test_forced_colours_and_paper_keep_the_intervals_and_the_chosen_chip(visit):
    page = visit("index.html", forced_colors="active")
    styles = page.evaluate(
        """() => [".plot .span", ".plot .dot"].map((one) => {
          const style = getComputedStyle(document.querySelector(one));
          return [style.borderTopWidth, style.borderTopStyle];
        })"""
    )
    assert all(float(width[:-2]) >= 2 and line == "solid" for width, line in styles)
    chips = page.eval_on_selector_all(
        "#filters [name=k] + span", "all => all.map(each => getComputedStyle(each).backgroundColor)"
    )
    assert sorted(map(chips.count, set(chips))) == [1, len(chips) - 1]

    page = visit("index.html", scheme="dark")
    page.emulate_media(media="print")
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert max(int(c) for c in re.findall(r"\d+", ink)[:3]) < 60
    figures = page.eval_on_selector_all(
        "figure img", "all => all.filter(each => each.checkVisibility()).map(each => each.src)"
    )
    assert len(figures) >= 6 and not any("-dark" in source for source in figures)
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 less its margins, at 96 an inch
    assert page.evaluate("document.documentElement.scrollWidth") <= 688


def test_a_users_history_and_lists_are_shown_with_hits_marked_and_heard(visit):
    page = visit("listen.html", "phone")
    page.locator("#mode").get_by_text("a user").click()
    page.locator("#user").select_option(index=1)
    page.wait_for_url("**#user=*")
    held = page.locator("#known section").nth(1).locator(".name > :first-child").all_inner_texts()
    assert page.locator("#known section").first.locator("li").count() == 12
    for group, columns in (("Shallow Net", 2), ("Controls", 3), ("KNN", 2)):
        page.locator("#group").get_by_text(group).click()
        count = "document.querySelectorAll('#lists section').length"
        page.wait_for_function(f"{count} === {columns}")
    for column in page.locator("#lists section").all():
        names = column.locator(".name > :first-child").all_inner_texts()
        hits = column.locator("li.hit .name > :first-child").all_inner_texts()
        assert len(names) == 50 and hits == [name for name in names if name in held]
        assert column.locator("mark").count() == len(hits)
    assert page.locator("#lists li.hit").count() > 0
    page.locator("#lists .play").first.click()
    wait_for_sound(page)
