"""What every page of a report is asked in a browser; browsing.py has the fixtures."""

from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

BROKEN = r"""() => {
  const found = [];
  for (const cell of document.querySelectorAll("th, td, .plot dt, legend, summary")) {
    if (!cell.checkVisibility()) continue;
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      if (!texts.currentNode.parentElement.checkVisibility()) continue; // folded
      for (const word of texts.currentNode.data.matchAll(/(?<!\S)\S{2,14}(?!\S)/g)) {
        const range = document.createRange();
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        const tops = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
        if (tops.size > 1) found.push(word[0]);
      }
    }
  }
  return found;
}"""

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def outside(url: str, folder: Path) -> list[str]:
    parts = urlparse(url)
    inside = parts.scheme == "file" and Path(unquote(parts.path)).is_relative_to(folder)
    return [] if inside or parts.scheme == "data" else [f"outside the folder: {url}"]


def violations(page, of: str | None = None) -> list[tuple]:
    """Return what axe-core finds on a page (WCAG A, AA and best practices), or in parts."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page, context=of, options={"resultTypes": ["violations"]}).response[
        "violations"
    ]
    return [(each["id"], each["nodes"][0]["html"][:120]) for each in found]


def unfold(page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")


def broken_words(page) -> list[str]:
    """Return words and numbers of tables and cards that stand on two lines; long names may."""
    return page.evaluate(BROKEN)
