"""A fingerprint of a backbone's code: an edited backbone is another backbone."""

from __future__ import annotations

import ast
import hashlib
import inspect
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLLOWED = "extract_item_embeddings"
ENGINE = f"{FOLLOWED}.engine"  # it serves all backbones alike, and is tested for all of them


def code_hash(backbone_class: type) -> str:
    """Return the fingerprint of what a backbone's vectors are computed by, 16 hex digits.

    It covers the file of the class that gives the backbone its name, those of its parents, and all
    that these import from `bases/`, `networks/` and other backbones. Comments, docstrings and
    layout have no part in it.
    """
    named = next(kind for kind in backbone_class.__mro__ if "name" in vars(kind))
    left = [Path(inspect.getsourcefile(kind)) for kind in named.__mro__ if kind is not object]
    code: dict[Path, str] = {}
    while left:
        path = left.pop()
        if path not in code and not _is_engine(path):
            tree = _tree(path)
            code[path] = ast.unparse(tree)
            left += _imported(tree)
    digest = hashlib.sha256()
    for path in sorted(code, key=lambda path: (path.name, path.as_posix())):
        digest.update(code[path].encode())
    return digest.hexdigest()[:16]


def _is_engine(path: Path) -> bool:
    return path.is_relative_to(ROOT / ENGINE.replace(".", "/"))


def _imported(tree: ast.Module) -> list[Path]:
    """Return the files of this package that a file imports; modules, and names from modules."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ours = sorted(name for name in modules if name.startswith(f"{FOLLOWED}."))
    files = [ROOT / f"{name.replace('.', '/')}.py" for name in ours]
    return [file for file in files if file.is_file()]


def _tree(path: Path) -> ast.Module:
    """Return a file's code without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                node.body = body[1:]
    return tree
