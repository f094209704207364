"""The structure of the code, read without running it: what imports what, and who knows a paper by its name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"onebit": "onebit", "quantizers": "onebit.quantizers", "zoo": "onebit.zoo", "recipes": "onebit.recipes"}
MODULES = {
    ".".join((package, *path.relative_to(ROOT / folder).with_suffix("").parts)).removesuffix(".__init__"): ast.parse(
        path.read_text(encoding="utf-8"), str(path)
    )
    for folder, package in FOLDERS.items()
    for path in sorted((ROOT / folder).rglob("*.py"))
}
PACKAGES = {name.rpartition(".")[0] for name in MODULES}


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes inside one, but for what a type checker alone reads."""
    left = [node]
    while left:
        for child in ast.iter_child_nodes(left.pop()):
            if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
                yield child
                left.append(child)


def imports(name: str) -> set[str]:
    """Return which of our modules a module imports, at its top or inside a function."""
    found = set()
    for node in running(MODULES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = name.split(".")[: None if name in PACKAGES else -1]
            parts = inside[: len(inside) - node.level + 1] if node.level else []
            base = ".".join([*parts, *filter(None, [node.module])])
            found |= {module if (module := f"{base}.{alias.name}") in MODULES else base for alias in node.names}
    return (found & MODULES.keys()) - {name, "onebit"}


IMPORTS = {name: imports(name) for name in MODULES}
PAPERS = {
    name
    for name, tree in MODULES.items()
    if name.startswith(("onebit.zoo.", "onebit.recipes."))
    and any(isinstance(n, ast.ImportFrom) and "register" in {a.name for a in n.names} for n in tree.body)
}
FLOORS = ("util", "quantizers", "rooms of the zoo", "papers", "recipes", "command line")
"""Each imports from itself and from those before it."""


def floor(module: str) -> int:
    part = module.split(".")[1] if "." in module else "cli"
    if part == "zoo":
        return FLOORS.index("papers" if module in PAPERS | {"onebit.zoo"} else "rooms of the zoo")
    return {"util": 0, "quantizers": 1, "recipes": 4, "cli": 5, "__main__": 5}[part]


def test_no_import_points_up():
    up = {f"{a} -> {b}" for a, others in IMPORTS.items() for b in others if floor(b) > floor(a)}
    assert not up


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter(IMPORTS).prepare()


def room(module: str) -> str:
    """Return the folder of the zoo that a module is in, else the module."""
    return ".".join(module.split(".")[:3])


def test_rooms_of_the_zoo():
    """A folder is one room, a module beside the folders another: few arrows between them, and no circle."""
    arrows: dict[str, set[str]] = {}
    for module in (name for name in MODULES if name.startswith("onebit.zoo.")):
        others = {room(other) for other in IMPORTS[module] if other.startswith("onebit.zoo.")}
        arrows.setdefault(room(module), set()).update(others - {room(module)})
    TopologicalSorter(arrows).prepare()
    assert sum(map(len, arrows.values())) <= 45, arrows


def functions(module: str) -> dict[str, ast.FunctionDef]:
    return {f"{module}.{n.name}": n for n in ast.walk(MODULES[module]) if isinstance(n, ast.FunctionDef)}


@pytest.mark.parametrize("paper", sorted(PAPERS))
def test_every_parameter_is_read(paper):
    """What an architecture declares it uses itself, so that "go to definition" leads to the layer that it acts on."""
    unread = set()
    for name, function in functions(paper).items():
        arguments = function.args
        declared = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        read = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        unread |= {f"{name}({a.arg})" for a in declared if a and a.arg not in read}
    assert not unread


def words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield what a module says apart from its prose: its names, and its strings but for those that stand alone."""
    prose = {id(node.value) for node in running(tree) if isinstance(node, ast.Expr)}
    for node in running(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value
        for field in ("id", "attr", "arg", "name", "module"):
            if isinstance(value := getattr(node, field, None), str):
                yield getattr(node, "lineno", 0), value


FORMATS = {name for name in MODULES if name.startswith("onebit.zoo.checkpoints.")}
# The demonstration shows one model. A file format is called after those who made it, and may be of one network.
SHARED = sorted(
    name
    for name in MODULES.keys() - PAPERS
    if not name.startswith("onebit.quantizers") and not name.endswith((".demo", ".mcdonnell_mat", ".larq_zoo_file"))
)
NAMES = {name.rpartition(".")[2] for name in PAPERS}
NAMES = {name.replace("_", "") for name in NAMES if not any(f".{name}_" in each for each in FORMATS)}


@pytest.mark.parametrize("module", SHARED)
def test_shared_code_names_no_paper(module):
    """A new paper is its own modules and rows of data: nothing shared knows one by its name."""
    known = {
        f"line {line}: {word}"
        for line, word in words(MODULES[module])
        if any(name in word.replace("_", "").replace("-", "").lower() for name in NAMES)
    }
    assert not known
