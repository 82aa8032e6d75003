"""Who may import whom, and who may read the environment (docs/architecture.md, The picture)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("sidecar", "workers", "ml_backend")
OURS = ("bridge", *PROGRAMS, "stack", "demo", "chaos", "tests")
VENDORS_OF_EDGES = {
    "boto3",
    "botocore",
    "redis",
    "rq",
    "httpx",
    "label_studio_sdk",
    "dotenv",
    "pyarrow",
    "msgspec",
}
HEAVY = {"torch", "torchvision", "ultralytics", "numpy", "PIL", "cv2"}
ENTRY_POINTS = {"sidecar/__main__.py", "sidecar/cli.py", "sidecar/server.py", "workers/__main__.py"}
ENTRY_POINTS |= {"ml_backend/__main__.py", "ml_backend/server.py"}


def sources(package: str) -> list[Path]:
    return sorted(p for p in (ROOT / package).rglob("*.py") if "__pycache__" not in p.parts)


def imports(path: Path) -> Iterator[str]:
    """The dotted name of everything a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it leads"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(name: str) -> str:
    return name.partition(".")[0]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sorted((ROOT / "bridge").glob("*.py")), ids=name_of)
def test_bridge_imports_the_standard_library_and_itself(path: Path) -> None:
    for name in imports(path):
        assert top(name) in sys.stdlib_module_names or top(name) == "bridge", name
        assert not name.startswith("bridge.edges"), name


@pytest.mark.parametrize("path", sorted((ROOT / "bridge").glob("*.py")), ids=name_of)
def test_bridge_does_no_io(path: Path) -> None:
    touching = {"socket", "subprocess", "http.client", "urllib.request", "sqlite3", "logging"}
    assert not touching & {name for name in imports(path) if name in touching or top(name) in touching}


@pytest.mark.parametrize("path", sources("bridge/edges"), ids=name_of)
def test_the_edges_import_bridge_and_the_vendors(path: Path) -> None:
    for name in imports(path):
        assert top(name) in sys.stdlib_module_names | VENDORS_OF_EDGES | {"bridge"}, name


@pytest.mark.parametrize("path", [p for program in PROGRAMS for p in sources(program)], ids=name_of)
def test_programs_import_bridge_and_never_each_other(path: Path) -> None:
    me = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        assert top(name) not in set(OURS) - {me, "bridge"}, name


@pytest.mark.parametrize(
    "path", [p for package in ("bridge", "sidecar", "workers") for p in sources(package)], ids=name_of
)
def test_only_the_ml_backend_needs_torch(path: Path) -> None:
    assert not HEAVY & {top(name) for name in imports(path)}


@pytest.mark.parametrize(
    "path", [p for package in ("bridge", *PROGRAMS) for p in sources(package)], ids=name_of
)
def test_only_entry_points_read_the_environment(path: Path) -> None:
    if name_of(path) in ENTRY_POINTS:
        return
    tree = ast.parse(path.read_text())
    reads = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "environb", "getenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]
    assert not reads, (
        f"line {reads[0].lineno}: settings are arguments; only entry points read the environment"
    )
    assert not {"os.environ", "os.getenv"} & set(imports(path))


@pytest.mark.parametrize(
    "path", [p for package in ("bridge", *PROGRAMS) for p in sources(package)], ids=name_of
)
def test_nobody_prints_but_the_command_line(path: Path) -> None:
    if path.name in ("__main__.py", "cli.py"):
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
