import ast
import pickle
from pathlib import Path

import pytest

import fleetpose
from fleetpose import errors
from fleetpose.errors import (
    ConfigError,
    MissingExtraError,
    PoseError,
    ShapeError,
    UnknownNameError,
    require,
)

SOURCE = Path(fleetpose.__file__).parent
PROJECT = SOURCE.parents[1] / "pyproject.toml"


def _tree():
    """Name of each error and of its parents, as the drawing in the module's docstring has them."""
    lines = [line for line in errors.__doc__.splitlines() if "──" in line]
    for line in lines:
        name, _, rest = line.strip("│ ├└─").partition(" ")
        kind, _, builtin = name.rstrip(")").partition("(")
        yield kind, builtin, bool(rest)


def test_the_drawn_tree_is_the_real_one():
    drawn = {kind: builtin for kind, builtin, _ in _tree()}

    real = {
        name: next((base.__name__ for base in kind.__bases__ if not issubclass(base, PoseError)), "")
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, PoseError) and kind is not PoseError
    }

    assert drawn == real
    assert all(says_what_for for _, _, says_what_for in _tree())


@pytest.mark.parametrize("kind", [kind for kind, _, _ in _tree()])
def test_everything_raised_on_purpose_can_be_caught_at_once(kind):
    assert issubclass(getattr(errors, kind), PoseError)


def test_a_misspelt_name_is_answered_with_the_closest_ones():
    error = UnknownNameError("model", "litepose-x", ["efficienthrnet-h0", "litepose-xs", "litepose-s"])

    assert str(error).startswith("unknown model 'litepose-x'; did you mean litepose-xs or litepose-s")


def test_a_name_like_no_other_is_answered_with_all_of_them():
    error = UnknownNameError("skeleton", "whale", ["lsp14", "coco17"])

    assert str(error) == "unknown skeleton 'whale'; known: coco17, lsp14"


def test_a_name_that_is_no_text_is_unknown_too():
    assert str(UnknownNameError("field", 3, ["lr"])) == "unknown field 3; known: lr"


def test_where_nothing_is_known_the_message_says_so():
    assert str(UnknownNameError("field", "x", [])) == "unknown field 'x'; known: none"


def test_a_wrong_shape_names_expectation_and_finding():
    assert (
        str(ShapeError("boxes", "of shape [2, 4]", [2, 5])) == "boxes must be of shape [2, 4], but got [2, 5]"
    )


@pytest.mark.parametrize(
    "error", [ConfigError("no such thing"), UnknownNameError("model", "x", ["y"]), ShapeError("a", "b", "c")]
)
def test_an_error_comes_whole_out_of_a_worker_process(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_an_extra_that_is_not_installed_is_named_with_its_pip_line():
    with pytest.raises(MissingExtraError) as caught:
        require("no_such_package.part", extra="train")

    assert str(caught.value) == "no_such_package is not installed; run: pip install 'fleetpose[train]'"


def test_an_extra_that_lacks_its_own_needs_says_which(tmp_path, monkeypatch):
    (tmp_path / "halfway.py").write_text("import its_missing_half", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(MissingExtraError, match=r"halfway cannot be imported \(No module named 'its_missing"):
        require("halfway", extra="train")


def test_a_missing_extra_is_an_import_error():
    with pytest.raises(ImportError):
        require("no_such_package", extra="train")


def _extras_asked_for():
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                yield from (item.value.value for item in node.keywords if item.arg == "extra")


@pytest.mark.skipif(not PROJECT.is_file(), reason="the package is installed without its pyproject.toml")
def test_every_extra_that_a_message_offers_can_be_installed():
    text = PROJECT.read_text(encoding="utf-8")
    section = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]

    offered = {line.partition("=")[0].strip() for line in section.splitlines() if " = [" in line}

    assert set(_extras_asked_for()) <= offered
