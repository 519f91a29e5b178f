"""The folders are the architecture: imports run one way, and models and trainers need no Ray, MLflow or Optuna."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("models", "trainers", "platform", "jobs")
ROOMS = {
    "base": (),
    "spec": ("base",),
    "gate": ("spec", "base"),
    "storage": ("base",),
    "services": ("base",),
    "tracking": ("storage", "base"),
    "workers": ("tracking", "storage", "spec", "base"),
    "ledger": ("workers", "spec", "base"),
    "cluster": ("ledger", "services", "tracking", "storage", "spec", "base"),
    "registry": ("gate", "ledger", "tracking", "storage", "spec", "base"),
    "sweep": ("gate", "ledger", "workers", "tracking", "storage", "spec", "base"),
    "pages": ("registry", "gate", "ledger", "tracking", "services", "storage", "spec", "base"),
}
"""What each room of platform/ may import. None comes before one that it imports, so there is no circle."""
OF_WORKERS = {"ledger": {"account"}}
"""Where not all of another room may be imported, the modules that may."""
SERVICES = ("ray", "mlflow", "optuna", "boto3")
OF_EXTRAS = ("transformers", "huggingface_hub", "pydantic")
"""What only some networks need, or the spec alone."""
MODULES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
IN_ROOMS = [path for path in MODULES if path.relative_to(ROOT).parts[0] == "platform"]


def imports_of(path: Path) -> set[str]:
    """Absolute names of what a module imports, `advseg.` for this project's own; of a package also what it takes."""
    package = ["advseg", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_from_its_own_layer_and_those_below(path):
    layer = LAYERS.index(path.relative_to(ROOT).parts[0])
    above = {f"advseg.{name}" for name in LAYERS[layer + 1 :]}
    upward = {name for name in imports_of(path) if ".".join(name.split(".")[:2]) in above}
    assert not upward


@pytest.mark.parametrize("path", IN_ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_from_those_that_it_may(path):
    room = path.relative_to(ROOT).parts[1]
    for name in imports_of(path):
        if name.startswith("advseg.platform."):
            other, *module = name.split(".")[2:]
            assert other == room or other in ROOMS[room], f"{room} must not import {name}"
            if other == "workers" and room in OF_WORKERS and module:
                assert module[0] in OF_WORKERS[room], f"{room} must not import {name}"


def test_the_rooms_are_in_an_order_without_circles():
    names = list(ROOMS)
    assert all(names.index(below) < place for place, room in enumerate(names) for below in ROOMS[room])
    assert set(names) == {path.name for path in (ROOT / "platform").iterdir() if (path / "__init__.py").exists()}


def test_the_guide_says_what_each_room_may_import():
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\|([^|]*)\|$", (ROOT / "docs" / "design.md").read_text(), re.M)
    told = {room: set(re.findall(r"\w+", re.sub(r"\(.*?\)", "", may))) for room, may in rows}
    assert told == {room: set(may) for room, may in ROOMS.items()}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_within_the_project_imports_are_relative(path):
    absolute = {
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("advseg")
    }
    assert not absolute


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("models/bad.py", "from ..trainers.loop import Training"),
        ("platform/base/bad.py", "from ..spec.spec import Spec"),
        ("platform/spec/bad.py", "from .. import ledger"),
        ("platform/ledger/bad.py", "from ..workers.task import Task"),
        ("platform/tracking/bad.py", "def lazily():\n    from ..workers import lease"),
    ],
)
def test_a_planted_arrow_that_runs_back_is_seen(tmp_path, monkeypatch, place, line):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    module = tmp_path / place
    module.parent.mkdir(parents=True)
    module.write_text(f"{line}\n")
    with pytest.raises(AssertionError):
        test_a_module_imports_from_its_own_layer_and_those_below(module)
        test_a_room_imports_from_those_that_it_may(module)


def test_models_and_trainers_import_without_the_services():
    modules = [
        ".".join(["advseg", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        for path in MODULES
        if path.relative_to(ROOT).parts[0] in ("models", "trainers")
    ]
    # A None in sys.modules makes an import fail.
    block = f"import sys; sys.modules.update(dict.fromkeys({(*SERVICES, *OF_EXTRAS)!r}))"
    program = f"{block}\nimport importlib\nfor name in {modules!r}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_platform_itself_is_no_regular_package_and_its_rooms_are():
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not (ROOT / "tests" / "platform" / "__init__.py").exists()
    # Where an older image merges with a job's code, a room without it would lose to a module of its name.
    assert not [
        path for path in (ROOT / "platform").iterdir() if path.name[0] != "_" and not (path / "__init__.py").exists()
    ]


def test_no_file_in_platform_bears_a_standard_library_name():
    assert not {path.stem for path in IN_ROOMS} & sys.stdlib_module_names


def test_every_package_is_in_the_wheel():
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in MODULES} | {Path("platform")}
    assert sorted(listed) == sorted(".".join(["advseg", *folder.parts]) for folder in folders)


def test_no_file_names_what_lies_outside_the_project():
    outside = ".." + "/shared"
    texts = [*MODULES, *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.toml"), ROOT / "Makefile"]
    assert not [path for path in texts if outside in path.read_text()]


def test_the_benchmarks_and_tests_of_a_gpu_need_few_packages():
    """Machines that have one seldom have ours: `make bench-gpu` and `make test-gpu` install nothing."""
    few = {"torch", "numpy", "PIL", "cv2", "safetensors", "pyarrow", "pytest"}
    of_torch = {"torchgen", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec", "setuptools"}
    of_torch |= {"typing_extensions", "attr", "_distutils_hack"}
    of_pytest = {"_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py"}
    others = set(packages_distributions()) - few - of_torch - of_pytest - {"advseg"}
    tests = [
        str(path)
        for path in ROOT.glob("tests/**/test_*.py")
        if "mark.gpu" in path.read_text() and path != Path(__file__)
    ]
    program = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({sorted(others)!r}))
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
import source, step, loop, evaluation
for path in {tests!r}:
    runpy.run_path(path)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
