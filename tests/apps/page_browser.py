#!/usr/bin/env python3
"""Opens a page of a run in headless Chromium and uses it: page_browser.py PAGE.html [SCREENSHOT.png]

Speaks the Chrome DevTools Protocol over the pipe of --remote-debugging-pipe (messages of JSON, each ended
by a zero byte), so that the standard library is enough. The page must hold a measurement. Options in the
environment: CHROMIUM, the browser; DARK=1, a screenshot in dark; FIGURES=1, print how long opening and
drawing took; PATH_SHOWN=1, a screenshot with the critical path.
"""
import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

WIDTH, HEIGHT = 1400, 1000
LIMIT_SEC = 60


class Browser:
    """A browser with one page, and the events that came from it."""

    def __init__(self, program, folder):
        to_browser, self.out = os.pipe()
        self.input, from_browser = os.pipe()
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                   "--disable-dev-shm-usage", "--disable-background-networking",
                   "--hide-scrollbars", f"--user-data-dir={folder}", "--remote-debugging-pipe"]
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self.process = subprocess.Popen(["bash", "-c", shell, "bash", *command],
                                        pass_fds=(to_browser, from_browser),
                                        stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer = b""
        self.number = 0
        self.events = []
        self.session = None

    def receive(self):
        while b"\0" not in self.buffer:
            if not select.select([self.input], [], [], LIMIT_SEC)[0]:
                raise RuntimeError("the browser does not answer")
            chunk = os.read(self.input, 1 << 16)
            if not chunk:
                raise RuntimeError("the browser ended")
            self.buffer += chunk
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.out, data):]
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, url):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")
        self.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT,
                  deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && document.getElementById('view').dataset.to")

    def evaluate(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, script):
        end = time.monotonic() + LIMIT_SEC
        while time.monotonic() < end:
            try:
                if self.evaluate(f"Boolean({script})"):
                    return
            except RuntimeError:  # the page is not there yet
                pass
            time.sleep(0.02)
        raise RuntimeError(f"never true: {script}")

    def frame(self):
        """Returns when all that was asked for has been drawn."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x, y):
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)
        self.frame()

    def press(self, key):
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)
        self.frame()

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def close(self):
        try:
            self.session = None
            self.call("Browser.close")
        except RuntimeError:
            pass
        self.process.wait(LIMIT_SEC)


failures = 0


def check(condition, what):
    global failures
    if not condition:
        failures += 1
    print(f"{'ok' if condition else 'FAILED'}: {what}", flush=True)


def center_of(browser, side, node):
    """The pixel of an op's middle in the window, once the page has been scrolled to the view."""
    return browser.evaluate(f"""(() => {{
        const box = timeline.boxOf({{side: sides[{side}], node: {node}}});
        const canvas = timeline.canvas.getBoundingClientRect();
        return {{x: Math.round(canvas.left + box.x + box.width / 2),
                 y: Math.floor(canvas.top + box.y + box.height / 2 - view.scrollTop)}};
    }})()""")


def shown(browser):
    return browser.evaluate("({from: Number(view.dataset.from), to: Number(view.dataset.to)})")


def colour_at(browser, side, node):
    """Of the canvas, beside the top left corner of an op, where no label is."""
    return browser.evaluate(f"""(() => {{
        const box = timeline.boxOf({{side: sides[{side}], node: {node}}});
        const ratio = timeline.ratio;
        const pixel = timeline.draw.getImageData((box.x + 1.5) * ratio,
            (box.y + 1.5 - view.scrollTop) * ratio, 1, 1).data;
        return "#" + [...pixel].slice(0, 3).map(c => c.toString(16).padStart(2, "0")).join("");
    }})()""")


def check_timelines(browser):
    names = browser.evaluate(
        "[...new Set(timeline.rows.filter(row => row.type === 'rank').map(row => row.side.name))]")
    check(names == ["predicted", "measured"], f"both timelines are there: {names}")
    for side in range(2):
        colour = colour_at(browser, side, 0)
        check(colour == browser.evaluate("KINDS[data.kind[0]].colour"),
              f"the first op of timeline {side} is drawn in its kind's colour: {colour}")
    before = [browser.evaluate(f"timeline.xOf(sides[{side}].start[0])") for side in range(2)]
    times = [browser.evaluate(f"sides[{side}].start[0]") for side in range(2)]
    check((before[0] == before[1]) == (times[0] == times[1]), "both are on one time axis")
    summary = browser.evaluate("document.getElementById('summary').textContent")
    check("was predicted to take" in summary, "the summary says it in words")


def check_mouse(browser):
    node = browser.evaluate("data.rankBegin[1] + 1")
    for side in range(2):
        at = center_of(browser, side, node)
        browser.click(at["x"], at["y"])
        chosen = browser.evaluate("view.dataset.selected")
        wanted = browser.evaluate(f"sides[{side}].name + ' ' + opName({node})")
        check(chosen == wanted, f"a click chooses '{chosen}'")
        text = browser.evaluate("document.getElementById('details').textContent")
        check(browser.evaluate(f"nodeName({node})") in text and "duration" in text,
              "its details are shown")
    browser.mouse("mouseMoved", at["x"] + 1, at["y"])
    browser.frame()
    check(browser.evaluate("!tip.hidden && tip.textContent.length > 20"), "hovering shows it, too")
    check_transfer(browser)
    before = shown(browser)
    sec = browser.evaluate(f"timeline.secOf({at['x']} - timeline.canvas.getBoundingClientRect().left)")
    browser.mouse("mouseWheel", at["x"], at["y"], deltaX=0, deltaY=-400)
    browser.wait(f"Number(view.dataset.to) - Number(view.dataset.from) < "
                 f"0.9 * ({before['to']} - {before['from']})")
    after = browser.evaluate(
        f"timeline.secOf({at['x']} - timeline.canvas.getBoundingClientRect().left)")
    check(True, "the wheel zooms in")
    check(abs(after - sec) <= 1e-6 * (before["to"] - before["from"]),
          "what is under the mouse stays there")
    check_drag(browser, at)


def check_transfer(browser):
    node = browser.evaluate("data.computeCount")
    at = center_of(browser, 1, node)
    browser.click(at["x"], at["y"])
    text = browser.evaluate("document.getElementById('details').textContent")
    check(all(word in text for word in ("sender ready", "receiver ready", "done")),
          "a transfer says when either side was ready and when it was done")


def check_drag(browser, at):
    before = shown(browser)
    browser.mouse("mousePressed", at["x"], at["y"], button="left", clickCount=1)
    for i in range(1, 6):
        browser.mouse("mouseMoved", at["x"] + 10 * i, at["y"], button="left", buttons=1)
    browser.mouse("mouseReleased", at["x"] + 50, at["y"], button="left", clickCount=1)
    browser.frame()
    after = shown(browser)
    check(after["from"] < before["from"] and
          abs((after["to"] - after["from"]) - (before["to"] - before["from"])) <= 1e-9 * before["to"],
          "dragging moves and does not zoom")


def check_keyboard(browser):
    browser.evaluate("view.focus()")
    browser.press("0")
    whole = shown(browser)
    check(browser.evaluate("timeline.from === timeline.first && timeline.to === timeline.last"),
          "0 shows the whole step")
    browser.press("+")
    part = shown(browser)
    check(part["to"] - part["from"] < whole["to"] - whole["from"], "+ zooms in")
    browser.press("ArrowRight")
    check(shown(browser)["from"] > part["from"], "an arrow moves")
    browser.press("0")
    browser.press("Escape")
    browser.press("Enter")
    first = browser.evaluate("timeline.selected.node")
    browser.press("n")
    check(browser.evaluate("timeline.selected.node") == first + 1, "n chooses the next op")
    browser.press("m")
    check(browser.evaluate("timeline.selected.side.name") == "measured",
          "m chooses it in the other timeline")
    browser.press("c")
    check(browser.evaluate("timeline.options.path"), "c shows the critical path")
    browser.press("c")
    browser.press("Escape")


def check_panels(browser):
    ranks = browser.evaluate("data.ranks")
    check(browser.evaluate("document.querySelectorAll('#ledger .bars canvas').length") == 2 * ranks,
          "a bar a rank and timeline")
    sums = browser.evaluate("""Math.max(...sides.flatMap(side => range(0, data.ranks).map(rank =>
        Math.abs(causesOf(side, rank).reduce((sum, sec) => sum + sec, 0) - side.bubble[rank])
            / side.span)))""")
    check(sums < 1e-6, "the causes of a rank add up to its bubble")
    check(browser.evaluate("document.querySelector('#error thead').textContent.includes('of cost')"),
          "the error has its parts")
    check(browser.evaluate("document.querySelectorAll('#path table').length") == 2,
          "both critical paths are listed")
    check(browser.evaluate("document.querySelectorAll('script[src], link, img, iframe').length") == 0
          and browser.evaluate("window.hacked") is None, "nothing is loaded, and texts stay texts")


def check_events(browser):
    asked = [event["params"]["request"]["url"] for event in browser.events
             if event.get("method") == "Network.requestWillBeSent"]
    check(len(asked) == 1 and asked[0].startswith("file:"), f"only the page is read: {asked}")
    thrown = [event for event in browser.events if event.get("method") == "Runtime.exceptionThrown" or
              (event.get("method") == "Log.entryAdded" and
               event["params"]["entry"]["level"] == "error")]
    check(not thrown, f"no error in the console: {thrown}")


def print_figures(browser):
    browser.evaluate("timeline.reset()")
    sec = browser.evaluate("""(() => {
        const begin = performance.now();
        for (let i = 0; i < 20; i++) { timeline.paint(); }
        timeline.draw.getImageData(0, 0, 1, 1);
        return (performance.now() - begin) / 20; })()""")
    loaded = browser.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart")
    print(f"loaded in {loaded} ms, the whole step drawn in {sec:.1f} ms, "
          f"{browser.evaluate('data.kind.length')} nodes")


def use(browser, page, screenshot):
    browser.open("file://" + os.path.abspath(page))
    browser.evaluate("view.scrollIntoView()")
    browser.frame()
    check_timelines(browser)
    check_mouse(browser)
    check_keyboard(browser)
    check_panels(browser)
    light = browser.evaluate("timeline.theme.back")
    browser.call("Emulation.setEmulatedMedia",
                 features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.frame()
    check(browser.evaluate("timeline.theme.back") != light, "dark is another scheme")
    if not os.environ.get("DARK"):
        browser.call("Emulation.setEmulatedMedia", features=[])
    check_events(browser)
    if os.environ.get("FIGURES"):
        print_figures(browser)
    if screenshot:
        if os.environ.get("PATH_SHOWN"):
            browser.press("c")
        browser.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        browser.frame()
        browser.screenshot(screenshot)


def main():
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        print("chromium is not installed")
        return 77
    folder = tempfile.mkdtemp()
    browser = Browser(program, folder)
    try:
        use(browser, sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    finally:
        browser.close()
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
