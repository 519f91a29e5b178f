"""The folders are the architecture: imports run one way, and models and trainers need no Ray, MLflow or Optuna."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("models", "trainers", "platform", "jobs")
SERVICES = ("ray", "mlflow", "optuna", "boto3")
MODULES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Absolute names of what a module imports, `advseg.` for this project's own."""
    package = ["advseg", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            found.add(".".join([*base, *(node.module.split(".") if node.module else [])]))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_from_its_own_layer_and_those_below(path):
    layer = LAYERS.index(path.relative_to(ROOT).parts[0])
    above = {f"advseg.{name}" for name in LAYERS[layer + 1 :]}
    upward = {name for name in imports_of(path) if ".".join(name.split(".")[:2]) in above}
    assert not upward


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_within_the_project_imports_are_relative(path):
    absolute = {
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("advseg")
    }
    assert not absolute


def test_the_layer_test_sees_an_arrow_that_runs_back(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    module = tmp_path / "models" / "bad.py"
    module.parent.mkdir()
    module.write_text("from ..trainers.loop import Training\n")
    with pytest.raises(AssertionError):
        test_a_module_imports_from_its_own_layer_and_those_below(module)


def test_models_and_trainers_import_without_the_services():
    modules = [
        ".".join(["advseg", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        for path in MODULES
        if path.relative_to(ROOT).parts[0] in ("models", "trainers")
    ]
    # A None in sys.modules makes an import fail; pydantic is for the spec alone.
    block = f"import sys; sys.modules.update(dict.fromkeys({(*SERVICES, 'pydantic')!r}))"
    program = f"{block}\nimport importlib\nfor name in {modules!r}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_platform_is_no_regular_package():
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not (ROOT / "tests" / "platform" / "__init__.py").exists()


def test_no_file_in_platform_bears_a_standard_library_name():
    assert not {path.stem for path in (ROOT / "platform").glob("*.py")} & sys.stdlib_module_names


def test_no_file_names_what_lies_outside_the_project():
    outside = ".." + "/shared"
    texts = [*MODULES, *ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / "Makefile"]
    assert not [path for path in texts if outside in path.read_text()]
