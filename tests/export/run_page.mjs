// Runs the page's script in Node: node run_page.mjs FOLDER PICTURE OUTPUTS RUNTIME
// PICTURE is JSON { width, height, data: base64 of RGBA }. OUTPUTS is JSON of what the network gives, by name
// { dims, data }, or "-" to run the network by RUNTIME, a folder of onnxruntime-web. Prints the people and the
// network's input.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, picture, outputs, runtime] = process.argv.slice(2);
const fleetpose = await import(pathToFileURL(`${folder}/fleetpose.mjs`));
const description = JSON.parse(readFileSync(`${folder}/description.json`, "utf8"));
const { width, height, data } = JSON.parse(readFileSync(picture, "utf8"));
const image = { width, height, data: new Uint8ClampedArray(Buffer.from(data, "base64")) };

let people, input;
if (outputs === "-") {
  const ort = await import(pathToFileURL(`${runtime}/ort.wasm.min.mjs`));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = pathToFileURL(`${runtime}/`).href;
  const model = await fleetpose.create(ort, description, readFileSync(`${folder}/model.onnx`));
  people = await model.predict(image, { threshold: 0 });
} else {
  const given = JSON.parse(readFileSync(outputs, "utf8"), (key, value) => (key === "data" ? value.map((one) => one ?? -Infinity) : value));
  for (const one of Object.values(given)) one.data = Float64Array.from(one.data);
  const run = async (tensor, size) => { input = { size, sum: tensor.reduce((sum, one) => sum + one, 0), tensor: [...tensor] }; return given; };
  people = await fleetpose.predict(image, description, run, { threshold: 0 });
}
console.log(JSON.stringify({ people, input }));
