// __MODEL__: made by Thalweg. The model in WebAssembly, without dependencies.
const SIGNATURES = __SIGNATURES__;
const STATUS = ["ok", "a null pointer", "an arena that is too short", "the weights of another model",
  "misaligned memory", "a negative number of rows"];
const ARRAYS = { Float64Array, Float32Array, BigInt64Array, BigUint64Array, Int32Array, Uint32Array, Int16Array,
  Uint16Array, Int8Array, Uint8Array };

__CHOICE__
/** Load the model; by default the file beside this module, from a page as well as in node. */
export async function load(source = new URL(FILE, import.meta.url), weights = null) {
  const { instance } = await WebAssembly.instantiate(await bytes(source), {});
  const model = new Model(instance.exports);
  if (model.needsWeights) model.restore(await bytes(weights ?? new URL("../weights.safetensors", import.meta.url)));
  return model;
}

async function bytes(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source;
  const url = new URL(source, import.meta.url);
  if (url.protocol === "file:") return (await import("node:fs/promises")).readFile(url);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

export class Model {
  #exports; #end; #state; #arena;

  constructor(exports) {
    this.#exports = exports;
    if (exports.__MODEL___abi() !== __ABI__) throw new Error("__MODEL__.wasm has another version of the interface than this file");
    this.#end = exports.__heap_base.value;
    const size = exports.__MODEL___state_bytes();
    this.#state = this.#allocate(size);
    this.#arena = this.#allocate(__ARENA__);
    const initial = exports.__MODEL___initial_state();
    this.needsWeights = size > 0 && initial === 0;
    if (!this.needsWeights) new Uint8Array(exports.memory.buffer).copyWithin(this.#state, initial, initial + size);
  }

  /** A weights file with the state as it is: all variables. */
  save() {
    const mark = this.#end, size = this.#exports.__MODEL___file_bytes(), place = this.#allocate(size);
    this.#check("save", this.#exports.__MODEL___save(this.#state, place, size));
    this.#end = mark;
    return new Uint8Array(this.#exports.memory.buffer).slice(place, place + size);
  }

  /** Take the state from a weights file, such as `save` gives; all or nothing. */
  restore(file) {
    const data = file instanceof ArrayBuffer ? new Uint8Array(file)
      : new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
    const mark = this.#end, place = this.#allocate(data.length);
    new Uint8Array(this.#exports.memory.buffer).set(data, place);
    const status = this.#exports.__MODEL___restore(place, data.length, this.#state);
    this.#end = mark;
    this.#check("restore", status);
  }
__METHODS__
  #allocate(size) {
    const place = (this.#end + 63) & ~63;
    this.#end = place + size;
    const missing = this.#end - this.#exports.memory.buffer.byteLength;
    if (missing > 0) this.#exports.memory.grow(Math.ceil(missing / 65536));
    return place;
  }

  #check(name, status) {
    if (status !== 0) throw new Error(`${name}: ${STATUS[status] ?? `status ${status}`}`);
  }

  #run(name, inputs) {
    const signature = SIGNATURES[name];
    const mark = this.#end;
    try {
      const rows = signature.batched ? this.#rows(name, signature, inputs) : 0;
      const places = signature.inputs.map((t) => this.#write(name, t, inputs?.[t.name], rows));
      const outputs = signature.outputs.map((t) => this.#allocate(size(t, rows) * kind(t).BYTES_PER_ELEMENT));
      const run = this.#exports[`__MODEL___${name}`], count = signature.batched ? [rows] : [];
      this.#check(name, run(this.#state, ...places, ...outputs, ...count, this.#arena, __ARENA__));
      const buffer = this.#exports.memory.buffer;
      return Object.fromEntries(signature.outputs.map((t, i) =>
        [t.name, new (kind(t))(buffer, outputs[i], size(t, rows)).slice()]));
    } finally {
      this.#end = mark;
    }
  }

  #rows(name, signature, inputs) {
    const first = signature.inputs.find((t) => t.batched);
    const given = inputs?.[first.name]?.length ?? 0, row = size(first, 1);
    if (given % row) throw new TypeError(`${name}: ${first.name} has ${given} elements, no multiple of ${row} to a row`);
    return given / row;
  }

  #write(name, tensor, value, rows) {
    const Kind = kind(tensor), length = size(tensor, rows);
    if (!(value instanceof Kind) || value.length !== length) {
      const got = value === undefined ? "nothing" : `${value?.constructor?.name} of ${value?.length}`;
      const wanted = `${tensor.array} of ${shape(tensor, rows)} = ${length}`;
      throw new TypeError(`${name}: ${tensor.name} must be a ${wanted}, got ${got}`);
    }
    const place = this.#allocate(length * Kind.BYTES_PER_ELEMENT);
    new Kind(this.#exports.memory.buffer, place, length).set(value);
    return place;
  }
}

const kind = (tensor) => ARRAYS[tensor.array];
const size = (tensor, rows) => tensor.shape.reduce((a, b) => a * b, tensor.batched ? rows : 1);
const shape = (tensor, rows) => [...(tensor.batched ? [rows] : []), ...tensor.shape].join("*") || "1";
