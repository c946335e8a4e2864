"""The rules that hold the package together: layers, where PyTorch may be, what is public."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fleetpose

SOURCE = Path(fleetpose.__file__).parent
ROOT = SOURCE.parents[1]

#: A module imports only from rows above its own; of its own row only from its own package.
LAYERS = (
    {"errors"},
    {"skeletons", "geometry", "settings"},
    {"results"},
    {"codecs", "metrics", "tracking", "draw", "media"},
    {"models", "losses", "data", "synth", "weights"},
    {"train", "runtime", "export"},
    {"compress", "pipeline"},
    {"recipes"},
    {"cli", "serve", "web"},
    {"__main__"},
)
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}

#: Where PyTorch may be imported: nobody else needs it installed.
TORCH_HOMES = {"models", "losses", "data", "train", "export", "compress"}
TORCH_BACKEND = "fleetpose.runtime.torch_session"
#: Broken beside CPU PyTorch, of a licence that binds users, or no longer maintained.
FORBIDDEN = {
    "torchvision",
    "timm",
    "mmcv",
    "mmpose",
    "mmengine",
    "ultralytics",
    "albumentations",
    "xtcocotools",
}


def _module_name(path):
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def _imports(path):
    """Names of all modules that a file imports, wherever in it; submodules named behind `import` included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from _roots(node) if node.module == "fleetpose" else (node.module,)


def _roots(node):
    """Modules behind `from fleetpose import …`: a module itself, or the home of a public name."""
    names = [alias.name for alias in node.names if alias.name != "__version__"]
    return [fleetpose._HOMES.get(name, f"fleetpose.{name}") for name in names]


def _home(module):
    """Package or module directly below `fleetpose` → `codecs` of `fleetpose.codecs.fields`."""
    return module.split(".")[1] if "." in module else ""


def test_every_module_has_a_rank():
    assert {_home(module) for module in MODULES} - {""} <= set(RANKS)


@pytest.mark.parametrize("module", [module for module in MODULES if module != "fleetpose"])
def test_a_module_imports_only_from_lower_ranks_and_its_own_package(module):
    ours = {name for name in _imports(MODULES[module]) if name.startswith("fleetpose.")}

    too_high = {
        name for name in ours if _home(name) != _home(module) and RANKS[_home(name)] >= RANKS[_home(module)]
    }

    assert not too_high


@pytest.mark.parametrize("module", list(MODULES))
def test_pytorch_and_forbidden_packages_stay_out(module):
    outside = {name.partition(".")[0] for name in _imports(MODULES[module])}

    assert not outside & FORBIDDEN
    if _home(module) not in TORCH_HOMES and module != TORCH_BACKEND:
        assert not outside & {"torch", "lightning"}


def test_what_needs_no_pytorch_imports_without_it():
    highest = RANKS["codecs"]
    names = [
        module
        for module in MODULES
        if module != TORCH_BACKEND
        and (RANKS.get(_home(module), 0) <= highest or _home(module) in {"weights", "runtime", "cli"})
    ]
    program = f"""
import importlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"torch", "lightning"}}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
for name in {names!r}:
    importlib.import_module(name)
"""

    result = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(SOURCE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert len(names) > 20
    assert result.stderr == ""
    assert result.returncode == 0


def test_importing_the_package_loads_nothing_heavy():
    program = (
        "import sys, fleetpose; print(*sorted({'numpy', 'cv2', 'torch', 'onnxruntime'} & set(sys.modules)))"
    )

    result = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(SOURCE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.strip() == ""


def test_every_public_name_resolves_and_none_is_missing():
    typed = {
        alias.name
        for node in ast.walk(ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fleetpose.")
        for alias in node.names
    }

    assert fleetpose.__all__ == sorted(fleetpose.__all__)
    assert set(fleetpose.__all__) == typed | {"__version__"}
    assert dir(fleetpose) == sorted(fleetpose.__all__)
    for name in fleetpose.__all__:
        assert getattr(fleetpose, name) is not None


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'Predicator'"):
        _ = fleetpose.Predicator


def test_no_text_names_a_place_on_somebodys_machine():
    pattern = re.compile(r"(?<![\w.])/(?:work|home|root|Users|mnt|media|tmp)/\w")
    kinds = {".py", ".md", ".toml", ".yaml", ".yml"}
    folders = ["src", "tests", "docs", "benchmarks"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in kinds]
    files += [ROOT / name for name in ("README.md", "pyproject.toml", "Makefile", ".ci/run")]

    named = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in files
        if path.name != Path(__file__).name
        for match in [pattern.search(path.read_text(encoding="utf-8"))]
        if match
    ]

    assert named == []


def test_no_folder_of_odds_and_ends():
    names = {Path(path).stem for path in MODULES.values()}

    assert not names & {"utils", "util", "common", "misc", "helpers", "base"}
