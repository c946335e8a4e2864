import csv
import logging
import math
import multiprocessing
import signal
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.errors import CheckpointError, ConfigError, DatasetError
from fleetpose.geometry import IMAGE_MEAN, IMAGE_STD
from fleetpose.skeletons import Skeleton, load_skeleton
from fleetpose.train.checkpoint import load_checkpoint
from fleetpose.train.config import (
    LossSettings,
    OptimiserSettings,
    Phase,
    TeacherSettings,
    read_config,
    self_contained,
)
from fleetpose.train.stopping import TrainingStoppedError

#: Columns that a clock fills.
CLOCK = {"seconds", "scenes_per_s", "waiting"}


@pytest.fixture
def every_step(config):
    """Settings that validate after every step."""
    return replace(config, validate_every_s=1e-9)


def rows_of(path):
    with path.open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key not in CLOCK} for row in csv.DictReader(file)
        ]


def assert_same_run(first, second):
    """Both folders hold the same weights, averages, optimiser state and rows, bit for bit."""
    states = [load_checkpoint(folder / "last.pt") for folder in (first, second)]
    for state in states:
        state["progress"].pop("seconds")
        state.pop("config")
        state.pop("card")  # tells the hours, too
    torch.testing.assert_close(*states, rtol=0, atol=0)
    for name in ("train.csv", "validation.csv"):
        assert rows_of(first / name) == rows_of(second / name)


def test_two_pictures_are_learnt_by_heart(config, tiny, drawn, train, tmp_path):
    settings = replace(
        config,
        model="tiny",
        phases=(Phase(size=(64, 64), batch=4, steps=300, scenes=tiny.CALM),),
        optimiser=OptimiserSettings(lr=8e-3, warmup_steps=10, ema_decay=0.9),
        loss=LossSettings(tags=0.2, foreground=10),
        log_every_steps=25,
    )

    train(settings, tmp_path)

    totals = [float(row["total"]) for row in rows_of(tmp_path / "train.csv")]
    assert totals[-1] < totals[0] / 10
    network = tiny.TinyNetwork(3, dropout=0)
    network.load_state_dict(load_checkpoint(tmp_path / "last.pt")["ema"])
    codec = AssociativeEmbeddingCodec(fields=network.fields)
    for number, people in enumerate(tiny.PEOPLE, start=1):
        image = cv2.cvtColor(cv2.imread(str(drawn / f"{number}.png")), cv2.COLOR_BGR2RGB)
        normalised = ((image - np.array(IMAGE_MEAN)) / IMAGE_STD).transpose(2, 0, 1)[None]
        with torch.inference_mode():
            outputs = network(torch.from_numpy(normalised).float())
        found, _ = codec.decode({name: value[0].numpy() for name, value in outputs.items()})
        found = found[found[..., 2].min(axis=1) > 0.3, :, :2]
        assert len(found) == 2
        for person in people:
            assert np.abs(found - person).max(axis=(1, 2)).min() < 1.5


@pytest.mark.parametrize("step", [3, 6, 9], ids=["in the first phase", "between phases", "in the second"])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(every_step, train, acts, tmp_path, step):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(every_step, whole, validate=acts.watch())

    stopped = train(every_step, parts, validate=acts.interrupt(step))
    finished = train(every_step, parts, validate=acts.watch(), is_resumed=True)

    assert stopped.step == step
    assert finished.step == 11
    assert_same_run(whole, parts)


def test_a_killed_run_goes_on_from_its_last_checkpoint(every_step, train, acts, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(every_step, whole, validate=acts.watch())
    stopped = train(every_step, parts, validate=acts.interrupt(4))
    with pytest.raises(acts.KilledError):
        train(every_step, parts, validate=acts.kill(3), is_resumed=True)

    left = rows_of(parts / "train.csv")[-1]["step"]
    train(every_step, parts, validate=acts.watch(), is_resumed=True)

    assert stopped.step == 4
    assert left == "7"  # the kill left rows behind that the checkpoint knows nothing of
    assert_same_run(whole, parts)


def test_loader_processes_draw_what_the_trainer_itself_would(config, train, tmp_path):
    train(config, tmp_path / "alone", validate=None)

    train(replace(config, workers=1), tmp_path / "helped", validate=None)

    states = [load_checkpoint(tmp_path / name / "last.pt")["network"] for name in ("alone", "helped")]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert multiprocessing.active_children() == []


def test_no_two_phases_draw_the_same_scenes(config, train, tmp_path):
    phase = replace(config.phases[0], steps=1)
    still = OptimiserSettings(lr=1e-12, weight_decay=0)

    train(replace(config, model="tiny", phases=(phase, phase), optimiser=still), tmp_path)

    first, second = (float(row["heatmaps_s4"]) for row in rows_of(tmp_path / "train.csv"))
    assert first != pytest.approx(second, rel=1e-3)


def test_ctrl_c_ends_loader_processes_and_gives_the_signal_back(every_step, train, acts, tmp_path):
    before = signal.getsignal(signal.SIGINT)

    progress = train(replace(every_step, workers=1), tmp_path, validate=acts.interrupt(2))

    assert progress.step == 2
    assert load_checkpoint(tmp_path / "last.pt")["progress"]["step"] == 2
    assert multiprocessing.active_children() == []
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_the_run_at_once(every_step, train, tmp_path):
    def press_twice(_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(every_step, tmp_path, validate=press_twice)


def test_training_works_outside_the_main_thread(config, train, tmp_path):
    progress = []

    thread = threading.Thread(target=lambda: progress.append(train(config, tmp_path)))
    thread.start()
    thread.join()

    assert progress[0].step == 11


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(config, train, acts, tmp_path):
    train(config, tmp_path, validate=acts.watch())
    before = {name: (tmp_path / name).read_bytes() for name in ("train.csv", "validation.csv")}

    progress = train(config, tmp_path, validate=acts.watch(), is_resumed=True)

    assert progress.step == 11
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_the_folder_tells_what_was_run(config, train, acts, tmp_path):
    progress = train(config, tmp_path, validate=acts.watch())

    assert read_config(tmp_path / "config.yaml") == self_contained(config)
    steps = [row["step"] for row in rows_of(tmp_path / "train.csv")]
    assert steps == [str(step) for step in range(1, 12)]
    assert [row["step"] for row in rows_of(tmp_path / "validation.csv")] == ["11"]
    assert cv2.imread(str(tmp_path / "curves.png")) is not None
    assert progress.scenes == 22
    assert not list(tmp_path.glob("*.partial"))


def test_parts_of_the_loss_add_up_in_the_log(config, train, tmp_path):
    train(config, tmp_path)

    for row in rows_of(tmp_path / "train.csv"):
        parts = {name: float(value) for name, value in row.items()}
        total = (
            parts["heatmaps_s4"]
            + parts["heatmaps_s2"]
            + 0.01 * sum(parts[name] for name in ("pull", "push", "location"))
        )
        assert parts["total"] == pytest.approx(total, rel=1e-4)


def test_what_the_run_is_given_stays_given(config, train, tmp_path):
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()

    train(replace(config, threads=threads + 1), tmp_path)

    assert torch.get_num_threads() == threads
    assert cv2.getNumThreads() == cv2_threads


def test_the_averaged_network_lags_behind_and_is_what_gets_scored(every_step, train, acts, tmp_path):
    settings = replace(every_step, optimiser=OptimiserSettings(lr=1e-2, ema_decay=0.5))

    train(settings, tmp_path, validate=acts.watch())

    state = load_checkpoint(tmp_path / "last.pt")
    scored = float(rows_of(tmp_path / "validation.csv")[-1]["sum"])
    sums = {
        name: float(sum(state[name][key].double().sum() for key in state[name]))
        for name in ("ema", "network")
    }
    assert scored == pytest.approx(sums["ema"], rel=1e-4)
    assert scored != pytest.approx(sums["network"], rel=1e-4)


def test_a_run_can_start_from_the_averaged_weights_of_another(config, train, tmp_path):
    train(config, tmp_path / "first")
    still = replace(
        config,
        init=tmp_path / "first/last.pt",
        optimiser=OptimiserSettings(lr=1e-12, weight_decay=0),
    )

    train(still, tmp_path / "second")

    given = load_checkpoint(tmp_path / "first/last.pt")["ema"]
    torch.testing.assert_close(load_checkpoint(tmp_path / "second/last.pt")["network"], given)


def test_a_resumed_run_needs_its_starting_weights_no_more(every_step, train, acts, tmp_path):
    train(every_step, tmp_path / "first", validate=acts.interrupt(1))
    init = tmp_path / "first/last.pt"
    settings = replace(every_step, init=init)
    train(settings, tmp_path / "second", validate=acts.interrupt(2))
    init.unlink()

    assert train(settings, tmp_path / "second", is_resumed=True).step == 11


def test_weights_of_another_network_are_refused_as_a_start(config, train, tmp_path):
    train(config, tmp_path / "first")

    with pytest.raises(CheckpointError, match="tiny-dropout, which litepose-xs cannot begin with"):
        train(
            replace(
                config,
                model="litepose-xs",
                init=tmp_path / "first/last.pt",
                phases=(Phase(size=(64, 64), batch=1, steps=1),),
            ),
            tmp_path / "second",
        )


def test_changed_settings_are_obeyed_and_recorded(every_step, train, acts, tmp_path, caplog):
    train(every_step, tmp_path, validate=acts.interrupt(3))
    changed = replace(
        every_step,
        optimiser=replace(every_step.optimiser, lr=5e-4, weight_decay=0.5),
        phases=(*every_step.phases, Phase(size=(64, 64), batch=1, steps=1)),
    )

    with caplog.at_level(logging.WARNING):
        progress = train(changed, tmp_path, is_resumed=True)

    assert progress.step == 12
    (entry,) = yaml.safe_load((tmp_path / "changes.yaml").read_text())
    assert entry["step"] == 3
    assert entry["optimiser.lr"] == [1e-3, 5e-4]
    assert entry["phases.2.steps"] == [None, 1]
    assert "seed" not in entry
    assert "resumed at step 3 with optimiser.lr 0.0005, was 0.001" in caplog.text
    groups = load_checkpoint(tmp_path / "last.pt")["optimiser"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.5, 0]
    assert read_config(tmp_path / "config.yaml") == self_contained(changed)


def test_unchanged_settings_leave_no_record(every_step, train, acts, tmp_path, caplog):
    train(every_step, tmp_path, validate=acts.interrupt(3))
    caplog.clear()

    train(every_step, tmp_path, is_resumed=True)

    assert not (tmp_path / "changes.yaml").exists()
    assert not caplog.records


def test_another_network_cannot_take_up_a_run(every_step, train, acts, tmp_path):
    train(every_step, tmp_path, validate=acts.interrupt(1))

    with pytest.raises(CheckpointError, match="weights do not fit the model"):
        train(
            replace(every_step, model="litepose-xs", phases=(Phase(size=(64, 64), batch=1, steps=3),)),
            tmp_path,
            is_resumed=True,
        )


def test_checkpoints_of_the_first_version_can_be_resumed(every_step, train, acts, tmp_path):
    train(every_step, tmp_path, validate=acts.interrupt(2))
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    state["progress"]["best"] = {}
    state["rng"] = torch.get_rng_state()
    del state["processes"], state["config"]["short_side"], state["config"]["validation"]
    torch.save(state, tmp_path / "last.pt")

    assert train(every_step, tmp_path, is_resumed=True).step == 11
    assert not (tmp_path / "changes.yaml").exists()


def test_a_run_is_not_overwritten(config, train, tmp_path):
    train(config, tmp_path)

    with pytest.raises(ConfigError, match="holds a run already: resume it or choose another folder"):
        train(config, tmp_path)


def test_there_must_be_something_to_resume(config, train, tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*last\.pt"):
        train(config, tmp_path, is_resumed=True)


def test_a_checkpoint_without_optimiser_cannot_be_resumed(config, train, tmp_path):
    train(config, tmp_path)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    del state["optimiser"]
    torch.save(state, tmp_path / "last.pt")

    with pytest.raises(CheckpointError, match="cannot be resumed: it lacks optimiser"):
        train(config, tmp_path, is_resumed=True)


def test_a_loss_that_is_no_number_stops_the_run_and_is_named(every_step, train, acts, tmp_path):
    train(every_step, tmp_path, validate=acts.interrupt(2))
    before = (tmp_path / "last.pt").read_bytes()
    wild = replace(every_step, optimiser=OptimiserSettings(lr=1e30, warmup_steps=0))

    with pytest.raises(
        TrainingStoppedError, match=r"loss part '\w+' became (nan|inf) at step \d+; lower"
    ) as caught:
        train(wild, tmp_path, is_resumed=True)

    assert "\n" not in str(caught.value)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_loss_that_is_no_number_before_the_first_checkpoint_leaves_nothing_to_resume(
    config, train, tmp_path
):
    wild = replace(config, optimiser=OptimiserSettings(lr=1e30, warmup_steps=0))

    with pytest.raises(TrainingStoppedError, match=r"set optimiser.clip_norm and start again$"):
        train(wild, tmp_path)


def test_a_checkpoint_holds_the_users_own_keypoints_and_no_path(config, drawn, train, tmp_path):
    short = replace(config, phases=(replace(config.phases[0], steps=1),))

    train(short, tmp_path)

    own = load_skeleton(drawn / "skeleton.yaml")
    assert load_checkpoint(tmp_path / "last.pt")["config"]["skeleton"] == own.to_dict()
    assert read_config(tmp_path / "config.yaml").skeleton == own
    assert load_skeleton(tmp_path / "skeleton.yaml") == own


def test_a_run_in_the_way_keeps_its_keypoints(config, train, tmp_path):
    short = replace(config, phases=(replace(config.phases[0], steps=1),))
    train(short, tmp_path)
    before = (tmp_path / "skeleton.yaml").read_bytes()

    with pytest.raises(ConfigError, match="holds a run already"):
        train(replace(short, skeleton=Skeleton.from_dict({"keypoints": ["tip"]})), tmp_path)

    assert (tmp_path / "skeleton.yaml").read_bytes() == before


def test_clipping_limits_what_one_step_does(config, train, tmp_path):
    settings = replace(config, phases=(replace(config.phases[0], steps=1),))
    tiny_step = replace(settings.optimiser, clip_norm=1e-12, weight_decay=0, warmup_steps=0)

    train(replace(settings, optimiser=tiny_step), tmp_path)

    # Adam hides the size of a gradient in what it does, but its first moment holds a tenth of it.
    moments = load_checkpoint(tmp_path / "last.pt")["optimiser"]["state"]
    norm = math.sqrt(sum(float((state["exp_avg"] / 0.1).square().sum()) for state in moments.values()))
    assert norm <= 1.01e-12


@pytest.mark.usefixtures("config")
def test_missing_pictures_stop_a_run_before_it_begins(tiny, train, tmp_path):
    tiny.draw_data(tmp_path / "data")
    (tmp_path / "data/2.png").unlink()
    settings = replace(tiny.settings(tmp_path / "data"))

    with pytest.raises(DatasetError, match=r"1 of 2 pictures are missing, the first is .*2\.png"):
        train(settings, tmp_path / "run")

    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_named_in_one_line(tiny, train, tmp_path, workers):
    tiny.draw_data(tmp_path / "data")
    for number in (1, 2):
        (tmp_path / f"data/{number}.png").write_bytes(b"no picture")
    settings = replace(tiny.settings(tmp_path / "data"), workers=workers)

    with pytest.raises(
        DatasetError, match=r"^cannot read the picture .*\.png: it is missing or broken; replace it"
    ):
        train(settings, tmp_path / "run")

    assert not multiprocessing.active_children()  # or the program would never end


def test_a_picture_that_breaks_during_a_run_costs_nothing_that_was_learnt(config, train, acts, tmp_path):
    def break_off():
        raise DatasetError("cannot read the picture 1.png: it is missing or broken; replace it")

    with pytest.raises(DatasetError, match=r"1\.png"):
        train(replace(config, validate_every_s=1e-9), tmp_path / "run", validate=acts.watch_for(3, break_off))

    assert load_checkpoint(tmp_path / "run/last.pt")["progress"]["step"] == 3


def test_a_stopped_run_says_where_it_is_and_how_to_go_on(config, train, acts, tmp_path, caplog):
    caplog.set_level("INFO")

    train(replace(config, validate_every_s=1e-9), tmp_path / "run", validate=acts.interrupt(4))

    assert f"saved {tmp_path}/run/last.pt at step 4 of 11; go on with --resume" in caplog.text


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_folder_that_cannot_be_made_is_told_with_a_remedy(config, train, tmp_path, place):
    (tmp_path / "file").touch()

    with pytest.raises(
        ConfigError, match=r"cannot write into .*file.*: .*; choose another folder with --out"
    ):
        train(config, tmp_path / place)


def test_a_cut_checkpoint_points_to_the_best_one_beside_it(config, train, tmp_path):
    train(config, tmp_path, validate=lambda _: {"score": 1.0})
    whole = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(CheckpointError, match=r"last\.pt .* cut off; a new run .* init=.*best\.pt$"):
        train(config, tmp_path, is_resumed=True)


def test_a_size_that_the_network_cannot_take_is_refused(config, train, tmp_path):
    with pytest.raises(ConfigError, match=r"phases\.0\.size does not suit .*: input size must be"):
        train(replace(config, phases=(Phase(size=(64, 66), batch=1, steps=1),)), tmp_path)


@pytest.mark.parametrize("name", ["sigma_cells", "heatmaps"])
def test_target_spreads_and_weights_must_match_the_networks_heatmaps(config, train, tmp_path, name):
    with pytest.raises(ConfigError, match=rf"loss\.{name} must have 2 entries"):
        train(replace(config, loss=LossSettings(**{name: (2.0,)})), tmp_path)


def test_arithmetic_in_half_precision_learns_and_keeps_full_weights(config, train, tmp_path):
    train(replace(config, precision="bf16-mixed"), tmp_path)

    weights = load_checkpoint(tmp_path / "last.pt")["network"]
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float32}
    losses = [float(row["total"]) for row in rows_of(tmp_path / "train.csv")]
    exact = tmp_path / "exact"
    train(config, exact)
    assert losses == pytest.approx([float(row["total"]) for row in rows_of(exact / "train.csv")], rel=0.05)
    assert losses != [float(row["total"]) for row in rows_of(exact / "train.csv")]


def test_averaged_gradients_of_parts_do_what_one_large_batch_does(config, train, tmp_path):
    still = replace(config.loss, location=0)  # a mean over peaks: not the mean of its parts
    whole = replace(config, model="tiny", loss=still, phases=(replace(config.phases[0], batch=4),))
    part = replace(whole.phases[0], batch=2)

    train(whole, tmp_path / "whole")
    train(
        replace(whole, phases=(part,), optimiser=replace(whole.optimiser, accumulate=2)), tmp_path / "parts"
    )

    states = [load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "parts")]
    torch.testing.assert_close(states[0]["network"], states[1]["network"], rtol=1e-3, atol=1e-5)
    assert [state["progress"]["scenes"] for state in states] == [24, 24]


def test_an_interrupted_run_of_averaged_gradients_goes_on_too(every_step, train, acts, tmp_path):
    settings = replace(every_step, optimiser=replace(every_step.optimiser, accumulate=2))
    train(settings, tmp_path / "whole", validate=acts.watch())

    train(settings, tmp_path / "parts", validate=acts.interrupt(7))
    train(settings, tmp_path / "parts", validate=acts.watch(), is_resumed=True)

    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_frozen_modules_stay_as_they_are(config, train, tmp_path):
    train(replace(config, frozen=("fine",)), tmp_path)
    train(replace(config, phases=(replace(config.phases[0], steps=1),)), tmp_path / "other")

    state, other = (
        load_checkpoint(folder / "last.pt")["network"] for folder in (tmp_path, tmp_path / "other")
    )
    torch.manual_seed(config.seed)
    from fleetpose.models import build

    fresh = build(config.model, num_keypoints=3).state_dict()
    torch.testing.assert_close(state["fine.0.weight"], fresh["fine.0.weight"], rtol=0, atol=0)
    assert not torch.equal(state["coarse.0.weight"], fresh["coarse.0.weight"])
    assert not torch.equal(other["fine.0.weight"], fresh["fine.0.weight"])


def test_the_best_checkpoint_is_that_of_the_highest_score(every_step, train, tmp_path):
    scores = iter([0.1, 0.5, 0.3, 0.5, 0.4, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])

    train(replace(every_step, best_by="b"), tmp_path, validate=lambda _: {"a": 1.0, "b": next(scores)})

    best = load_checkpoint(tmp_path / "best.pt")
    assert best["progress"]["step"] == 2  # of equal ones the earlier
    assert best["card"]["metrics"] == {"a": 1.0, "b": 0.5}


def test_a_score_that_does_not_exist_cannot_choose_the_best(every_step, train, tmp_path):
    with pytest.raises(ConfigError, match="best_by must be one of a, got c"):
        train(replace(every_step, best_by="c"), tmp_path, validate=lambda _: {"a": 1.0})


def test_a_validation_leaves_a_picture_of_what_the_network_predicts(config, train, acts, tmp_path):
    grey = np.full((8, 8, 3), 77, np.uint8)

    train(config, tmp_path, validate=acts.watch(), depict=lambda _: grey)

    assert cv2.imread(str(tmp_path / "samples" / "0000011.png")).mean() == 77


def test_the_folder_tells_the_environment_and_checkpoints_have_cards(config, train, tmp_path):
    train(config, tmp_path)

    environment = yaml.safe_load((tmp_path / "environment.yaml").read_text())
    card = load_checkpoint(tmp_path / "last.pt")["card"]
    assert environment["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert environment["device"] == "cpu"
    assert card["data"] == [str(config.sources[0].annotations)]
    assert card["hours"] > 0


def test_a_students_loss_holds_its_teacher(config, train, tmp_path):
    train(replace(config, model="tiny"), tmp_path / "teacher")
    taught = replace(
        config, model="tiny", teacher=TeacherSettings(tmp_path / "teacher/last.pt", weight=2.0, labels=0.5)
    )

    train(replace(taught, init=tmp_path / "teacher/last.pt"), tmp_path / "student")

    first = {name: float(value) for name, value in rows_of(tmp_path / "student/train.csv")[0].items()}
    labels = (
        first["heatmaps_s4"]
        + first["heatmaps_s2"]
        + 0.01 * sum(first[name] for name in ("pull", "push", "location"))
    )
    assert first["teacher"] == pytest.approx(0, abs=1e-12)  # it begins as its teacher
    assert first["total"] == pytest.approx(0.5 * labels, rel=1e-4)
    assert float(rows_of(tmp_path / "student/train.csv")[-1]["teacher"]) > 0


def test_a_student_learns_places_from_its_teacher_if_asked_to(config, train, tmp_path):
    chances = replace(config, model="tiny", loss=LossSettings(presence=1.0, tags=0.0))
    train(chances, tmp_path / "teacher")
    teacher = TeacherSettings(tmp_path / "teacher/last.pt", weight=2.0, location=3.0, labels=0.5)

    train(replace(chances, teacher=teacher), tmp_path / "student")

    first = {name: float(value) for name, value in rows_of(tmp_path / "student/train.csv")[0].items()}
    labels = first["heatmaps_s4"] + first["heatmaps_s2"]
    taught = 2 * first["teacher"] + 3 * first["teacher_location"]
    assert first["teacher_location"] > 0
    assert first["total"] == pytest.approx(0.5 * labels + taught, rel=1e-4)


def test_places_are_not_taught_by_heatmaps_that_are_no_chances(config, train, tmp_path):
    teacher = TeacherSettings(tmp_path / "no_such.pt", location=1.0)

    with pytest.raises(ConfigError, match="location compares chances, but the heatmaps of tiny are none"):
        train(replace(config, model="tiny", teacher=teacher), tmp_path / "student")


def test_the_log_tells_which_share_of_the_time_waits_for_data(config, train, tmp_path):
    train(config, tmp_path)

    with (tmp_path / "train.csv").open(newline="") as file:
        shares = [float(row["waiting"]) for row in csv.DictReader(file)]
    assert all(0 < share < 1 for share in shares[1:])  # drawn by the trainer itself: never nothing


def contents(folder):
    """Bytes of every file that a run left, by its path."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "case",
    [
        ({"optimiser": OptimiserSettings(kind="muon")}, "another optimiser.kind: .* has adamw, got muon"),
        ({"optimiser": OptimiserSettings(kind="sgd")}, "another optimiser.kind: .* has adamw, got sgd"),
        ({"frozen": ("fine",)}, r"another frozen: .* has \[\], got \['fine'\].*init="),
        ({"phases": (Phase(size=(64, 64), batch=1, steps=2),)}, "is at step 3, but the phases have 2 steps"),
        (
            {"model": "litepose-xs"},
            "holds a run of tiny-dropout.*litepose-xs; resume with model=tiny-dropout",
        ),
        (
            {"skeleton": Skeleton("one", ("red",), (), (), (0.1,))},
            "cannot be resumed: weights do not fit the model.*start a new one",
        ),
    ],
)
def test_what_a_run_cannot_go_on_with_is_refused_and_alters_nothing(every_step, train, acts, tmp_path, case):
    change, message = case
    train(every_step, tmp_path, validate=acts.interrupt(3))
    before = contents(tmp_path)

    with pytest.raises((ConfigError, CheckpointError), match=message) as caught:
        train(replace(every_step, **change), tmp_path, is_resumed=True)

    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_an_optimiser_state_that_does_not_fit_is_refused(every_step, train, acts, tmp_path):
    train(every_step, tmp_path, validate=acts.interrupt(2))
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    state["optimiser"]["param_groups"].pop()
    torch.save(state, tmp_path / "last.pt")

    with pytest.raises(CheckpointError, match=r"last\.pt cannot be resumed: its optimiser does not fit"):
        train(every_step, tmp_path, is_resumed=True)


def test_a_changed_momentum_is_obeyed(every_step, train, acts, tmp_path):
    rolling = replace(every_step, optimiser=OptimiserSettings(lr=1e-3, kind="sgd", momentum=0.9))
    train(rolling, tmp_path, validate=acts.interrupt(3))

    slower = replace(rolling, optimiser=replace(rolling.optimiser, momentum=0.5))
    train(slower, tmp_path, is_resumed=True)

    groups = load_checkpoint(tmp_path / "last.pt")["optimiser"]["param_groups"]
    assert [group["momentum"] for group in groups] == [0.5, 0.5]


def test_a_finished_run_says_so_and_keeps_its_settings(config, train, acts, tmp_path, caplog):
    train(config, tmp_path, validate=acts.watch())
    before = contents(tmp_path)

    with caplog.at_level(logging.INFO):
        train(replace(config, optimiser=OptimiserSettings(lr=0.5)), tmp_path, is_resumed=True)

    assert "is finished: step 11 of 11" in caplog.text
    names = ("last.pt", "best.pt", "config.yaml", "environment.yaml", "train.csv", "validation.csv")
    after = contents(tmp_path)
    assert {name: after[Path(name)] for name in names} == {name: before[Path(name)] for name in names}
    assert not (tmp_path / "changes.yaml").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 0}, "devices must be at least 1, got 0"),
        ({"devices": -1}, "devices must be at least 1, got -1"),
        ({"accelerator": "foo"}, "accelerator must be one that this machine has, auto or cpu.*got 'foo'"),
    ],
)
def test_devices_that_cannot_be_are_refused(config, tmp_path, options, message):
    from fleetpose.train.engine import train

    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "run", **options)

    assert not (tmp_path / "run").exists()


def test_an_accelerator_that_is_not_there_is_refused(config, tmp_path, monkeypatch):
    from lightning.fabric.accelerators import CUDAAccelerator

    from fleetpose.train.engine import train

    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: False)

    with pytest.raises(ConfigError, match=r"accelerator must be one that this machine has, .*got 'cuda'"):
        train(config, tmp_path / "run", accelerator="cuda")


def test_a_batch_too_small_for_its_normalisation_is_refused(config, train, tmp_path):
    small = replace(
        config,
        model="slimdeconv-plain",
        phases=(Phase(size=(32, 32), batch=2, steps=1), Phase(size=(32, 32), batch=1, steps=1)),
        loss=LossSettings(),
    )

    with pytest.raises(ConfigError, match=r"a batch of 1 at size \[32, 32\] .*batch of at least 2") as caught:
        train(small, tmp_path / "run")

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_batch_of_one_is_enough_where_pictures_are_larger(config, train, tmp_path):
    large = replace(
        config,
        model="slimdeconv-plain",
        phases=(Phase(size=(64, 64), batch=1, steps=1),),
        loss=LossSettings(),
    )

    assert train(large, tmp_path / "run").step == 1
