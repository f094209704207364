"""The documentation's site in Chromium, served on the loopback: pages, search, tables, and a network in the browser."""

from __future__ import annotations

import base64
import functools
import http.server
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onebit import zoo

pytestmark = pytest.mark.slow
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1280,900",
)  # fmt: skip
WAIT = 300  # seconds until what a page does must be done


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install '.[docs]'")
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    driver = shutil.which("chromedriver")
    if not any(found) or driver is None:
        pytest.skip("there is no Chromium, or no chromedriver (Debian, Ubuntu: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, found))
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    started.set_script_timeout(WAIT)
    yield started
    started.quit()


class Server:
    """A folder on the loopback, until it is stopped."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(_Handler, directory=folder)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *message: object) -> None:
        pass


@pytest.fixture
def served(site: Path) -> Iterator[Server]:
    server = Server(site)
    yield server
    server.stop()


def wait(browser: Any, condition: Callable[[], Any]) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, WAIT, poll_frequency=0.05).until(lambda _: condition())


def severe(browser: Any) -> list[str]:
    """Return the errors in the console since the last call."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def resize(browser: Any, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.mark.parametrize("width", [375, 1280], ids=["phone", "desktop"])
def test_pages_load_without_errors_fit_and_describe_their_pictures(browser, served, site, width):
    resize(browser, width)
    severe(browser)
    wrong = {}
    for path in sorted(site.rglob("*.html")):
        page = str(path.relative_to(site))
        browser.get(f"{served.url}/{page}")
        found = browser.execute_script("""
            const images = [...document.images].map((image) => [image.src, image.alt, image.naturalWidth]);
            const requests = performance.getEntriesByType("resource").map((entry) => entry.name);
            return [document.documentElement.scrollWidth, images, requests, document.querySelectorAll("h1").length];
        """)
        wide, images, requests, titles = found
        problems = severe(browser)
        problems += [f"{wide} pixels wide"] * (wide > width)
        problems += [f"{source}: no text" for source, text, _ in images if not text]
        problems += [f"{source}: not shown" for source, _, pixels in images if not pixels]
        problems += [f"loads {name}" for name in requests if not name.startswith((served.url, "blob:", "data:"))]
        problems += [f"{titles} titles"] * (titles != 1)
        if problems:
            wrong[page] = problems
    assert not wrong


def test_search_finds_a_page(browser, served):
    resize(browser, 1280)
    browser.get(f"{served.url}/index.html")
    browser.execute_script('document.querySelector("[data-md-toggle=search]").click()')
    box = browser.find_element("css selector", ".md-search__input")
    wait(browser, box.is_displayed)
    box.send_keys("libra_pb")
    results = functools.partial(browser.find_elements, "css selector", "a.md-search-result__link")
    (found,) = wait(
        browser, lambda: [each for each in results() if "papers/irnet.html" in each.get_attribute("href")][:1]
    )
    browser.get(found.get_attribute("href"))
    assert browser.find_element("css selector", "h1").text.startswith("IR-Net")


def test_the_leaderboard_is_sorted_by_the_column_that_is_chosen(browser, served):
    from selenium.webdriver.common.keys import Keys

    resize(browser, 1280)
    browser.get(f"{served.url}/results.html")
    table = browser.find_element("css selector", "article table")
    heads = [head.text for head in table.find_elements("css selector", "th")]

    def column(name: str) -> list[str]:
        cells = table.find_elements("css selector", f"td:nth-child({heads.index(name) + 1})")
        return [cell.text for cell in cells]

    def size(text: str) -> float:
        number, unit = text.split()
        return float(number) * {"kB": 1e3, "MB": 1e6}[unit]

    accuracy = heads[2]
    shown = column(accuracy)
    assert shown == sorted(shown, reverse=True)
    head = table.find_elements("css selector", "th")[heads.index("file")]
    browser.execute_script("arguments[0].click()", head)
    sizes = column("file")
    assert sizes == sorted(sizes, key=size) and head.get_attribute("aria-sort") == "ascending"
    head.send_keys(Keys.ENTER)
    assert column("file") == sorted(sizes, key=size, reverse=True)
    browser.execute_script("arguments[0].click()", table.find_elements("css selector", "th")[heads.index("network")])
    assert column("network") == sorted(column("network"))


def text_of(browser: Any, name: str) -> str:
    return browser.find_element("id", f"classifier-{name}").text


@pytest.fixture
def classifier(browser, served) -> Any:
    """The browser at its page, ready, at the width of a phone."""
    resize(browser, 375)
    severe(browser)
    browser.get(f"{served.url}/browser.html")
    wait(browser, lambda: text_of(browser, "status").startswith(("Ready", "The network could not")))
    assert text_of(browser, "status").startswith("Ready")
    return browser


@pytest.fixture(scope="module")
def keras() -> Any:
    """The network of the page in Keras: a function from images to probabilities, and its name."""
    from site_browser import best

    row = best()
    model = zoo.load(row.model, weights=row.tag)
    preprocessing = zoo.preprocessing_of(model)
    return lambda images: model.predict(preprocessing(images), batch_size=250, verbose=0)


def answer(browser: Any, of: str) -> tuple[str, float]:
    """Return the class and the percentage that the page tells, once it tells of this picture."""
    told = wait(browser, lambda: re.fullmatch(re.escape(of) + r": (\w+), ([\d.]+) %\.", text_of(browser, "status")))
    return told[1], float(told[2])


def test_samples_have_keras_classes_also_without_a_network(classifier, served, keras, site):
    sample = zoo.sample_images()
    images = np.stack([sample.images[sample.labels == label][0] for label in range(10)])
    expected = keras(images)
    served.stop()  # from here on the page is alone
    buttons = classifier.find_elements("css selector", "#classifier-samples button")
    assert len(buttons) == 10
    for button, name, probabilities in zip(buttons, sample.class_names, expected, strict=True):
        assert button.find_element("css selector", "img").get_attribute("alt") == f"Sample: {name}"
        button.send_keys("\n")
        found, percent = answer(classifier, f"Sample of the class {name}")
        assert found == sample.class_names[probabilities.argmax()]
        assert percent == pytest.approx(100 * probabilities.max(), abs=0.1)
        bars = [bar.text.split("\n") for bar in classifier.find_elements("css selector", "#classifier-bars li")]
        shown = {bar[0]: float(bar[-1].removesuffix(" %")) for bar in bars}
        assert list(shown) == list(sample.class_names)
        assert list(shown.values()) == pytest.approx(100 * probabilities, abs=0.1)
    assert re.fullmatch(r"[\d.]+ ms", text_of(classifier, "time"))
    kilobytes = (site / "browser" / "network.onnx").stat().st_size / 1000
    assert text_of(classifier, "size") == f"{kilobytes:.1f} kB" and kilobytes < 100
    assert not severe(classifier)


def test_all_sample_images_have_keras_classes(classifier, keras):
    images = zoo.sample_images().images
    found = classifier.execute_async_script(
        """
        const [text, size, done] = arguments;
        import("/browser/classify.js").then(async ({ classify }) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const found = [];
          for (let i = 0; i < bytes.length; i += size) found.push(...(await classify(bytes.subarray(i, i + size))));
          done(found);
        });
        """,
        base64.b64encode(images.tobytes()).decode(),
        images[:50].nbytes,
    )
    expected = keras(images)
    assert (np.reshape(found, expected.shape).argmax(1) == expected.argmax(1)).all()
    np.testing.assert_allclose(np.ravel(found), expected.ravel(), atol=1e-5)


@pytest.mark.parametrize("size", [(97, 61), (20, 45), (640, 480)])
def test_pictures_are_cut_and_resized_as_by_the_package(classifier, keras, tmp_path, size):
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    file = tmp_path / "picture.png"
    Image.fromarray(noise).save(file)
    classifier.find_element("id", "classifier-file").send_keys(str(file))
    found, percent = answer(classifier, "picture.png")
    seen = classifier.execute_script("""
        const canvas = document.getElementById("classifier-seen");
        return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
    """)
    seen = np.reshape(seen, (1, 32, 32, 4))[..., :3]
    # Which axis Pillow resizes first, and rounds, depends on its version and on the shape.
    assert np.abs(seen - zoo.read_images([file], (32, 32)).astype(int)).max() <= (height > width)
    probabilities = keras(seen)[0]
    assert found == zoo.sample_images().class_names[probabilities.argmax()]
    assert percent == pytest.approx(100 * probabilities.max(), abs=0.1)


def test_a_picture_is_dropped_and_other_files_are_refused(classifier, tmp_path):
    classifier.execute_async_script("""
        const done = arguments[0];
        const canvas = Object.assign(document.createElement("canvas"), { width: 40, height: 40 });
        canvas.toBlob((blob) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([blob], "dropped.png", { type: "image/png" }));
          document.querySelector(".classifier").dispatchEvent(new DragEvent("drop", { dataTransfer }));
          done();
        });
    """)
    answer(classifier, "dropped.png")
    (tmp_path / "words.png").write_text("no picture")
    classifier.find_element("id", "classifier-file").send_keys(str(tmp_path / "words.png"))
    wait(classifier, lambda: text_of(classifier, "status") == "words.png is no picture that this browser can read.")


def test_the_page_tells_when_the_network_cannot_be_loaded(browser, site, tmp_path):
    copy = tmp_path / "site"
    shutil.copytree(site, copy, ignore=shutil.ignore_patterns("network.onnx", "api", "models"))
    server = Server(copy)
    browser.get(f"{server.url}/browser.html")
    wait(browser, lambda: text_of(browser, "status") == "The network could not be loaded: network.onnx: 404")
    server.stop()
    severe(browser)
