"""The look of the page."""

# `contain` keeps wide tables from widening the page on a phone.
CSS = """
.gradio-container { max-width: min(72rem, 100vw) !important; width: 100%;
  margin: 0 auto !important; --block-info-text-color: var(--block-title-text-color); }
.notes p { margin: .2rem 0; overflow-wrap: anywhere; }
.pictures .grid-wrap { min-height: 0 !important; max-height: none !important; }
.pictures .grid-container {
  grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)) !important; }
.pictures img, .animation img { image-rendering: PIXELS; }
.animation img { width: 16rem; max-width: 100%; }
.masks, .run .scroll { overflow-x: auto; contain: inline-size; }
.masks table, .run table { border-collapse: collapse; margin: 0 0 .6rem; }
.masks table, .masks tr, .run table, .run tr { border: 0 !important; }
.masks th, .masks td { border: 0 !important; padding: .1rem !important; text-align: center; }
.masks th { font-size: .75rem; font-weight: normal; white-space: nowrap; }
.masks td img { width: 4rem; height: 4rem; max-width: none; image-rendering: pixelated; }
.run th, .run td { border: 0 !important; border-bottom: 1px solid #8886 !important;
  padding: .3rem .7rem !important; text-align: right !important; }
.run td { white-space: nowrap; }
.run p, .run li { overflow-wrap: anywhere; margin: .3rem 0; }
.run .charts { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); }
.run figure { margin: 0; }
.run .charts img { width: 100%; height: auto; border-radius: .3rem; }
@media (max-width: 40rem) {
  .masks td img { width: 2.7rem; height: 2.7rem; }
  .gallery-item:nth-child(n+5) { display: none; }
}
"""
