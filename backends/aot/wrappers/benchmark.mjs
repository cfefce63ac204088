// __MODEL__: made by Thalweg. Prints the latency of every signature in WebAssembly: node main.mjs [../wasm32] [rows]
const folder = process.argv[2] ?? "../wasm32", n = Number(process.argv[3] ?? 1);
const { pathToFileURL } = await import("node:url"), { resolve } = await import("node:path");
const beside = process.argv[2] ? pathToFileURL(resolve(folder)) : new URL(folder, import.meta.url);
const { load } = await import(`${beside}/__MODEL__.mjs`);
const model = await load();
const INPUTS = __INPUTS__;

const values = ({ array, shape, batched }) => {
  const length = shape.reduce((a, b) => a * b, batched ? n : 1);
  const made = new globalThis[array](length);
  return array === "Float32Array" ? made.map((_, i) => (i % 17) / 8 - 1) : made;
};
console.log(`${"signature".padEnd(24)} ${"median us".padStart(12)} ${"best us".padStart(12)} ${"runs".padStart(8)}`);
for (const [name, tensors] of Object.entries(INPUTS)) {
  const inputs = Object.fromEntries(tensors.map((t) => [t.name, values(t)]));
  const times = [], end = performance.now() + 2000;
  for (let k = 0; k < 50 && performance.now() < end; k++) model[name](inputs); // until the engine has optimised the code
  const last = performance.now() + 1000;
  while (times.length < 5 || (performance.now() < last && times.length < 100000)) {
    const start = performance.now();
    model[name](inputs);
    times.push(1000 * (performance.now() - start));
  }
  times.sort((a, b) => a - b);
  const told = [times[times.length >> 1], times[0]].map((t) => t.toFixed(3).padStart(12)).join(" ");
  console.log(`${name.padEnd(24)} ${told} ${String(times.length).padStart(8)}`);
}
