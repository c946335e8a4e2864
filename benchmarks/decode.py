"""Time of grouping at 512 x 512 cells, 17 keypoints, two tags, beside the authors' steps in plain numpy.

Run: `OMP_NUM_THREADS=1 python benchmarks/decode.py` (a few minutes). It prints a table of medians in
milliseconds of processor time, which other programs disturb less than the clock. The variants take turns
within each round, so that a change of the machine falls on all of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from fleetpose.codecs.grouping import GroupingSettings, group, keypoint_order
from fleetpose.codecs.reference import group_reference

Array = npt.NDArray[np.floating]

K, T = 17, 2


def scene(num_people: int, *, size: int, seed: int = 0) -> tuple[Array, Array]:
    """Heatmaps and tags of people in random places; one keypoint in ten is weak, and all maps are noisy."""
    rng = np.random.default_rng(seed)
    heatmaps = np.abs(rng.normal(0, 0.004, (K, size, size))).astype(np.float32)
    tags = rng.normal(0, 0.3, (K, size, size, T)).astype(np.float32)
    extent = min(0.4 * size, 0.8 * size / num_people**0.5)
    for n in range(num_people):
        centre = rng.uniform(extent / 2 + 8, size - extent / 2 - 8, 2)
        for k in range(K):
            x, y = centre + rng.uniform(-extent / 2, extent / 2, 2)
            height = 0.05 if rng.uniform() < 0.1 else rng.uniform(0.3, 1)
            rows, columns = np.mgrid[int(y) - 8 : int(y) + 9, int(x) - 8 : int(x) + 9]
            blob = height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
            is_higher = blob > heatmaps[k, rows, columns]
            rows, columns = rows[is_higher], columns[is_higher]
            heatmaps[k, rows, columns] = blob[is_higher]
            tags[k, rows, columns] = 1.5 * n + rng.normal(0, 0.1, (len(rows), T))
    return heatmaps, tags


def group_plainly(heatmaps: Array, tags: Array, settings: GroupingSettings) -> tuple[Array, list[float]]:
    """Run the authors' steps one after the other, each over whole maps, as `codecs/reference.py` says."""
    candidates = plain_candidates(heatmaps, tags, settings)
    people = plain_match(candidates, settings)
    for person in people:
        plain_adjust(person, heatmaps)
    scores = [person[:, 2].mean() for person in people]
    for person in people:
        plain_refine(person, heatmaps, tags)
    return np.array(people), scores


def plain_candidates(heatmaps: Array, tags: Array, settings: GroupingSettings) -> list[Array]:
    """Suppress all but the highest of 5 x 5 cells, then take the highest of each map."""
    _, h, w = heatmaps.shape
    padded = np.pad(heatmaps, ((0, 0), (2, 2), (2, 2)), constant_values=-np.inf)
    highest = padded[:, :h, :w].copy()
    for dy in range(5):
        for dx in range(5):
            np.maximum(highest, padded[:, dy : dy + h, dx : dx + w], out=highest)
    kept = np.where(heatmaps == highest, heatmaps, 0)
    rows = []
    for k in range(len(heatmaps)):
        cells = np.argsort(-kept[k], axis=None)[: settings.max_people]
        y, x = np.divmod(cells, w)
        found = np.column_stack([x, y, kept[k, y, x], tags[k, y, x]])
        rows.append(found[found[:, 2] > settings.detection_threshold])
    return rows


def plain_match(candidates: list[Array], settings: GroupingSettings) -> list[Array]:
    """Assign candidates to people by rounded tag distance, keypoint by keypoint."""
    people, tags = {}, {}
    for k in keypoint_order(K):
        rows, known = candidates[k], list(people)[: settings.max_people]
        columns = np.full(len(rows), len(known))
        if known and len(rows):
            means = np.array([np.mean(tags[key], axis=0) for key in known])
            distances = np.linalg.norm(rows[:, None, 3:] - means[None], axis=2)
            costs = np.round(distances) * 100 - rows[:, 2:3]
            columns = linear_sum_assignment(
                np.pad(costs, ((0, 0), (0, max(0, len(rows) - len(known)))), constant_values=1e10)
            )[1]
        for row, column in zip(range(len(rows)), columns, strict=False):
            if column < len(known) and distances[row, column] < settings.tag_threshold:
                key = known[column]
                tags[key].append(rows[row, 3:])
            else:
                key = rows[row, 3]
                tags[key] = [rows[row, 3:]]
            people.setdefault(key, np.zeros((K, 3 + T)))[k] = rows[row]
    return list(people.values())


def plain_adjust(person: Array, heatmaps: Array) -> None:
    """Move each found keypoint a quarter of a cell towards the higher neighbour."""
    _, h, w = heatmaps.shape
    for k in np.flatnonzero(person[:, 2] > 0):
        x, y = person[k, :2].astype(int)
        heat = heatmaps[k]
        person[k, 0] += 0.25 if heat[y, min(x + 1, w - 1)] > heat[y, max(x - 1, 0)] else -0.25
        person[k, 1] += 0.25 if heat[min(y + 1, h - 1), x] > heat[max(y - 1, 0), x] else -0.25
    person[person[:, 2] > 0, :2] += 0.5


def plain_refine(person: Array, heatmaps: Array, tags: Array) -> None:
    """Look in every whole map for the cell that fits the person best, and use it where none was found."""
    found = person[:, 2] > 0
    mean = np.mean([tags[k, int(person[k, 1]), int(person[k, 0])] for k in np.flatnonzero(found)], axis=0)
    for k in range(K):
        distances = ((tags[k] - mean[None, None]) ** 2).sum(axis=2) ** 0.5
        y, x = np.unravel_index(np.argmax(heatmaps[k] - np.round(distances)), heatmaps[k].shape)
        if not found[k] and heatmaps[k, y, x] > 0:
            person[k, :3] = x + 0.5, y + 0.5, heatmaps[k, y, x]


def median_times(variants: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Median milliseconds per variant; each is run once before, and they take turns."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            start = time.process_time()
            run()
            if number:
                times[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[1, 3, 10, 30, 100])
    parser.add_argument("--size", type=int, default=512, help="cells per side")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(
        "| people | returned | group | without refinement | group_reference | plain numpy | plain / group |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for num_people in options.people:
        heatmaps, tags = scene(num_people, size=options.size)
        settings = GroupingSettings(max_people=max(30, num_people))
        unrefined = GroupingSettings(max_people=max(30, num_people), is_refined=False)
        variants = {
            "group": partial(group, heatmaps, tags, settings),
            "unrefined": partial(group, heatmaps, tags, unrefined),
            "reference": partial(group_reference, heatmaps, tags, settings),
            "plain": partial(group_plainly, heatmaps, tags, settings),
        }
        ms = median_times(variants, rounds=options.rounds if num_people <= 10 else 2)
        returned = len(group(heatmaps, tags, settings)[0])
        print(
            f"| {num_people} | {returned} | {ms['group']:.1f} | {ms['unrefined']:.1f} "
            f"| {ms['reference']:.0f} | {ms['plain']:.0f} | {ms['plain'] / ms['group']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
