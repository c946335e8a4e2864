// People in pictures, in a browser or in Node: preprocessing, network and decoding of one FleetPose model.
// Whole coordinates are pixel centres. Licence: Apache-2.0.
//
//     import * as ort from "./ort.wasm.min.mjs";
//     import { load } from "./fleetpose.mjs";
//     const model = await load(ort, ".");
//     const people = await model.predict(context.getImageData(0, 0, width, height));
//
// Each of the people is { score, keypoints: [[x, y, score], …] }, in pixels of the picture; score 0 is not found.

// What OpenCV takes for a Gaussian of so many cells; longer ones follow from its rule for the spread.
const SMALL_KERNELS = { 1: [1], 3: [1, 2, 1], 5: [1, 4, 6, 4, 1], 7: [2, 7, 14, 18, 14, 7, 2], 9: [4, 13, 30, 51, 60, 51, 30, 13, 4] };
// Heads, shoulders, hips … first: what is found most surely. Other skeletons go as they stand.
const ORDER = [0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16];

export async function load(ort, folder) {
  const answers = await Promise.all(["description.json", "model.onnx"].map((name) => fetch(`${folder}/${name}`)));
  for (const answer of answers) if (!answer.ok) throw new Error(`cannot read ${answer.url}: ${answer.status}`);
  return create(ort, await answers[0].json(), new Uint8Array(await answers[1].arrayBuffer()));
}

export async function create(ort, description, bytes) {
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  const run = async (tensor, [h, w]) => {
    const outputs = await session.run({ image: new ort.Tensor("float32", tensor, [1, 3, h, w]) });
    return Object.fromEntries(Object.entries(outputs).map(([name, one]) => [name, { data: one.data, dims: one.dims }]));
  };
  return { description, predict: (image, settings = {}) => predict(image, description, run, settings) };
}

// image: { width, height, data: RGBA bytes }; settings: { threshold, boxes: [[x1, y1, x2, y2], …] for top-down }.
export async function predict(image, description, run, { threshold = 0.1, boxes } = {}) {
  const size = [image.height, image.width];
  let people = [];
  if (description.codec.type === "top_down") {
    const codec = description.codec;
    for (const box of boxes ?? [[-0.5, -0.5, size[1] - 0.5, size[0] - 0.5]]) {
      const affine = fitBox(box, codec.input_size, codec.box_padding);
      const outputs = await run(canvas(image, affine, codec.input_size, description.input), codec.input_size);
      const keypoints = back(decodeTopDown(outputs, description), affine, size);
      people.push({ keypoints, score: personScore(keypoints.map((one) => one[2]), codec) });
    }
  } else {
    const [affine, canvasSize] = fitCanvas(size, description.input);
    const outputs = await run(canvas(image, affine, canvasSize, description.input), canvasSize);
    people = decodeCandidates(outputs, description)
      .filter((one) => one.keypoints.some((point) => point[2] > 0 && isInside(undo(point, affine), size)))
      .map(({ keypoints, score }) => ({ score, keypoints: back(keypoints, affine, size) }));
  }
  return people.filter((one) => one.score >= threshold).sort((a, b) => b.score - a.score);
}

// ---- From the picture to the network's input. An affine map is { scale, x, y }: target = scale * source + (x, y).

export function fitCanvas([h, w], input) {
  const factor = Math.min(input.short_side / Math.min(h, w), input.max_side / Math.max(h, w));
  const side = (length) => Math.max(1, Math.ceil(Math.round(length * factor * 1000) / 1000 / input.multiple)) * input.multiple;
  const [canvasH, canvasW] = [h, w].map((length) => Math.max(side(length), input.min_side));
  return [centred(factor, [(w - 1) / 2, (h - 1) / 2], [canvasH, canvasW]), [canvasH, canvasW]];
}

export function fitBox([x1, y1, x2, y2], [h, w], padding) {
  const scale = Math.min(h / (Math.max(y2 - y1, 1) * padding), w / (Math.max(x2 - x1, 1) * padding));
  return centred(scale, [(x1 + x2) / 2, (y1 + y2) / 2], [h, w]);
}

const centred = (scale, [x, y], [h, w]) => ({ scale, x: (w - 1) / 2 - scale * x, y: (h - 1) / 2 - scale * y });
const undo = ([x, y], affine) => [(x - affine.x) / affine.scale, (y - affine.y) / affine.scale];
const isInside = ([x, y], [h, w]) => x >= -0.5 && y >= -0.5 && x < w - 0.5 && y < h - 0.5;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// Keypoints in pixels of the picture, those beyond its border on the outermost pixel.
function back(keypoints, affine, [h, w]) {
  return keypoints.map((point) => {
    if (!(point[2] > 0)) return [0, 0, 0];
    const [x, y] = undo(point, affine);
    return [clamp(x, 0, w - 1), clamp(y, 0, h - 1), Math.min(point[2], 1)];
  });
}

// Picture moved by the affine map onto a canvas of (h, w) → (rgb - mean) / std, [3, h, w].
export function canvas(image, affine, [h, w], input) {
  while (affine.scale < 0.5 && Math.max(image.width, image.height) > 1) {
    image = halved(image); // so that fine texture does not alias
    affine = { scale: 2 * affine.scale, x: affine.x + 0.5 * affine.scale, y: affine.y + 0.5 * affine.scale };
  }
  const tensor = new Float32Array(3 * h * w);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const [column, row] = undo([x, y], affine);
      const [left, top] = [Math.floor(column), Math.floor(row)];
      for (let channel = 0; channel < 3; channel++) {
        let value = 0;
        for (const [dx, dy] of [[0, 0], [1, 0], [0, 1], [1, 1]]) {
          const [px, py] = [left + dx, top + dy];
          const inside = px >= 0 && py >= 0 && px < image.width && py < image.height;
          const colour = inside ? image.data[4 * (py * image.width + px) + channel] : input.padding[channel];
          value += colour * Math.abs(1 - dx - (column - left)) * Math.abs(1 - dy - (row - top));
        }
        tensor[(channel * h + y) * w + x] = (Math.round(value) - input.mean[channel]) / input.std[channel];
      }
    }
  }
  return tensor;
}

function halved(image) {
  const [width, height] = [Math.ceil(image.width / 2), Math.ceil(image.height / 2)];
  const data = new Uint8ClampedArray(4 * width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [right, below] = [Math.min(2 * x + 1, image.width - 1), Math.min(2 * y + 1, image.height - 1)];
      for (let channel = 0; channel < 4; channel++) {
        const at = (px, py) => image.data[4 * (py * image.width + px) + channel];
        const sum = at(2 * x, 2 * y) + at(right, 2 * y) + at(2 * x, below) + at(right, below);
        data[4 * (y * width + x) + channel] = (sum + 2) >> 2;
      }
    }
  }
  return { width, height, data };
}

// ---- Top-down: one peak per heatmap → [K][x, y, score] in pixels of the crop.

export function decodeTopDown(outputs, { codec, fields }) {
  const [{ data, dims }] = Object.values(outputs);
  const [count, h, w] = dims.slice(-3).map(Number);
  const stride = fields[0].stride;
  return Array.from({ length: count }, (_, k) => {
    const map = data.subarray(k * h * w, (k + 1) * h * w);
    const height = Math.min(map[highest(map)], 1);
    if (!(height > 0)) return [0, 0, 0];
    const isExpected = codec.decoding === "expected_oks";
    const judged = isExpected ? expected(map, [h, w], Math.max(0.7, 2 * codec.sigmas[k] * codec.person_share * h)) : map;
    const best = highest(judged);
    const [x, y] = top(judged, best % w, Math.floor(best / w), [h, w], codec);
    const pixel = (cell) => (codec.is_corner_aligned ? cell * stride : (cell + 0.5) * stride - 0.5);
    return [pixel(x), pixel(y), isExpected ? Math.sqrt(height * Math.min(judged[best], 1)) : height];
  });
}

const highest = (map) => map.reduce((best, value, cell) => (value > map[best] ? cell : best), 0);

// Similarity to the true place that a guess in each cell can expect, if the map tells the chances of places.
function expected(map, [h, w], spread) {
  const odds = Float64Array.from(map, (value) => clamp(value, 1e-5, 1 - 1e-5)).map((chance) => chance / (1 - chance));
  const sum = odds.reduce((total, one) => total + one, 0);
  const weights = Array.from({ length: Math.max(h, w) }, (_, d) => Math.exp(-0.5 * (d / spread) ** 2));
  const blurred = (from, length, step) => from.map((_, cell) => {
    const place = Math.floor(cell / step) % length;
    let total = 0;
    for (let other = 0; other < length; other++) total += weights[Math.abs(other - place)] * from[cell + (other - place) * step];
    return total;
  });
  return blurred(blurred(odds.map((one) => one / sum), w, 1), h, w);
}

function personScore(scores, codec) {
  const mean = (some) => some.reduce((sum, one) => sum + one, 0) / Math.max(1, some.length);
  if (codec.decoding === "expected_oks") return Math.sqrt(mean(scores.map((one) => one * one)));
  return mean(scores.filter((one) => one > 0.2));
}

function top(map, x, y, [h, w], codec) {
  const at = (column, row) => (column < 0 || row < 0 || column >= w || row >= h ? 0 : map[row * w + column]);
  if (codec.decoding === "quarter") {
    if (!(x > 1 && x < w - 1 && y > 1 && y < h - 1)) return [x, y];
    return [x + 0.25 * Math.sign(at(x + 1, y) - at(x - 1, y)), y + 0.25 * Math.sign(at(x, y + 1) - at(x, y - 1))];
  }
  if (codec.decoding === "parabola" || codec.decoding === "expected_oks") return parabolas(at, x, y, [h, w]);
  if (!(x >= 2 && x < w - 2 && y >= 2 && y < h - 2)) return [x, y];
  const taps = kernel(codec.kernel_cells);
  const reach = (taps.length - 1) / 2;
  const window = [-2, -1, 0, 1, 2].map((dy) => [-2, -1, 0, 1, 2].map((dx) => {
    let sum = 0;
    taps.forEach((down, i) => taps.forEach((across, j) => { sum += down * across * at(x + dx + j - reach, y + dy + i - reach); }));
    return sum;
  }));
  const highest = Math.max(...window.flat());
  const l = window.map((row) => row.map((value) => Math.log(Math.max(highest > 0 ? value * at(x, y) / highest : 0, 1e-10))));
  const [sx, sy] = [(l[2][3] - l[2][1]) / 2, (l[3][2] - l[1][2]) / 2];
  const [xx, yy] = [(l[2][4] - 2 * l[2][2] + l[2][0]) / 4, (l[4][2] - 2 * l[2][2] + l[0][2]) / 4];
  const xy = (l[3][3] - l[1][3] - l[3][1] + l[1][1]) / 4;
  const bend = xx * yy - xy * xy;
  const step = [(xy * sy - yy * sx) / bend, (xy * sx - xx * sy) / bend];
  return bend !== 0 && step.every((one) => Math.abs(one) <= 2) ? [x + step[0], y + step[1]] : [x, y];
}

function kernel(length) {
  const sigma = 0.3 * ((length - 1) * 0.5 - 1) + 0.8;
  const taps = SMALL_KERNELS[length] ?? Array.from({ length }, (_, i) => Math.exp(-((i - (length - 1) / 2) ** 2) / (2 * sigma ** 2)));
  const sum = taps.reduce((total, one) => total + one, 0);
  return taps.map((one) => one / sum);
}

// Top of the parabola through three logarithms per axis, within half a cell.
function parabolas(at, x, y, [h, w]) {
  const floor = Math.max(1e-3 * at(x, y), 1.1754944e-38);
  return [[x, w], [y, h]].map(([peak, length], axis) => {
    if (length < 3) return peak;
    const middle = clamp(peak, 1, length - 2);
    const [a, b, c] = [-1, 0, 1].map((step) => Math.log(Math.max(axis ? at(x, middle + step) : at(middle + step, y), floor)));
    const bend = a - 2 * b + c;
    return bend < 0 ? clamp(middle + (0.5 * (a - c)) / bend, peak - 0.5, peak + 0.5) : peak;
  });
}

// ---- Bottom-up: candidates from the model's decoding tail → people, in pixels of the canvas.

export function decodeCandidates(outputs, { codec, fields }) {
  const s = codec.grouping;
  const [h, w] = [0, 1].map((axis) => Number(outputs.grid_size.data[axis]));
  const [count, number] = outputs.candidate_cells.dims.slice(-2).map(Number);
  const stride = Math.min(...fields.filter((one) => one.kind === "heatmaps").map((one) => one.stride));
  const ratio = fields.find((one) => one.kind === "tags").stride / stride;
  const found = [...Array(count * number).keys()].map((n) => {
    const cell = Number(outputs.candidate_cells.data[n]);
    const [x, y] = [cell % w, Math.floor(cell / w)];
    const height = (dx, dy) => outputs.candidate_heights.data[25 * n + 5 * (dy + 2) + dx + 2];
    const tag = (dx, dy) => outputs.candidate_tags.data[9 * n + 3 * (dy + 1) + dx + 1];
    return { k: Math.floor(n / number), x, y, cell, height, tag, score: height(0, 0) };
  });
  const place = (one, isMiddle) => {
    const [dx, dy] = isMiddle ? plateauMiddle(one) : [0, 0];
    const [x, y] = [one.x + dx, one.y + dy];
    const at = (column, row) => one.height(column - one.x, row - one.y);
    return { ...one, point: parabolas(at, x, y, [h, w]), label: tagAt(one, x, y, ratio, [h, w]) };
  };
  const highest = (some, limit) => {
    const kept = [];
    for (let k = 0; k < count; k++) {
      kept.push(...some.filter((one) => one.k === k).sort((a, b) => b.score - a.score || a.cell - b.cell).slice(0, limit));
    }
    return kept;
  };
  const strong = highest(found.filter((one) => one.score > s.detection_threshold && isHighest(one, s.window)), s.max_people);
  const people = assign(strong.map((one) => place(one, true)), s, count)
    .filter((members) => members.filter(Boolean).length >= s.min_keypoints);
  const wanted = found.filter((one) => one.score > s.refine_threshold);
  const weak = s.is_refined ? highest(wanted, 4 * s.max_people).map((one) => place(one, false)) : [];
  const pixel = (cell) => (cell + 0.5) * stride - 0.5;
  return people.map((members) => {
    const score = members.reduce((sum, one) => sum + (one?.score ?? 0), 0) / count;
    const all = [...members.keys()].map((k) => members[k] ?? missing(k, meanLabel(members), weak, s));
    return { score, keypoints: all.map((one) => (one ? [...one.point.map(pixel), one.score] : [0, 0, 0])) };
  });
}

// Whether a candidate is the highest of its window; of equals the first in reading order is.
function isHighest(one, window) {
  const reach = (window - 1) / 2;
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const isEarlier = dy < 0 || (dy === 0 && dx < 0);
      if (isEarlier ? one.height(dx, dy) >= one.score : one.height(dx, dy) > one.score) return false;
    }
  }
  return true;
}

function plateauMiddle(one) {
  let [sumX, sumY, equal] = [0, 0, 0];
  for (let dy = 0; dy <= 2; dy++) {
    for (let dx = -2; dx <= 2; dx++) {
      if (one.height(dx, dy) === one.score) [sumX, sumY, equal] = [sumX + dx, sumY + dy, equal + 1];
    }
  }
  return [Math.trunc(sumX / equal), Math.trunc(sumY / equal)];
}

function tagAt(one, x, y, ratio, [h, w]) {
  const column = clamp((x + 0.5) / ratio - 0.5, 0, w / ratio - 1);
  const row = clamp((y + 0.5) / ratio - 0.5, 0, h / ratio - 1);
  const [left, above] = [Math.floor(column), Math.floor(row)];
  const [right, below] = [Math.min(left + 1, w / ratio - 1), Math.min(above + 1, h / ratio - 1)];
  const [ownX, ownY] = [Math.floor(one.x / ratio), Math.floor(one.y / ratio)];
  const line = (py) => {
    const [first, second] = [one.tag(left - ownX, py - ownY), one.tag(right - ownX, py - ownY)];
    return first + (column - left ? (column - left) * (second - first) : 0);
  };
  return line(above) + (row - above ? (row - above) * (line(below) - line(above)) : 0);
}

const meanLabel = (members) => {
  const own = members.filter(Boolean);
  return own.reduce((sum, one) => sum + one.label, 0) / own.length;
};

// Candidates by keypoint → for each person a list of K candidates, null where not found.
function assign(candidates, s, count) {
  const people = [];
  const order = s.keypoint_order ?? (count === 14 || count === 17 ? ORDER.slice(0, count) : [...Array(count).keys()]);
  for (const k of order) {
    const mine = candidates.filter((one) => one.k === k);
    const means = people.map(meanLabel);
    const gains = mine.map((one) => means.map((mean) => {
      const gain = s.tag_threshold ** 2 - (one.label - mean) ** 2;
      return gain > 0 ? gain + one.score : 0;
    }));
    greatest(gains, means.length).forEach((owner, n) => {
      if (owner >= 0) people[owner][k] = mine[n];
      else if (people.length < s.max_people) people.push(Array.from({ length: count }, (_, j) => (j === k ? mine[n] : null)));
    });
  }
  return people;
}

// The best of the weak candidates for a missing keypoint: high, and with a tag near the person's.
function missing(k, mean, weak, s) {
  let [best, most] = [null, 0];
  for (const one of weak) {
    const merit = one.k === k ? one.score * (1 - ((one.label - mean) / (0.5 * s.tag_threshold)) ** 2) : 0;
    if (merit > most || (best && merit === most && one.cell < best.cell && merit > 0)) [best, most] = [one, merit];
  }
  return best;
}

// Column per row so that the sum of gains is greatest, -1 where nothing is gained (Hungarian method).
function greatest(gains, columns) {
  const rows = gains.length;
  const total = columns + rows + 1; // a column per row to stay alone in
  const cost = (row, column) => (column <= columns ? -gains[row - 1][column - 1] : 0);
  const [u, v, owner] = [new Array(rows + 1).fill(0), new Array(total).fill(0), new Array(total).fill(0)];
  for (let row = 1; row <= rows; row++) {
    const [least, came, done] = [new Array(total).fill(Infinity), new Array(total).fill(0), new Array(total).fill(false)];
    let at = 0;
    owner[0] = row;
    while (owner[at]) {
      done[at] = true;
      let nearest = -1;
      for (let column = 1; column < total; column++) {
        if (done[column]) continue;
        const step = cost(owner[at], column) - u[owner[at]] - v[column];
        if (step < least[column]) [least[column], came[column]] = [step, at];
        if (nearest < 0 || least[column] < least[nearest]) nearest = column;
      }
      const delta = least[nearest];
      for (let column = 0; column < total; column++) {
        if (done[column]) [u[owner[column]], v[column]] = [u[owner[column]] + delta, v[column] - delta];
        else least[column] -= delta;
      }
      at = nearest;
    }
    while (at) [owner[at], at] = [owner[came[at]], came[at]];
  }
  const answer = new Array(rows).fill(-1);
  for (let column = 1; column <= columns; column++) {
    if (owner[column] && gains[owner[column] - 1][column - 1] > 0) answer[owner[column] - 1] = column - 1;
  }
  return answer;
}

// ---- Drawing.

export function draw(context, people, { skeleton }, { threshold = 0.1 } = {}) {
  const index = Object.fromEntries(skeleton.keypoints.map((name, k) => [name, k]));
  people.forEach(({ keypoints }, number) => {
    context.strokeStyle = context.fillStyle = `hsl(${(number * 137) % 360} 90% 55%)`;
    context.lineWidth = Math.max(2, context.canvas.width / 250);
    for (const limb of skeleton.limbs) {
      const [from, to] = limb.map((name) => keypoints[index[name]]);
      if (Math.min(from[2], to[2]) < threshold) continue;
      context.beginPath();
      // Canvas coordinates begin at a pixel's corner.
      context.moveTo(from[0] + 0.5, from[1] + 0.5);
      context.lineTo(to[0] + 0.5, to[1] + 0.5);
      context.stroke();
    }
    for (const [x, y, score] of keypoints) {
      if (score < threshold) continue;
      context.beginPath();
      context.arc(x + 0.5, y + 0.5, 1.5 * context.lineWidth, 0, 2 * Math.PI);
      context.fill();
    }
  });
}
