"""A real browser, kept to this machine, and people who use a TOM with it."""

import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from urllib.parse import quote, urlsplit

from project import USERS

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZE = {"width": 1200, "height": 800}
WAIT_MS = 90_000  # of a busy machine

# Where the Toolkit's pages take their looks from: these servers offer what is on npm, file by file.
NPM = (
    re.compile(
        r"https://cdn\.jsdelivr\.net/npm/(?P<package>bootstrap|alpinejs|js-base64|jquery)@(?P<version>[\w.]+)/(?P<file>.+)"
    ),
    re.compile(
        r"https://code\.jquery\.com/(?P<package>jquery)-(?P<version>[\d.]+)(?P<file>(\.slim)?\.min\.js)"
    ),
)


def chromium():
    """Return where the browser is, or None."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


class Browser:
    """Chromium, driven by Playwright; nothing that it asks for leaves this machine.

    What pages want from elsewhere is not to be had, except for the looks (Bootstrap and the like), which come from npm
    where that is there.

    Parameters
    ----------
    folder : Path
        Where packages from npm are kept.
    """

    def __init__(self, folder):
        from playwright.sync_api import sync_playwright

        self._libraries = Libraries(folder)
        self._playwright = sync_playwright().start()
        self._chromium = self._playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))

    def person(self, name, url, cookies=None):
        """Return somebody with a browser of their own: other cookies, another history."""
        context = self._chromium.new_context(viewport=SIZE, base_url=url, storage_state=cookies)
        context.set_default_timeout(WAIT_MS)
        context.route("**/*", self._answer)
        return Person(name, context)

    def close(self):
        """End the browser."""
        self._chromium.close()
        self._playwright.stop()

    def _answer(self, route):
        url = route.request.url
        if urlsplit(url).hostname == "127.0.0.1":
            route.continue_()
        elif found := self._libraries.find(url):
            # The pages ask with a checksum of the file, which browsers verify only if its server lets others read it.
            route.fulfill(
                path=found, headers={"access-control-allow-origin": "*", "content-type": _kind(found)}
            )
        else:
            route.abort()


class Libraries:
    """Files of packages on npm, by the address at which pages look for them."""

    def __init__(self, folder):
        self._folder = Path(folder)
        self._npm = shutil.which("npm")
        self._found = {}

    def find(self, url):
        """Return the path of the file, or None."""
        if url not in self._found:
            matches = filter(None, (pattern.fullmatch(url) for pattern in NPM))
            self._found[url] = next((self._get(**match.groupdict()) for match in matches), None)
        return self._found[url]

    def _get(self, package, version, file):
        name = f"dist/jquery{file}" if package == "jquery" and file.startswith(".") else file
        folder = self._folder / f"{package}-{version}"
        if not folder.exists() and not self._fetch(f"{package}@{version}", folder):
            return None
        path = folder / "package" / name
        return path if path.is_file() else None

    def _fetch(self, wanted, folder):
        if not self._npm:
            return False
        folder.mkdir(parents=True)
        command = [self._npm, "pack", wanted, "--silent", "--pack-destination", str(folder)]
        subprocess.run(command, capture_output=True, timeout=60, cwd=folder)
        for packed in folder.glob("*.tgz"):
            with tarfile.open(packed) as archive:
                archive.extractall(folder, filter="data")
        return True


def _kind(path):
    return "text/css" if path.suffix == ".css" else "text/javascript"


class Person:
    """Somebody at a browser.

    Attributes
    ----------
    failures : list of (int, str)
        Status and address of answers with a status of 500 or above.
    alarms : list of str
        What scripts of the page shouted: those that came with data.
    """

    def __init__(self, name, context):
        self.name = name
        self.context = context
        self.page = context.new_page()
        self.failures = []
        self.alarms = []
        context.on("response", self._see)
        self.page.on("dialog", self._dialog)

    def close(self):
        """Close the browser's windows."""
        self.context.close()

    def log_in(self):
        """Log in at the form."""
        self.page.goto("/accounts/login/")
        form = self.page.locator("form", has=self.page.locator("input[type=password]"))
        form.locator("input[name=username], input[name=login]").fill(self.name)
        form.locator("input[name=password]").fill(USERS[self.name])
        self._go_by(form.locator("[type=submit]").first)
        self.page.locator("a[href*='logout'], form[action*='logout']").first.wait_for(state="attached")

    # Questions

    def open_form(self, service):
        """Open the form of a service, and return it."""
        self.page.goto(f"/tom_dataservices/query/create/?data_service={quote(service)}")
        return self.page.locator("form.form")

    def fill(self, service, *, save_as=None, **fields):
        """Fill in the form of a service."""
        form = self.open_form(service)
        for name, value in fields.items():
            self._fill(form.locator(f"[name={name}]"), value)
        if save_as is not None:
            form.locator("[name=query_save]").check()
            form.locator("[name=query_name]").fill(save_as)

    def send(self):
        """Send the form, and return the rows that are found."""
        self._go_by(self.page.locator("form.form [type=submit][name=submit]"))
        return self.rows

    def ask(self, service, *, save_as=None, **fields):
        """Fill in the form of a service, and send it; return the rows that are found."""
        self.fill(service, save_as=save_as, **fields)
        return self.send()

    def ask_again(self, saved):
        """Run a saved query from the list; return the rows that are found."""
        self.page.goto("/tom_dataservices/query/list/")
        self._go_by(self.page.locator("tr", has_text=saved).get_by_title("Run query"))
        return self.rows

    @property
    def rows(self):
        """The rows of the table of results."""
        return self.page.locator("tr", has=self.page.locator("input[name=selected_results]"))

    @property
    def messages(self):
        """What the page tells in boxes, as text."""
        return " ".join(self.page.locator(".alert").all_inner_texts())

    # Targets

    def create(self, *rows):
        """Tick rows, and have targets created of them.

        Of several the list of targets follows. Of one its page follows, which is megabytes of plots.
        """
        for row in rows:
            row.locator("input[name=selected_results]").check()
        self._go_by(self.page.get_by_role("button", name="Create Targets"))

    def targets(self):
        """Return the targets that the person may see, by name, as the Toolkit's interface gives them."""
        answer = self.context.request.get("/api/targets/")
        return {target["name"]: target for target in answer.json()["results"]}

    def open_tab(self, name):
        """Open a tab of the page of a target, and return what is in it."""
        self.page.locator(f"a[href='#{name}']").click()
        return self.page.locator(f".tab-pane#{name}")

    def light_curve(self):
        """Return the points that the Toolkit's plot of photometry draws, as (name of their trace, time, brightness)."""
        plot = self.open_tab("photometry").locator(".light-curve .js-plotly-plot")
        plot.wait_for()
        traces = plot.evaluate(
            "plot => plot._fullData.map(one => [one.name, Array.from(one.x || []), Array.from(one.y || [])])"
        )
        points = ((name, *point) for name, x, y in traces for point in zip(x, y, strict=True))
        return [point for point in points if None not in point]

    def drawn_points(self):
        """Return how many points of the plot are really on the page."""
        points = self.page.locator(".light-curve .scatterlayer .point")
        points.first.wait_for()
        return points.count()

    def update(self, service):
        """Press "Update Reduced Data" of the target that is open."""
        pane = self.open_tab("manage-data")
        pane.locator("select[name=data_service]").select_option(service)
        self._go_by(pane.locator("[type=submit][name=Update]"))

    def picture(self, name):
        """Write what is seen to the folder for the documentation, if one is named."""
        if folder := os.environ.get("NUNCIUS_SCREENSHOTS"):
            from PIL import Image

            Path(folder).mkdir(parents=True, exist_ok=True)
            seen = self.page.screenshot(scale="css", animations="disabled")
            with Image.open(io.BytesIO(seen)) as picture:
                small = picture.convert("RGB").quantize(128)  # a palette: a third of the size
            small.save(Path(folder) / f"{name}.png", optimize=True)

    def _go_by(self, button):
        """Press what leads to another page, and wait until that is there."""
        with self.page.expect_navigation():
            button.click()

    def _fill(self, field, value):
        if not field.is_visible():
            self.page.get_by_text("Advanced").first.click()
        kind = field.evaluate("field => field.type")
        if kind == "checkbox":
            field.set_checked(value)
        elif kind.startswith("select"):
            field.select_option(value)
        else:
            field.fill(str(value))

    def _see(self, response):
        if response.status >= 500:
            self.failures.append((response.status, response.url))

    def _dialog(self, dialog):
        self.alarms.append(dialog.message)
        dialog.dismiss()


def seen_sizes(pictures):
    """Return width and height of pictures as they are drawn; those whose file can't be read have none."""
    return pictures.evaluate_all(
        """pictures => Promise.all(pictures.map(async one => {
            const box = one.getBoundingClientRect();
            if (one.tagName !== "IMG") return [box.width, box.height];
            one.loading = "eager";
            const read = await one.decode().then(() => true, () => false);
            return read ? [box.width, box.height] : [0, 0];
        }))"""
    )
