// Classifies pictures by a network of the zoo, on the visitor's device. The page is docs/browser.md; what it loads beside
// this script is put there by tools/site_browser.py.

import * as ort from "../vendor/ort.wasm.bundle.min.mjs";

const beside = (file) => new URL(file, import.meta.url).href;
const element = (name) => document.getElementById(`classifier-${name}`);
const RUNS = 10; // clocks of browsers are coarse
const MOST_PIXELS = 2 ** 24; // of a canvas, on some phones

async function loaded(file) {
  const response = await fetch(beside(file));
  if (!response.ok) throw new Error(`${file}: ${response.status}`);
  return response;
}

ort.env.wasm.numThreads = 1; // more need headers that few servers send
ort.env.wasm.wasmPaths = { wasm: beside("../vendor/ort-wasm-simd-threaded.wasm") };

let network, mean, std, session;

async function start() {
  network = await (await loaded("network.json")).json();
  [mean, std] = [Float32Array.from(network.mean), Float32Array.from(network.std)];
  const file = await (await loaded("network.onnx")).arrayBuffer();
  session = await ort.InferenceSession.create(new Uint8Array(file), { executionProviders: ["wasm"] });
  element("network").textContent = `${network.model}, ${network.top1.toFixed(2)} % of CIFAR-10's test images`;
  element("size").textContent = `${(file.byteLength / 1000).toFixed(1)} kB`;
  await classify(new Uint8Array(network.height * network.width * 3));
}

// The probabilities of the classes for an image, height x width x 3 numbers from 0 to 255, or for several, one after another.
export async function classify(pixels) {
  const image = Float32Array.from(pixels, (pixel, i) => Math.fround(pixel - mean[i % 3]) / std[i % 3]);
  const input = new ort.Tensor("float32", image, [image.length / network.height / network.width / 3, network.height, network.width, 3]);
  return (await session.run({ image: input })).output.data;
}

// Resizing as Pillow does it, bilinear with antialiasing: what the network was measured with. Pillow's weights are fixed-point.
const ONE = 2 ** 22;

function weights(start, length, size, target) {
  const scale = length / target;
  const support = Math.max(scale, 1);
  return Array.from({ length: target }, (_, i) => {
    const centre = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(size, Math.trunc(centre + support + 0.5));
    const values = [];
    for (let x = first; x < last; x++) values.push(Math.max(0, 1 - Math.abs((x - centre + 0.5) / support)));
    const sum = values.reduce((a, b) => a + b);
    return { first, values: values.map((value) => Math.round((value / sum) * ONE)) };
  });
}

// One axis: `strides` are the distances of neighbours along it and across it.
function along(source, rows, across, [step, stride], target, [newStep, newStride]) {
  rows.forEach(({ first, values }, i) => {
    for (let j = 0; j < across; j++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = ONE / 2;
        values.forEach((value, k) => (sum += value * source[(first + k) * step + j * stride + channel]));
        target[i * newStep + j * newStride + channel] = Math.min(255, Math.floor(sum / ONE));
      }
    }
  });
  return target;
}

// The network's part of an image of `width` x `height` RGBA pixels: its height x width x 3 numbers from 0 to 255.
export function fitted(rgba, width, height) {
  const scale = network.crop * Math.min(width / network.width, height / network.height);
  const [across, down] = [scale * network.width, scale * network.height];
  const columns = weights((width - across) / 2, across, width, network.width);
  const lines = weights((height - down) / 2, down, height, network.height);
  const row = network.width * 3;
  const narrow = along(rgba, columns, height, [4, width * 4], new Uint8Array(height * row), [3, row]);
  return along(narrow, lines, network.width, [row, 3], new Uint8Array(network.height * row), [row, 3]);
}

// The pixels of a picture file, upright.
async function decoded(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height)));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.floor(side * scale)));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, width, height);
  return [context.getImageData(0, 0, width, height).data, width, height];
}

function draw(pixels) {
  const canvas = Object.assign(element("seen"), { width: network.width, height: network.height });
  const image = new ImageData(network.width, network.height);
  for (let i = 0; i < network.width * network.height; i++) {
    image.data.set([...pixels.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const percent = (probability) => `${(100 * probability).toFixed(1)} %`;

function tell(text) {
  element("status").textContent = text;
}

async function show(name, blob) {
  let picture;
  try {
    picture = await decoded(blob);
  } catch {
    tell(`${name} is no picture that this browser can read.`);
    return;
  }
  const pixels = fitted(...picture);
  const probabilities = await classify(pixels);
  const start = performance.now();
  for (let i = 0; i < RUNS; i++) await classify(pixels);
  const time = (performance.now() - start) / RUNS;
  draw(pixels);
  const best = probabilities.indexOf(Math.max(...probabilities));
  [...element("bars").children].forEach((bar, i) => {
    bar.classList.toggle("best", i === best);
    bar.style.setProperty("--share", probabilities[i]);
    bar.lastElementChild.textContent = percent(probabilities[i]);
  });
  element("time").textContent = `${time.toFixed(1)} ms`;
  tell(`${name}: ${network.classes[best]}, ${percent(probabilities[best])}.`);
}

let queue = Promise.resolve(); // one picture after another
const enqueue = (name, blob) => (queue = queue.then(() => show(name, blob)).catch((error) => tell(`${name}: ${error.message}`)));

function build(part, ...children) {
  part.append(...children);
  return part;
}

async function samples() {
  const make = (kind, values) => Object.assign(document.createElement(kind), values);
  for (const [i, label] of network.classes.entries()) {
    const blob = await (await loaded(`samples/${label}.png`)).blob();
    const image = make("img", { src: URL.createObjectURL(blob), alt: `Sample: ${label}`, width: 64, height: 64 });
    const button = build(make("button", { type: "button" }), image);
    button.addEventListener("click", () => enqueue(`Sample of the class ${label}`, blob));
    element("samples").append(button);
    const bar = build(make("li"), make("span", { textContent: label }), make("i"), make("span", { textContent: "–" }));
    bar.children[1].ariaHidden = "true";
    element("bars").append(bar);
  }
}

function listen() {
  const file = element("file");
  const area = document.querySelector(".classifier");
  const take = (files) => files.length && enqueue(files[0].name, files[0]);
  file.addEventListener("change", () => take(file.files));
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    area.addEventListener(kind, (event) => {
      event.preventDefault();
      area.classList.toggle("dragged", kind === "dragenter" || kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files);
    });
  }
  file.disabled = false;
}

try {
  await start();
  await samples();
  listen();
  tell("Ready: choose a picture.");
} catch (error) {
  tell(`The network could not be loaded: ${error.message}`);
}
