// The model: a caption and noise to an image, in this browser.

import * as ort from "./onnxruntime/ort.js";
import { Tokenizer } from "./tokenizer.js";

ort.env.wasm.numThreads = 1; // More need headers that plain file servers do not send.
ort.env.wasm.wasmPaths = {
  wasm: new URL("onnxruntime/ort-wasm-simd-threaded.wasm", import.meta.url).href,
};

async function download(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name}: the server answers ${response.status}`);
  return response;
}

export async function loadGenerator() {
  const [settings, tokenizer, model] = await Promise.all([
    download("model.json").then((response) => response.json()),
    download("tokenizer.json").then((response) => response.json()),
    download("model.onnx").then((response) => response.arrayBuffer()),
  ]);
  const session = await ort.InferenceSession.create(new Uint8Array(model));
  return new Generator(settings, new Tokenizer(tokenizer), session);
}

class Generator {
  // settings: image_size, max_words, noise_dim, title, license and examples.
  constructor(settings, tokenizer, session) {
    Object.assign(this, { settings, tokenizer, session });
  }

  // An ImageData of a caption and noise f32[noise_dim], standard normal.
  async generate(caption, noise) {
    const { image_size: size, max_words: words, noise_dim: dim } = this.settings;
    const { tokens, mask } = this.tokenizer.encode(caption, words);
    const outputs = await this.session.run(
      {
        tokens: new ort.Tensor("int32", tokens, [1, words]),
        mask: new ort.Tensor("bool", mask, [1, words]),
        noise: new ort.Tensor("float32", noise, [1, dim]),
      },
      ["image"],
    );
    const rgb = outputs.image.data; // in [-1, 1]
    const result = new ImageData(size, size);
    for (let pixel = 0; pixel < size * size; pixel += 1) {
      for (let channel = 0; channel < 3; channel += 1) {
        result.data[4 * pixel + channel] = (rgb[3 * pixel + channel] + 1) * 127.5;
      }
      result.data[4 * pixel + 3] = 255;
    }
    return result;
  }
}
