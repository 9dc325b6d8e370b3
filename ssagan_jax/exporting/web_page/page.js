// The page: a form, and the images that it asks for. Texts are inserted as text, never as markup.

import { loadGenerator } from "./generator.js";
import { sampleNoise, truncateNoise } from "./noise.js";

const form = document.querySelector("form");
const { caption, count, seed, truncation, paint } = form.elements;
const status = document.querySelector("#status");
const images = document.querySelector("#images");

function show(generator) {
  const { title, license, examples } = generator.settings;
  document.title = title;
  document.querySelector("h1").textContent = title;
  document.querySelector("#license").textContent = license ? `License: ${license}` : "";
  document.querySelector("#examples").replaceChildren(
    ...examples.map((text) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.onclick = () => {
        caption.value = text;
        form.requestSubmit();
      };
      return button;
    }),
  );
  caption.value = examples[0] ?? "";
}

function add(image, text, number) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = image.width;
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", text);
  const link = document.createElement("a");
  link.textContent = "Download";
  link.download = `${text.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60)}-${number}.png`;
  link.href = canvas.toDataURL("image/png");
  const figure = document.createElement("figure");
  figure.append(canvas, link);
  images.append(figure);
}

async function generate(generator) {
  const text = caption.value.trim();
  const unknown = generator.tokenizer.unknownWords(text);
  const note = unknown.length ? ` Words it does not know: ${unknown.join(", ")}.` : "";
  images.replaceChildren();
  paint.disabled = true;
  const start = performance.now();
  try {
    // The form may be changed meanwhile.
    const first = Number(seed.value), end = first + Number(count.value);
    const psi = Number(truncation.value);
    for (let number = first; number < end; number += 1) {
      const noise = sampleNoise(number, generator.settings.noise_dim);
      const truncated = truncateNoise(noise, psi);
      add(await generator.generate(text, truncated), text, number);
      await new Promise(requestAnimationFrame);
    }
    status.textContent = `${((performance.now() - start) / 1000).toFixed(1)} s.${note}`;
  } catch (error) {
    status.textContent = error.message + note;
  }
  paint.disabled = false;
}

try {
  status.textContent = "Loading the model...";
  const generator = await loadGenerator();
  show(generator);
  form.onsubmit = (event) => {
    event.preventDefault();
    if (!paint.disabled) generate(generator);
  };
  document.querySelector("#new-seed").onclick = () => {
    seed.value = Math.floor(Math.random() * 2 ** 31);
    form.requestSubmit();
  };
  paint.disabled = false;
  status.textContent = "Ready.";
} catch (error) {
  status.textContent = `The model cannot be loaded: ${error.message}`;
}
