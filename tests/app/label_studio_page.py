"""Open a task in Label Studio's own page with Chromium, take a picture, and print where the photo is in it.

Arguments: address, cookies as JSON, the picture's file. Needs Playwright and Chromium; see `make bridges`.
"""

import json
import sys
from pathlib import Path


def main(url: str, cookies: str, picture: str) -> None:
    from playwright.sync_api import sync_playwright  # not in the environment of the tests

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.add_cookies([{"name": k, "value": v, "url": url} for k, v in json.loads(cookies).items()])
        page = context.new_page()
        page.goto(url, timeout=300_000)
        page.wait_for_selector("canvas", timeout=300_000)
        page.wait_for_timeout(5000)
        Path(picture).write_bytes(page.screenshot())
        sys.stdout.write(json.dumps(page.locator("img[alt=image]").bounding_box()))
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
