"""From a click to a picture on the page of ssagan_jax.serve, in Chromium, and the hosts it asks.

python -m ssagan_jax.serve --workdir=runs/quickstart
python benchmarks/page.py --url=http://127.0.0.1:7860

Needs playwright and an installed Chromium.
"""

import argparse
import os
import shutil
import statistics
import time
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

_SHOWN = """before => {
  const images = [...document.querySelectorAll(".pictures img")];
  return images.length > 0 && images[0].src !== before
    && images.every(image => image.complete && image.naturalWidth > 0);
}"""


def click_to_picture(page: Page, seed: int) -> float:
    """Seconds from a click on Paint until the browser has all pictures of a new seed."""
    box = page.get_by_label("Seed").first
    box.fill(str(seed))
    box.press("Tab")
    images = page.locator(".pictures img")
    before = images.first.get_attribute("src") if images.count() else None
    start = time.perf_counter()
    page.get_by_role("button", name="Paint", exact=True).click()
    page.wait_for_function(_SHOWN, arg=before, polling=10)
    return time.perf_counter() - start


def main() -> None:
    """Prints the times and the hosts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--clicks", type=int, default=10)
    flags = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    requests = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(300_000)
        page.on("request", lambda request: requests.append(urlsplit(request.url).netloc))
        start = time.perf_counter()
        page.goto(flags.url)
        page.get_by_role("button", name="Paint", exact=True).wait_for()
        opened = time.perf_counter() - start
        times = [click_to_picture(page, seed) for seed in range(1, flags.clicks + 1)]
        note = page.locator(".notes").first.inner_text()
        browser.close()
    print(f"{os.cpu_count()} CPU cores, load average {os.getloadavg()[0]:.1f}: {note}")
    print(f"page opened in {opened:.2f} s")
    print(
        f"click to picture, {flags.clicks} times: median {statistics.median(times):.2f} s, "
        f"{min(times):.2f} to {max(times):.2f} s"
    )
    hosts = {host: requests.count(host) for host in sorted(set(requests)) if host}
    print(f"requests by host: {hosts}")


if __name__ == "__main__":
    main()
