// Standard normal noise f32[length] of a seed: mulberry32 and the Box-Muller transform.
export function sampleNoise(seed, length) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return (((bits ^ (bits >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return Float32Array.from({ length }, () => {
    return Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  });
}

// Noise for more typical and less diverse images: below 1, clamped to [-2, 2] and scaled.
export function truncateNoise(noise, truncation) {
  if (truncation === 1) return noise;
  return noise.map((value) => Math.max(-2, Math.min(2, value)) * truncation);
}
