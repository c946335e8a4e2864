"""Keep of `lspet`'s labels those limb keypoints that a second teacher confirms, to tell errors from noise.

    python benchmarks/confirmed_labels.py LSPET/lspet_coco17.json confirmed.json
    fleetpose evaluate confirmed.json --images LSPET/images --every 10 -m slimdeconv-plain --boxes gt

`votes` in that file say of each keypoint whether one of two teachers agrees with the annotator (1) or not.
Keypoints without such a vote become unlabelled; boxes and everything else stay. What remains is easier too,
since teachers fail where poses are hard: the score is one of the labels that can be trusted, not of all.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fleetpose.metrics.pck import LIMB_KEYPOINTS
from fleetpose.skeletons import COCO

CONFIRMED = 1
LIMBS = frozenset(COCO.index(name) for name in LIMB_KEYPOINTS)


def main() -> None:
    """Write the file, and say how much is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    data = json.loads(arguments.labels.read_text(encoding="utf-8"))
    if not all("votes" in person for person in data["annotations"]):
        sys.exit(f"{arguments.labels} has no votes of teachers; give lspet_coco17.json")
    labelled = kept = 0
    for person in data["annotations"]:
        for k, vote in enumerate(person["votes"]):
            if k not in LIMBS or not person["keypoints"][3 * k + 2]:
                continue
            labelled += 1
            kept += vote == CONFIRMED
            if vote != CONFIRMED:
                person["keypoints"][3 * k : 3 * k + 3] = [0, 0, 0]
        person["num_keypoints"] = sum(v > 0 for v in person["keypoints"][2::3])
    arguments.out.write_text(json.dumps(data), encoding="utf-8")
    print(f"kept {kept:,} of {labelled:,} labelled limb keypoints: {arguments.out}")


if __name__ == "__main__":
    main()
