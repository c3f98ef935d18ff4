"""The graph of jobs as people see it: each below the last of those it waits for."""

from __future__ import annotations

from extract_item_embeddings.engine.shards import array_expression
from study.graph import Node


def tree(nodes: list[Node], more=lambda node: "") -> list[str]:
    """Return the lines of the graph as a tree; `more` is said after a stage."""
    by_name = {node.stage.name: node for node in nodes}
    children: dict[str | None, list[Node]] = {}
    for node in nodes:
        waits_for = [name for name in node.stage.needs if not by_name[name].done]
        children.setdefault(waits_for[-1] if waits_for else None, []).append(node)

    def lines(parent: str | None, indent: str):
        below = children.get(parent, [])
        for node in below:
            last = node is below[-1]
            stem, deeper = (
                ("", "") if parent is None else ("└─ ", "   ") if last else ("├─ ", "│  ")
            )
            yield f"{indent}{stem}{_label(node, by_name)}{more(node)}"
            yield from lines(node.stage.name, indent + deeper)

    return list(lines(None, ""))


def _label(node: Node, by_name: dict[str, Node]) -> str:
    if node.done:
        return f"{node.stage.name}: done"
    jobs = dict.fromkeys(task.job for task in node.active())
    known = f" in the queue as {', '.join(map(str, jobs))}" if jobs else ""
    gone = dict.fromkeys(task.job for task in node.let_go)
    new = f" {node.submitted}" if node.submitted else ""
    if node.submitted and node.stage.array:
        new += f"_[{array_expression(node.jobs[-1]['tasks'])}]"
    if gone and node.submitted:
        known += f" in place of {', '.join(map(str, gone))}"
    others = [n for n in node.stage.needs if not by_name[n].done][:-1]
    more = f" (and after {len(others)} others)" if len(others) > 2 else ""
    if 0 < len(others) <= 2:
        more = f" (and after {', '.join(others)})"
    if node.memory:
        more += f", with {node.memory:,} MB, twice as much, as it ran out of memory"
    return f"{node.stage.name}:{new}{known}{more}"
