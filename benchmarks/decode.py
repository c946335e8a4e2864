"""Time of grouping at 512 x 512 cells, 17 keypoints, two tags, beside the authors' steps in plain numpy.

Run: `OMP_NUM_THREADS=1 python benchmarks/decode.py` (some minutes). It prints a table of medians in
milliseconds of processor time, which other programs disturb less than the clock. The variants take turns
within each round, so that a change of the machine falls on all of them.

`--crowded` prints instead how many people of crowded scenes come back with their own keypoints, from the
authors' grouping (`reference`), the default, and the default with a search of flanks.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from fleetpose.codecs.candidates import CELLS, GRID, HEIGHT_REACH, HEIGHTS, TAG_REACH, TAGS, CandidateCodec
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.grouping import GroupingSettings, group, keypoint_order
from fleetpose.codecs.reference import group_reference

Array = npt.NDArray[np.floating]

K, T = 17, 2

#: Above so many people the authors' way gets one timed round, and from the second number on none.
FEW_PEOPLE, TOO_MANY_PEOPLE = 10, 100


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
            draw(heatmaps[k], tags[k], (x, y), height=height, tag=1.5 * n + rng.normal(0, 0.1, T))
    return heatmaps, tags


def draw(heatmap: Array, tags: Array, xy: tuple[float, float], *, height: float, tag: Array) -> None:
    """Draw one keypoint, in place, where it is higher than what is there."""
    x, y = xy
    rows, columns = np.mgrid[int(y) - 8 : int(y) + 9, int(x) - 8 : int(x) + 9]
    blob = height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    is_higher = blob > heatmap[rows, columns]
    rows, columns = rows[is_higher], columns[is_higher]
    heatmap[rows, columns] = blob[is_higher]
    tags[rows, columns] = tag


#: Cells per side of a crowded scene, and of a person in it.
CROWDED_SIZE, PERSON_SIZE = 160, 64


def crowded_scene(num_people: int, *, overlap: float, noise: float, seed: int) -> tuple[Array, Array, Array]:
    """Heatmaps, tags and true places `[N, K, 2]` of people who stand close; NaN where one has no keypoint.

    Args:
        num_people: N.
        overlap: share of a person's width by which each stands over the neighbour.
        noise: deviation of each keypoint's tag from the person's; people's are 1.5 apart. Heights vary too,
            one keypoint in ten is as low as 0.05, and one in ten is not there.
        seed: of all that is drawn by chance.
    """
    rng = np.random.default_rng(seed)
    heatmaps = np.abs(rng.normal(0, 0.004, (K, CROWDED_SIZE, CROWDED_SIZE))).astype(np.float32)
    tags = rng.normal(0, 0.3, (K, CROWDED_SIZE, CROWDED_SIZE, T)).astype(np.float32)
    lowest, highest = PERSON_SIZE / 2 + 9, CROWDED_SIZE - PERSON_SIZE / 2 - 9
    centres = [rng.uniform(lowest, highest, 2)]
    while len(centres) < num_people:
        # Beside somebody who is there, as in a group.
        away = PERSON_SIZE * (1 - overlap) * np.exp(1j * rng.uniform(0, 2 * np.pi))
        beside = centres[rng.integers(len(centres))] + (away.real, away.imag)
        centres.append(np.clip(beside, lowest, highest))
    people = np.array(centres)[:, None] + rng.uniform(-PERSON_SIZE / 2, PERSON_SIZE / 2, (num_people, K, 2))
    people[rng.uniform(size=people.shape[:2]) < 0.1] = np.nan
    for n, k in np.argwhere(np.isfinite(people[..., 0])):
        height = 0.05 if rng.uniform() < 0.1 else rng.uniform(0.3, 1)
        tag = 1.5 * n + rng.normal(0, noise, T)
        draw(heatmaps[k], tags[k], tuple(people[n, k]), height=height, tag=tag)
    return heatmaps, tags, people


def recovered(found: Array, people: Array, *, reach: float = 2.0) -> tuple[float, float, float]:
    """Compare people found with the true ones.

    Args:
        found: `[M, K, 3]` (x, y, score) in cells.
        people: `[N, K, 2]`, NaN where the person has no such keypoint.
        reach: cells within which a keypoint is right.

    Returns:
        Share of people who came back with all their keypoints but two at most, share of keypoints that came
        back with their person, and wrong keypoints of these people per true one.
    """
    away = np.linalg.norm(found[None, :, :, :2] - people[:, None], axis=-1)
    is_right = (away <= reach) & (found[None, :, :, 2] > 0)
    right = is_right.sum(axis=2)  # [N, M]
    person, match = linear_sum_assignment(-right)
    counts, true = right[person, match], np.isfinite(people[..., 0]).sum(axis=1)
    wrong = (found[match, :, 2] > 0).sum(axis=1) - counts
    whole = counts >= true[person] - 2
    return whole.sum() / len(people), counts.sum() / true.sum(), wrong.sum() / true.sum()


def candidates_of(heatmaps: Array, tags: Array, settings: GroupingSettings) -> dict[str, Array]:
    """What a network with a decoding tail returns for these maps, of the first tag (it has no flip pass)."""
    _, h, w = heatmaps.shape
    highest = np.stack([cv2.dilate(one, np.ones((3, 3), np.uint8)) for one in heatmaps])
    maxima = np.where(heatmaps >= highest, heatmaps, -np.inf).reshape(K, -1)
    some = np.argpartition(-maxima, settings.weak_limit, axis=1)[:, : settings.weak_limit]
    cells = np.take_along_axis(some, np.argsort(-np.take_along_axis(maxima, some, 1), axis=1), 1)
    rows, columns = np.divmod(cells, w)
    around = {}
    for name, maps, reach, fill in (
        (HEIGHTS, heatmaps, HEIGHT_REACH, {"mode": "constant", "constant_values": -np.inf}),
        (TAGS, tags[..., 0], TAG_REACH, {"mode": "edge"}),
    ):
        padded = np.pad(maps, ((0, 0), (reach, reach), (reach, reach)), **fill)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1,) * 2, axis=(1, 2))
        around[name] = np.ascontiguousarray(windows[np.arange(K)[:, None], rows, columns])
    return {CELLS: cells, GRID: np.array([h, w]), **around}


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
    people: dict[float, Array] = {}
    tags: dict[float, list[Array]] = {}
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


def median_times(
    variants: dict[str, Callable[[], object]], *, rounds: int, slow_rounds: int, slow: tuple[str, ...]
) -> dict[str, float]:
    """Median milliseconds per variant, which take turns; the slow ones sit out later rounds.

    Each is run once before, but for slow variants of a single round.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            last = slow_rounds if name in slow else rounds
            if number > last or (last == 1 and not number):
                continue
            start = time.process_time()
            run()
            if number:
                times[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in times.items() if values}


def print_times(people: list[int], *, size: int, rounds: int) -> None:
    """Print a row per number of people."""
    names = ["plain numpy", "group_reference", "group", "unrefined", "flank search", "from candidates"]
    ratios = ["plain / group", "plain / candidates"]
    print(f"| people | returned | {' | '.join(names + ratios)} |")
    print("| ---: " * (len(names) + len(ratios) + 2) + "|")
    fields = (Field(FieldKind.HEATMAPS, K, 4), Field(FieldKind.TAGS, K, 4))
    for num_people in people:
        heatmaps, tags = scene(num_people, size=size)
        settings = GroupingSettings(max_people=max(30, num_people))
        unrefined, flanks = replace(settings, is_refined=False), replace(settings, has_flank_search=True)
        codec = CandidateCodec(fields=fields, grouping=settings)
        variants: dict[str, Callable[[], object]] = {
            "plain numpy": partial(group_plainly, heatmaps, tags, settings),
            "group_reference": partial(group_reference, heatmaps, tags, settings),
            "group": partial(group, heatmaps, tags, settings),
            "unrefined": partial(group, heatmaps, tags, unrefined),
            "flank search": partial(group, heatmaps, tags, flanks),
            "from candidates": partial(codec.decode, candidates_of(heatmaps, tags, settings)),
        }
        slow = ("plain numpy", "group_reference")
        if num_people >= TOO_MANY_PEOPLE:
            variants = {name: run for name, run in variants.items() if name not in slow}
        slow_rounds = rounds if num_people <= FEW_PEOPLE else 1
        ms = median_times(variants, rounds=rounds, slow_rounds=slow_rounds, slow=slow)
        plain = ms.get("plain numpy")
        cells = [f"{ms[name]:.1f}" if name in ms else "-" for name in names]
        faster = ("group", "from candidates")
        cells += ["-" if plain is None else f"{plain / ms[name]:.0f}" for name in faster]
        returned = len(group(heatmaps, tags, settings)[0])
        print(f"| {num_people} | {returned} | {' | '.join(cells)} |", flush=True)


def print_recovered(people: list[int], *, scenes: int) -> None:
    """Print, per crowded scene, whom the authors' grouping, the default and a search of flanks bring back."""
    print("| people | overlap | tag noise | mode | whole people | right | wrong | returned / true |")
    print("| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for num_people in people:
        for overlap, noise in ((0.3, 0.1), (0.6, 0.3)):
            modes: dict[str, Callable[[Array, Array], tuple[Array, Array]]] = {
                "reference": group_reference,
                "default": group,
                "flank search": partial(group, settings=GroupingSettings(has_flank_search=True)),
            }
            rows: dict[str, list[tuple[float, ...]]] = {mode: [] for mode in modes}
            for seed in range(scenes):
                heatmaps, tags, truth = crowded_scene(num_people, overlap=overlap, noise=noise, seed=seed)
                for mode, run in modes.items():
                    found, _ = run(heatmaps, tags)
                    rows[mode].append((*recovered(found, truth), len(found) / num_people))
            for mode, values in rows.items():
                whole, right, wrong, returned = np.mean(values, axis=0)
                print(
                    f"| {num_people} | {overlap} | {noise} | {mode} | {100 * whole:.0f} % "
                    f"| {100 * right:.1f} % | {100 * wrong:.1f} % | {returned:.2f} |",
                    flush=True,
                )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="+")
    parser.add_argument("--size", type=int, default=512, help="cells per side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crowded", action="store_true", help="count who comes back, not time")
    parser.add_argument("--scenes", type=int, default=5, help="crowded scenes per row")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.crowded:
        print_recovered(options.people or [3, 10, 20, 30, 40], scenes=options.scenes)
    else:
        print_times(options.people or [1, 3, 10, 30, 100], size=options.size, rounds=options.rounds)


if __name__ == "__main__":
    main()
