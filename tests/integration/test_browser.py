"""What a user sees of a sweep in the MLflow UI, through a real browser."""

import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from waiting import LIMIT_S

from advseg.platform.base.keys import METRIC
from advseg.platform.ledger.opening import open_ledger
from advseg.platform.ledger.origin import Origin
from advseg.platform.pages.sweep_report import REPORT, report_of
from advseg.platform.services.mlflow_accounts import page_path
from advseg.platform.services.servers import MLFLOW, folder
from advseg.platform.spec.spec_file import load_spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.tracking.ending import Ending, State
from advseg.platform.tracking.identity import sweep_identity, trial_identity
from advseg.platform.tracking.runs import close_run, ensure_run
from advseg.platform.workers.account import Account

playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")

pytestmark = pytest.mark.cluster

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("background-networking", "component-update", "gpu", "quic", "sync")
SWEEP, TRIALS, STEPS = "seen", 5, 8
PLOTS = ["curves", "history", "parallel", "slices", "importance"]


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"there is none of the browsers {', '.join(BROWSERS)}: on Debian, `apt-get install chromium`")
    playwright.expect.set_options(timeout=1000 * LIMIT_S)
    # As root, in containers, its sandbox does not start.
    options = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in QUIET)]
    with (
        playwright.sync_playwright() as driver,
        closing(driver.chromium.launch(executable_path=program, args=options)) as it,
    ):
        yield it


@pytest.fixture
def complaints() -> list[str]:
    """What the browser found wrong with the pages that it showed."""
    return []


@pytest.fixture
def page(browser, cluster: Path, mlflow_client: MlflowClient, complaints: list[str]) -> Iterator["playwright.Page"]:
    """The UI's first page, wide enough for all that it has to show."""
    ours = mlflow_client.tracking_uri

    def concerns_us(url: str) -> bool:
        """Not what the UI may want from its makers' own sites, which a machine without internet cannot give it."""
        return url.removeprefix("blob:").startswith(ours)

    def hear(message: "playwright.ConsoleMessage") -> None:
        if message.type == "error" and concerns_us(message.location["url"]):
            complaints.append(message.text)

    def miss(request: "playwright.Request") -> None:
        # Whoever leaves a page takes back what it still waits for.
        if concerns_us(request.url) and request.failure != "net::ERR_ABORTED":
            complaints.append(f"{request.failure}: {request.url}")

    with closing(browser.new_context(viewport={"width": 1600, "height": 1000})) as context:
        context.set_default_timeout(1000 * LIMIT_S)
        page = context.new_page()
        page.on("console", hear)
        page.on("requestfailed", miss)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        # As the owner of the services opens it: the file leads to the server, which knows the browser from there on.
        page.goto(page_path(folder(cluster, MLFLOW)).as_uri())
        page.wait_for_url(f"{ours}/**")
        yield page


@pytest.fixture(scope="module")
def sweep(mlflow_client: MlflowClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a sweep that nobody trained: its runs, their metrics, and the report of its ledger."""
    storage = tmp_path_factory.mktemp("storage")
    (storage / "data").mkdir()
    path = storage / "spec.yaml"
    document = {
        "job": "sweep",
        "name": SWEEP,
        "dataset": {"root": "data", "classes": ["background", "thing"]},
        "model": {"architecture": "compact", "width": 8},
        "method": {
            "name": "adversarial",
            "semi_start": 0,
            "discriminator": {"widths": [4], "classifier": "dense"},
        },
        "trainer": {
            "steps": STEPS,
            "batch_size": 4,
            "augmentation": {"crop": [16, 16]},
            "segmenter_optimizer": {"name": "adamw", "lr": 0.001},
        },
        "sweep": {
            "trials": TRIALS,
            "space": {
                "method.lambda_adv": {"low": 0.001, "high": 1, "log": True},
                "method.threshold": {"low": 0, "high": 0.9},
            },
            "first": [{"method.lambda_adv": 0.01 * (n + 1), "method.threshold": n / 10} for n in range(TRIALS)],
        },
    }
    path.write_text(yaml.safe_dump(document))
    spec = load_spec(path)
    parent = ensure_run(mlflow_client, sweep_identity(spec.model_dump(mode="json")))
    with closing(open_ledger(storage, spec, Origin(dataset="d" * 64, code="c" * 64))) as ledger:
        for number in range(TRIALS):
            assert ledger.propose() == number
            identity = trial_identity(spec.with_values(ledger.row(number).params).model_dump(mode="json"), number)
            run_id = ensure_run(mlflow_client, identity)
            for step in (STEPS // 2, STEPS):
                miou = 40.0 + step + number
                ledger.report(number, step, miou)
                mlflow_client.log_batch(run_id, metrics=[Metric(METRIC, miou, 1_000 * step, step)])
            ledger.note(number, Account(attempts=1, device_seconds=60.0))
            ledger.finish(number, TrialState.COMPLETE)
            close_run(mlflow_client, run_id, Ending(State.COMPLETE))
    mlflow_client.log_text(parent, report_of(LocalStore(storage), SWEEP, None), REPORT)
    close_run(mlflow_client, parent, Ending(State.COMPLETE))
    return SWEEP


def link(page: "playwright.Page", name: str) -> "playwright.Locator":
    return page.get_by_role("link", name=name, exact=True)


def row(page: "playwright.Page", name: str) -> "playwright.Locator":
    """The row of a run in the table of runs."""
    return page.get_by_role("row").filter(has=link(page, name))


def open_sweep(page: "playwright.Page", sweep: str) -> None:
    """From the first page to the table of a sweep's runs."""
    # The UI begins with what it has for language models, and hides runs there.
    page.get_by_text("Model training", exact=True).click()
    link(page, "Experiments").click()
    link(page, sweep).click()


def test_two_trials_of_a_sweep_are_compared(page, sweep, complaints):
    open_sweep(page, sweep)
    row(page, sweep).get_by_role("button").click()  # unfolds its trials
    for trial in (1, 4):
        row(page, f"{sweep}/{trial}").get_by_role("checkbox", name="row selection").check()
    page.get_by_role("button", name="Compare").click()

    playwright.expect(page.get_by_role("heading", name="Comparing 2 Runs")).to_be_visible()
    for name, values in (("lambda_adv", ["0.02", "0.05"]), ("threshold", ["0.1", "0.4"])):
        of_that = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=f"method.{name}", exact=True))
        playwright.expect(of_that.get_by_role("cell")).to_have_text(values)
    assert complaints == []


def test_its_report_is_read_where_its_run_is(page, sweep, complaints, mlflow_client):
    asked: list[str] = []
    open_sweep(page, sweep)
    row(page, sweep).get_by_role("link").click()
    page.get_by_role("tab", name="Artifacts").click()
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_text(REPORT, exact=True).first.click()

    report = page.frame_locator("iframe")
    playwright.expect(report.get_by_role("heading", name=f"Sweep {sweep}", exact=True)).to_be_visible()
    plots = report.locator(".js-plotly-plot")
    playwright.expect(plots).to_have_count(len(PLOTS))
    for name in PLOTS:
        drawn = report.locator(f"#{name} .trace path")
        playwright.expect(drawn.first).to_have_attribute("d", re.compile("M.+"))
    assert complaints == []
    # A report needs no network: its page is all that it loads.
    assert [url for url in asked if not url.removeprefix("blob:").startswith(mlflow_client.tracking_uri)] == []
