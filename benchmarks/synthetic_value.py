"""What rendered people are worth: one small network, the same steps, three training mixtures.

Trains `litepose-plain` from scratch on (a) real photos of one person, as mosaics, (b) rendered people, (c)
both, and scores each on labelled photos it never saw: keypoints of people framed by their labels (each
keypoint taken at its heatmap's highest cell, PCK@0.2 of the torso diagonal), and the whole chain's AP.

    python benchmarks/synthetic_value.py --data DIR --rendered FOLDER --out runs/value

DIR holds `lspet`, `lsp_train` and `coco_dev`; FOLDER is what `fleetpose synth dataset` wrote. People are
framed alike in all mixtures: each rendered person counts as a picture of that person, as the photos are, and
what surrounds their box is ignored. A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fleetpose.codecs.description import InputDescription
from fleetpose.data.annotations import read_coco
from fleetpose.data.framing import around_keypoints
from fleetpose.data.samples import load_sample, warp_sample
from fleetpose.data.scenes import SceneSettings, Source
from fleetpose.geometry import IMAGE_MEAN, IMAGE_STD, cells_to_pixels, similarity
from fleetpose.models import PoseNetwork
from fleetpose.recipes.first_weights import recipe
from fleetpose.recipes.shipping import load_trained, validator
from fleetpose.runtime.predictor import normalise
from fleetpose.skeletons import COCO
from fleetpose.train.config import OptimiserSettings, Phase, TrainConfig, ValidationSet
from fleetpose.train.engine import train

#: Side of the square canvas on which people are framed, and the person's share of it.
SIDE, SHARE = 96, 0.8
#: Rendered people who are smaller, or show fewer keypoints, teach little at this size.
MIN_PIXELS, MIN_VISIBLE = 48, 6
LIMBS = np.arange(5, 17)


def mixtures(data: Path, rendered: Path, people: Path) -> dict[str, tuple[Source, ...]]:
    """Name of each mixture → its sources; `people` holds the rendered people one by one."""
    real = tuple(source for source in recipe(data).sources if source.is_single_person)
    drawn = Source(images=rendered, annotations=people, weight=5.5, is_single_person=True)
    return {"real": real, "rendered": (drawn,), "both": (*real, drawn)}


def split_people(annotations: Path, out: Path) -> Path:
    """Write a data set with one picture entry per person who shows enough → its file."""
    data = json.loads(annotations.read_text())
    pictures = {image["id"]: image for image in data["images"]}
    chosen = [
        person
        for person in data["annotations"]
        if max(person["bbox"][2:]) >= MIN_PIXELS and person["keypoints"][2::3].count(2) >= MIN_VISIBLE
    ]
    data["images"] = [pictures[person["image_id"]] | {"id": person["id"]} for person in chosen]
    data["annotations"] = [person | {"image_id": person["id"]} for person in chosen]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(data))
    return out


def framed_pck(network: PoseNetwork, annotations: Path, images: Path, *, every: int = 1) -> float:
    """Share of limb keypoints within a fifth of the torso diagonal, people framed by their labels."""
    hits = total = 0
    settings = InputDescription(short_side=SIDE, multiple=16, mean=IMAGE_MEAN, std=IMAGE_STD)
    for picture in read_coco(annotations, images, skeleton=COCO, is_zero_unknown=True):
        if picture.image_id % every or not len(picture.keypoints):
            continue
        sample = load_sample(picture)
        for person, box in zip(picture.keypoints, around_keypoints(picture.keypoints), strict=True):
            torso = float(np.linalg.norm(person[5, :2] - person[12, :2]))
            if min(person[5, 2], person[12, 2]) == 0 or torso < 1:
                continue
            affine = similarity(
                source_xy=((box[0] + box[2]) / 2, (box[1] + box[3]) / 2),
                target_xy=((SIDE - 1) / 2, (SIDE - 1) / 2),
                scale=SHARE * SIDE / max(box[2] - box[0], box[3] - box[1]),
            )
            alone = replace(sample, keypoints=person[None], boxes=box[None], is_known=person[None, :, 2] > 0)
            framed = warp_sample(alone, affine, (SIDE, SIDE), flip_permutation=COCO.flip_permutation)
            with torch.inference_mode():
                maps = network(torch.from_numpy(normalise(framed.image, settings)))
            fine = maps["heatmaps_s2"]
            summed = fine + torch.nn.functional.interpolate(
                maps["heatmaps_s4"], size=fine.shape[2:], mode="bilinear"
            )
            peaks = summed[0].flatten(1).argmax(dim=1).numpy()
            cells = np.stack([peaks % fine.shape[3], peaks // fine.shape[3]], axis=1).astype(float)
            error = np.linalg.norm(cells_to_pixels(cells, 2) - framed.keypoints[0, :, :2], axis=1)
            counted = framed.keypoints[0, LIMBS, 2] > 0
            scale = SHARE * SIDE / max(box[2] - box[0], box[3] - box[1])
            hits += int((counted & (error[LIMBS] < 0.2 * torso * scale)).sum())
            total += int(counted.sum())
    return 100 * hits / max(total, 1)


def main() -> None:
    """Train the three mixtures in turn and print one row each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rendered", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    data = arguments.data
    coco = (data / "coco_dev/person_keypoints.json", data / "coco_dev/images")
    print("| mixture | scenes | coco_dev framed PCK | coco_dev AP | AP50 | lspet framed PCK |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    rendered = arguments.rendered
    people = split_people(rendered / "person_keypoints_train.json", arguments.out / "rendered_people.json")
    for name, sources in mixtures(data, rendered, people).items():
        scenes = SceneSettings(tiles=(0.6, 0.4, 0), person_share=(0.6, 1.15), light=0.6)
        config = TrainConfig(
            model="litepose-plain",
            sources=sources,
            phases=(Phase(size=(SIDE, SIDE), batch=arguments.batch, steps=arguments.steps, scenes=scenes),),
            optimiser=OptimiserSettings(lr=1.5e-3, warmup_steps=100, ema_decay=0.99),
            loss=recipe(data).loss,
            threads=1,
            precision="bf16-mixed",
            validation=(ValidationSet("coco_dev", *coco),),
            short_side=128,
        )
        folder = arguments.out / name
        train(config, folder, is_resumed=(folder / "last.pt").exists())
        network, _, _ = load_trained(folder / "last.pt")
        score = validator(config)
        scores = score(network) if score else {}
        framed = framed_pck(network, *coco)
        sports = framed_pck(network, data / "lspet/lspet_coco17.json", data / "lspet/images", every=10)
        row = (
            name,
            arguments.steps * arguments.batch,
            framed,
            scores["coco_dev/AP"],
            scores["coco_dev/AP50"],
            sports,
        )
        print("| {} | {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} |".format(*row), flush=True)


if __name__ == "__main__":
    main()
