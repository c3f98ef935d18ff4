"""A report in a real browser: the fixtures.

A module of tests that has a fixture `folder`, the report's, names this one in pytest_plugins.
The browser is Debian's chromium (apt-get install chromium). Without one these tests skip, unless
REQUIRE_BROWSER says that they must run.
"""

import os
import shutil

import pytest
from pages import SIZES, outside


@pytest.fixture(scope="module")
def browser():
    required = os.environ.get("REQUIRE_BROWSER")
    path = shutil.which("chromium")
    if not path and not required:
        pytest.skip("no chromium here; apt-get install chromium")
    assert path, "REQUIRE_BROWSER is set, but there is no chromium; apt-get install chromium"
    api = pytest.importorskip("playwright.sync_api") if not required else None
    from playwright.sync_api import sync_playwright

    del api
    with sync_playwright() as playwright:
        # Root has no sandbox; a machine for tests has no sound card.
        flags = ["--no-sandbox", "--mute-audio"]
        yield playwright.chromium.launch(executable_path=path, args=flags)


@pytest.fixture
def visit(browser, folder):
    """Open a page of the report: (name, size, scheme) -> page. Afterwards nothing must have failed.

    What the page asked for must lie in the folder, and the console must have stayed quiet.
    """
    contexts, troubles = [], []

    def visit(name, size="desktop", scheme="light", **options):
        width, height = SIZES[size]
        viewport = {"width": width, "height": height}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda request: troubles.extend(outside(request.url, folder)))
        page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
        page.goto(f"file://{folder}/{name}")
        return page

    visit.expected = []  # starts of troubles that a test makes itself
    yield visit
    for context in contexts:
        context.close()
    assert [each for each in troubles if not each.startswith(tuple(visit.expected))] == []
