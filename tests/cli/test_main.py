import signal
import sys

import pytest

import fleetpose
import fleetpose.cli
from fleetpose.cli import VERBS, Verb

#: What help must not wait for.
HEAVY = ("torch", "onnxruntime", "av", "cv2", "scipy", "fleetpose.runtime.predictor")


def test_help_lists_every_verb_that_is_there(fleetpose_here):
    code, out, err = fleetpose_here("--help")

    assert code == 0
    assert err == ""
    for verb in ("demo", "predict", "evaluate", "models"):
        assert f"│ {verb} " in out


def test_no_argument_shows_help(fleetpose_here):
    assert fleetpose_here()[1] == fleetpose_here("--help")[1]


def test_the_version_is_the_packages(fleetpose_here):
    assert fleetpose_here("--version")[1].strip() == fleetpose.__version__


@pytest.mark.parametrize(
    "arguments", [["--help"], ["predict", "--help"], ["evaluate", "--help"], ["demo", "--help"]]
)
def test_help_loads_nothing_heavy(start_fleetpose, arguments):
    code = f"""
import sys
from fleetpose.cli import main
main({arguments!r})
sys.stderr.write(",".join(name for name in {HEAVY!r} if name in sys.modules))
"""

    process = start_fleetpose(code=code)
    out, err = process.communicate()

    assert "Usage: fleetpose" in out
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pred"], 'Did you mean "predict"'),
        (["predict", "a.jpg", "--sav", "csv"], "--save"),
        (["predict", "a.jpg", "--threads", "two"], '"two"'),
        (["predict"], "nothing to look at"),
        (["evaluate"], "--data"),
    ],
)
def test_a_wrong_call_is_answered_in_one_line_with_exit_code_2(fleetpose_here, arguments, message):
    code, out, err = fleetpose_here(*arguments)

    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def _mount(monkeypatch, folder, content, *, extra="train"):
    """Put a verb `odd` with such a module into the table."""
    (folder / "odd.py").write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(fleetpose.cli, "VERBS", (*VERBS, Verb("odd", "odd", "An odd verb.", extra)))
    monkeypatch.delitem(sys.modules, "odd", raising=False)


@pytest.mark.parametrize(
    "content",
    [
        "import no_such_package",
        "from fleetpose.errors import require\nrequire('no_such_package', extra='train')",
        "def odd():\n    import no_such_package",
        "from fleetpose.errors import require\ndef odd():\n    require('no_such_package', extra='train')",
    ],
)
def test_a_verb_whose_packages_are_missing_names_the_line_to_run(
    fleetpose_here, monkeypatch, tmp_path, content
):
    _mount(monkeypatch, tmp_path, content)

    code, _, err = fleetpose_here("odd")

    assert code == 2
    assert "no_such_package" in err
    assert "pip install 'fleetpose[train]'" in err
    assert err.count("\n") == 1


def test_a_verb_that_this_installation_lacks_is_not_offered(fleetpose_here, monkeypatch):
    monkeypatch.setattr(fleetpose.cli, "VERBS", (*VERBS, Verb("later", "fleetpose.cli.later", "Later.")))

    assert "later" not in fleetpose_here("--help")[1]


def test_an_error_of_the_system_is_told_in_one_line(fleetpose_here, monkeypatch, tmp_path):
    _mount(monkeypatch, tmp_path, "def odd():\n    open('no/such/file')")

    assert fleetpose_here("odd") == (2, "", "error: no/such/file: No such file or directory\n")


def test_an_interruption_ends_with_the_shells_code(fleetpose_here, monkeypatch, tmp_path):
    _mount(monkeypatch, tmp_path, "def odd():\n    raise KeyboardInterrupt")

    assert fleetpose_here("odd") == (130, "", "error: interrupted\n")


def test_a_reader_that_has_seen_enough_is_no_error(start_fleetpose):
    process = start_fleetpose("models", "--json")
    process.stdout.close()

    with process.stderr:
        assert process.stderr.read() == ""
    process.wait()


def test_a_polite_kill_is_obeyed_where_python_drops_exceptions(capsys, monkeypatch):
    class Dying:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def build():
        def app(*_, **__):
            Dying()
            return 0

        return app

    monkeypatch.setattr("fleetpose.cli.build_app", build)
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)

    assert fleetpose.cli.main(["predict"]) == 143
    assert capsys.readouterr().err == "error: terminated\n"
