// MoveNet Lightning for movenet.py: reads pictures of 192 x 192 RGB bytes from stdin, answers each with a line: 51 numbers, y, x and
// confidence of COCO's 17 keypoints, as parts of the picture.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const SIDE = 192, BYTES = SIDE * SIDE * 3;
const packages = path.join(process.argv[2], "node_modules");
const require = createRequire(path.join(process.argv[2], "package.json"));
const tf = require("@tensorflow/tfjs-core");
const { loadGraphModel } = require("@tensorflow/tfjs-converter");
const { setWasmPaths } = require("@tensorflow/tfjs-backend-wasm");

const models = path.join(packages, "@vladmandic", "human", "models");
setWasmPaths(path.join(packages, "@tensorflow", "tfjs-backend-wasm", "dist/"));
await tf.setBackend("wasm");
await tf.ready();
const about = JSON.parse(fs.readFileSync(path.join(models, "movenet-lightning.json"), "utf8"));
const weights = fs.readFileSync(path.join(models, "movenet-lightning.bin"));
const model = await loadGraphModel(tf.io.fromMemory({
  modelTopology: about.modelTopology,
  weightSpecs: about.weightsManifest.flatMap((part) => part.weights),
  weightData: weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.length),
}));

let waiting = Buffer.alloc(0);
for await (const chunk of process.stdin) {
  waiting = Buffer.concat([waiting, chunk]);
  while (waiting.length >= BYTES) {
    const answer = tf.tidy(() => Array.from(model.execute(tf.tensor4d(Int32Array.from(waiting.subarray(0, BYTES)), [1, SIDE, SIDE, 3], "int32")).dataSync()));
    process.stdout.write(JSON.stringify(answer) + "\n");
    waiting = waiting.subarray(BYTES);
  }
}
