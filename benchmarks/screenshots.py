"""Pictures of a sweep in the MLflow UI, as docs/sweeps.md shows them: its best two trials compared, and its report.

    python benchmarks/screenshots.py SWEEP FOLDER

Writes mlflow-compare.png and report.png. The services must run, and chromium must be installed.
"""

import argparse
import os
import shutil
import sys
from contextlib import closing
from pathlib import Path

from mlflow.tracking import MlflowClient
from playwright.sync_api import Browser, HttpCredentials, Page, sync_playwright

from advseg.platform.base.exits import exit_status
from advseg.platform.base.home import find_home
from advseg.platform.base.keys import BASELINE, METRIC, key_of
from advseg.platform.pages.compared_runs import find_compared
from advseg.platform.pages.comparison import comparison_url
from advseg.platform.pages.sweep_report import REPORT
from advseg.platform.services.connection import connect
from advseg.platform.tracking.runs import find_run, run_url
from advseg.trainers.errors import UserError

SIZE = {"width": 1640, "height": 1160}


def opened(browser: Browser, url: str) -> Page:
    """A page of the UI without what it offers for language models."""
    account = HttpCredentials(
        username=os.environ.get("MLFLOW_TRACKING_USERNAME", ""), password=os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    )
    page = browser.new_page(viewport=SIZE, http_credentials=account)
    page.goto(url)
    page.get_by_text("Model training", exact=True).click()
    page.get_by_role("button", name="Close", exact=True).click()  # the assistant
    page.goto(url)
    return page


def photograph(sweep: str, folder: Path) -> None:
    """Write both pictures. Raises UserError if there is no such sweep, or no browser."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise UserError("there is no chromium: on Debian, `apt-get install chromium`")
    services = connect(find_home())
    services.enter()
    client = MlflowClient(services.tracking_uri)
    trials = [run for run in find_compared(client, [sweep], METRIC, print) if run.name != key_of(sweep, BASELINE)]
    compared, run_id = comparison_url(client.tracking_uri, trials[:2]), find_run(client, sweep, sweep)
    assert compared and run_id
    with (
        sync_playwright() as driver,
        closing(driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])) as browser,
    ):
        page = opened(browser, compared)
        page.locator(".parcoords .y-axis").first.wait_for()
        page.get_by_role("switch").first.click()  # parameters that differ, alone
        page.screenshot(path=folder / "mlflow-compare.png")

        page = opened(browser, f"{run_url(client, run_id)}/artifacts/{REPORT}")
        page.frame_locator("iframe").locator(".trace path").first.wait_for()
        page.screenshot(path=folder / "report.png")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    sys.exit(exit_status(lambda: photograph(asked.sweep, asked.folder)))


if __name__ == "__main__":
    main()
