"""Checks `docs/conventions.md` against the tests that it names, and holds what no other test does."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fleetpose
from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.codecs.fields import associative_embedding_fields
from fleetpose.geometry import is_inside, scaling, warp

SOURCE = Path(fleetpose.__file__).parent
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "conventions.md"

PIN = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
AXIS = re.compile(r"(?<![A-Za-z_])[A-Za-z](?![A-Za-z_])")
#: Markers that keep a test out of the default run.
ABSENT = {"slow", "gpu", "skip", "skipif", "xfail"}


def _entries():
    """Each convention of the page with the tests that it names, by its first words."""
    for entry in re.split(r"\n(?=- \*\*|\n|#)", PAGE.read_text(encoding="utf-8")):
        if entry.startswith("- **"):
            yield entry.split("**")[1], PIN.findall(entry)


def _modules():
    """Parsed modules of the package, without the renderer, whose bones have joints and meshes other axes."""
    for path in sorted(SOURCE.rglob("*.py")):
        if "synth" not in path.relative_to(SOURCE).parts:
            yield path, ast.parse(path.read_text(encoding="utf-8"))


ENTRIES = dict(_entries())
PINS = sorted({pin for pins in ENTRIES.values() for pin in pins})


@pytest.mark.parametrize("convention", ENTRIES)
def test_every_convention_names_a_test(convention):
    assert ENTRIES[convention]


def test_every_convention_is_stated_once():
    assert len(ENTRIES) == len(list(_entries())) == PAGE.read_text(encoding="utf-8").count("\n- ")


@pytest.mark.parametrize(("file", "name"), PINS)
def test_every_named_test_exists_and_runs_by_default(file, name):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))

    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]

    assert len(found) == 1
    assert name.startswith("test_")
    marks = {
        node.attr
        for item in found[0].decorator_list
        for node in ast.walk(item)
        if isinstance(node, ast.Attribute)
    }
    assert not marks & ABSENT
    assert "shared" not in {argument.arg for argument in found[0].args.args}


@pytest.mark.slow  # each of them is part of the default run anyway
def test_the_named_tests_pass():
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *("::".join(pin) for pin in PINS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout


def test_points_are_x_y_and_sizes_are_h_w():
    image = np.zeros((4, 9), np.uint8)
    image[1, 7] = 255

    moved = warp(image, scaling(1, 1), (3, 8))

    assert moved.shape == (3, 8)
    assert moved[1, 7] == 255
    assert is_inside(np.array([7, 1]), (3, 8))
    assert not is_inside(np.array([1, 7]), (3, 8))


def test_a_keypoint_that_was_not_found_is_all_zero():
    codec = AssociativeEmbeddingCodec(fields=associative_embedding_fields(2))
    maps = codec.encode(np.array([[[30.0, 20.0, 2.0], [0.0, 0.0, 0.0]]], np.float32), size=(64, 64))
    maps["tags_s4"] = np.zeros((2, 16, 16), np.float32)

    keypoints, _ = codec.decode(maps)

    assert keypoints.shape == (1, 2, 3)
    assert keypoints[0, 0, 2] > 0.5
    assert keypoints[0, 1].tolist() == [0, 0, 0]


def _declared(tree):
    """Names and annotations of all arguments and annotated fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            yield node.arg, ast.unparse(node.annotation)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, ast.unparse(node.annotation)


def test_times_and_angles_name_their_unit():
    measures = re.compile(
        r"(^|_)(time|timestamp|duration|elapsed|angle|rotation|interval|timeout)(?!\w*_(s|ms|deg|rad)$)"
    )

    unnamed = [
        f"{path.relative_to(SOURCE)}: {name}"
        for path, tree in _modules()
        for name, kind in _declared(tree)
        if measures.search(name) and kind in {"float", "int", "float | None", "int | None"}
    ]

    assert unnamed == []


def _public_docstrings(tree):
    for node in ast.walk(tree):
        is_named = isinstance(node, ast.ClassDef | ast.FunctionDef)
        if isinstance(node, ast.Module) or (is_named and not node.name.startswith("_")):
            yield ast.get_docstring(node) or ""


def test_docstrings_use_the_axis_letters_of_the_page():
    table = re.findall(r"^\| (`.*`) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    legend = {letter for row in table for letter in AXIS.findall(row)}

    strange = {
        f"{path.relative_to(SOURCE)}: [{shape}]"
        for path, tree in _modules()
        for text in _public_docstrings(tree)
        for shape in re.findall(r"`\[([^\]`]*)\]`", text)
        if set(AXIS.findall(shape)) - legend
    }

    assert legend == set("BNMKLCFTRHWhw")
    assert strange == set()


def _defined(tree):
    """Names of all functions, classes, arguments and variables that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_keypoints_are_called_keypoints():
    others = re.compile("joint|landmark|kpt|keypt|bodypart", re.IGNORECASE)

    found = {
        f"{path.relative_to(SOURCE)}: {name}"
        for path, tree in _modules()
        for name in _defined(tree)
        if others.search(name)
    }

    assert found == set()
