import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.media.sources import Source, SourceKind
from fleetpose.runtime.benchmark import (
    Candidate,
    Judgement,
    accuracy_of,
    benchmark,
    candidates_for,
    peer_candidates,
)
from fleetpose.runtime.benchmark_rows import STEPS, Row, fitting, pareto, to_csv, to_markdown
from fleetpose.runtime.choice import Engine, is_installed
from fleetpose.runtime.pareto import draw_pareto
from fleetpose.skeletons import COCO

needs_openvino = pytest.mark.skipif(
    not is_installed("openvino"), reason="the extra fleetpose[openvino] is not installed"
)


def _row(label, find_ms, accuracy):
    steps_ms = dict.fromkeys(STEPS, 1.0)
    return Row(label, label, "onnx", 9, 9.0, 12.0, find_ms, 100.0, steps_ms, 50.0, 1.5, 30.0, accuracy, 1.0)


@pytest.fixture
def picture(photo_of_dots):
    return Source(SourceKind.IMAGE, str(photo_of_dots))


@pytest.fixture
def photo_of_dots(tmp_path, draw_dots, stick_person):
    from fleetpose.media.images import write_image

    path = tmp_path / "photo.png"
    write_image(path, draw_dots([stick_person]))
    return path


def test_every_step_is_timed_and_adds_up(dots_model, picture):
    progress = []

    (row,) = benchmark(
        candidates_for([str(dots_model)], runtimes="onnx"),
        picture,
        frames=3,
        threads=1,
        progress=lambda done, total: progress.append((done, total)),
    )

    assert row.frames == 3
    assert row.people == 1
    assert min(row.steps_ms.values()) > 0
    assert row.median_ms <= row.p95_ms
    assert row.find_ms < row.median_ms
    assert row.frames_per_second == pytest.approx(1000 / row.median_ms, rel=0.8)
    assert row.megabytes == pytest.approx(dots_model.stat().st_size / 1e6)
    assert row.accuracy == 12.34
    assert progress[-1] == (5, 5)


def test_achieved_arithmetic_follows_from_the_card(dots_model, picture, fake_description):
    (row,) = benchmark(candidates_for([str(dots_model)], runtimes="onnx"), picture, frames=3, threads=1)

    # One picture of 256 x 256 is what the card's multiply-adds are for.
    expected = 2 * fake_description.card.macs / (row.steps_ms["network"] / 1e3) / 1e9
    assert row.gflops == pytest.approx(expected, rel=0.8)


@needs_openvino
def test_a_video_is_started_over_and_all_runtimes_take_part(dots_model, tmp_path, draw_dots, stick_person):
    from fleetpose.media.video import VideoWriter

    with VideoWriter(tmp_path / "clip.mp4", fps=10) as writer:
        for _ in range(2):
            writer.add(draw_dots([stick_person]))
    source = Source(SourceKind.VIDEO, str(tmp_path / "clip.mp4"))

    rows = benchmark(candidates_for([str(dots_model)]), source, frames=3, threads=1)

    assert [row.runtime for row in rows] == ["onnx", "openvino"]
    assert {row.frames for row in rows} == {3}
    assert all(row.steps_ms["encode"] > 0 for row in rows)


@needs_openvino
def test_in_a_folder_of_several_formats_each_counts_its_own_files(dots_model, picture, tmp_path):
    from fleetpose.export.openvino import write_openvino
    from fleetpose.runtime.session import read_description

    shutil.copy(dots_model, tmp_path / "model.onnx")
    write_openvino(dots_model, tmp_path / "model.xml", read_description(dots_model))

    onnx, openvino = benchmark(candidates_for([str(tmp_path)]), picture, frames=1, threads=1)

    sizes = {path.suffix: path.stat().st_size / 1e6 for path in tmp_path.iterdir()}
    assert onnx.megabytes == pytest.approx(sizes[".onnx"])
    assert openvino.megabytes == pytest.approx(sizes[".xml"] + sizes[".bin"])


def test_share_of_the_peak_and_efficiency_follow_from_what_was_measured():
    row = replace(_row("a", 4.0, 20.0), peak_gflops=200.0, watts=10.0)

    assert row.peak_share == 50.0 / 200.0
    assert row.efficiency == 20.0 * 100.0 / 10.0
    assert _row("b", 4.0, 20.0).efficiency is None
    assert replace(row, accuracy=None).efficiency is None
    table = next(csv.DictReader(io.StringIO(to_csv([row]))))
    assert (table["of peak"], table["AP x FPS / W"], table["J"]) == ("25 %", "200.0", "not readable")


def test_accuracy_is_measured_where_labels_are_given(
    dots_model, picture, tmp_path, photo_of_dots, stick_person
):
    points = np.concatenate([stick_person, np.full((17, 1), 2.0)], axis=1)
    x, y = stick_person.min(axis=0).tolist()
    w, h = np.ptp(stick_person, axis=0).tolist()
    person = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "num_keypoints": 17,
        "keypoints": points.ravel().tolist(),
        "bbox": [x, y, w, h],
        "area": w * h,
    }
    labels = tmp_path / "labels.json"
    labels.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": photo_of_dots.name, "width": 256, "height": 256}],
                "annotations": [person],
                "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}],
            }
        )
    )
    (row,) = benchmark(
        candidates_for([str(dots_model)], runtimes="onnx"),
        picture,
        frames=1,
        threads=1,
        judgement=Judgement(labels=labels, images=tmp_path, watts=5.0),
    )

    assert row.accuracy == pytest.approx(100, abs=1)  # and not the card's 12.34
    assert row.efficiency == pytest.approx(row.accuracy * row.frames_per_second / 5)


def test_a_network_that_is_no_file_runs_beside_model_files(dots_model, picture):
    from fleetpose.runtime.session import OnnxSession

    given = Candidate(str(dots_model), Engine("torch"), network=lambda: OnnxSession(dots_model, threads=1))

    rows = benchmark(
        [*candidates_for([str(dots_model)], runtimes="onnx"), given], picture, frames=1, threads=1
    )

    assert [row.label for row in rows] == ["dots onnx", "dots torch"]
    assert [row.people for row in rows] == [1, 1]


def test_a_published_network_runs_in_the_same_turns(shared, dots_model, picture):
    pytest.importorskip("ai_edge_litert")
    path = shared / "peers" / "movenet_singlepose_lightning_int8_4.tflite"
    candidates = candidates_for([str(dots_model)], runtimes="onnx") + peer_candidates([f"movenet={path}"])

    ours, peer = benchmark(candidates, picture, frames=2, threads=1)

    assert ours.frames == peer.frames == 2
    assert peer.steps_ms["network"] > 0
    assert peer.gflops is None  # it has no card
    assert peer.megabytes == pytest.approx(path.stat().st_size / 1e6)


def test_what_cannot_be_measured_is_refused(dots_model, picture):
    with pytest.raises(UnknownNameError, match="unknown runtime 'onxx'"):
        candidates_for([str(dots_model)], runtimes="onxx")
    with pytest.raises(UnknownNameError, match="unknown model 'litpose'"):
        candidates_for(["litpose"])
    with pytest.raises(ConfigError, match="at least one model and one frame"):
        benchmark([], picture)


ROWS = [
    _row("small", 4.0, 20.0),
    _row("beaten", 6.0, 19.0),
    _row("large", 12.0, 40.0),
    _row("new", 1.0, None),
]


@pytest.mark.parametrize(
    ("budget_ms", "label"), [(3.0, "new"), (5.0, "small"), (10.0, "small"), (12.0, "large"), (0.5, None)]
)
def test_the_most_accurate_within_the_budget_is_named(budget_ms, label):
    chosen = fitting(ROWS, budget_ms=budget_ms)

    assert (chosen and chosen.label) == label


def test_of_equals_the_faster_fits():
    assert fitting([_row("b", 6.0, 20.0), _row("a", 4.0, 20.0)], budget_ms=9).label == "a"


def test_the_front_holds_whom_nobody_beats():
    assert [row.label for row in pareto(ROWS)] == ["small", "large"]


def test_tables_hold_all_rows_and_the_waterfall():
    lines = to_markdown(ROWS).splitlines()

    assert len(lines) == 2 + len(ROWS)
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    for step in STEPS:
        assert f" {step} " in lines[0]
    table = list(csv.DictReader(io.StringIO(to_csv(ROWS))))
    assert [row["model"] for row in table] == ["small", "beaten", "large", "new"]
    assert [row["AP"] for row in table] == ["20", "19", "40", ""]
    assert table[0]["find ms"] == "4.00"


def test_the_plot_shows_rows_of_known_accuracy():
    canvas, fewer = draw_pareto(ROWS), draw_pareto(ROWS[:1])

    assert canvas.shape == (480, 720, 3)
    is_front = (canvas == (214, 39, 40)).all(axis=-1)
    assert is_front.sum() > (fewer == (214, 39, 40)).all(axis=-1).sum() > 0
    assert draw_pareto(ROWS[3:]) is None
    # Faster is further left, better is higher: the first and the last dot of the line.
    ys, xs = np.nonzero(is_front)
    assert ys[xs.argmin()] > ys[xs.argmax()]


@pytest.mark.parametrize(
    ("metrics", "accuracy"),
    [
        ({"coco_dev/AP": 3.0, "coco_dev/AP50": 9.0, "lspet/AP": 8.0}, 3.0),
        ({"lspet/AP": 8.0}, 8.0),
        ({"lspet/PCK@0.2": 30.0}, None),
        ({}, None),
    ],
)
def test_accuracy_is_the_average_precision_of_the_card(fake_description, metrics, accuracy):
    card = replace(fake_description.card, metrics=metrics)

    assert accuracy_of(replace(fake_description, card=card)) == accuracy
