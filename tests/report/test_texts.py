"""The texts of all pages: complete in both languages, only in their files; sentences of a server are translated."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from codegraph_jax.config import Config, ThresholdConfig
from codegraph_jax.core.progress import Clock
from codegraph_jax.line.monitors import STATISTICS
from codegraph_jax.line.part import operator_sentence
from codegraph_jax.report.results import write_results
from codegraph_jax.report.texts import LANGUAGES, Text, package_text, text, texts_of
from codegraph_jax.report.wording import chance, describe_threshold, describe_warning, rarity
from codegraph_jax.scoring.threshold import ThresholdWarning, calibrate
from tests.report.outcomes import NAMES, make_outcome
from tests.support import ROOT

PACKAGES = ("report", "app", "line")
PACKAGE = ROOT / "codegraph_jax"
SOURCES = [path for package in PACKAGES for path in sorted((PACKAGE / package).glob("*")) if path.is_file()]
PAGES = [path for path in SOURCES if path.suffix in (".html", ".j2")]
SCRIPTS = [path for path in SOURCES if path.suffix == ".js"]
NOT_TRANSLATED = {"English", "Deutsch", "codegraph", "A", "B", "A:", "B:", "D", "G", "Z", "H", "scores.csv",
                  "scores.json", "groups.json", "manifest.json", "--review=~/Downloads"}  # fmt: skip
"""Names, keys and files."""
PUT_TOGETHER = (
    "verdict_", "answer_", "group_", "named_", "choice_", "score_", "threshold_", "metrics_", "false_alarms_",
    "misses_", "sentence_", "warning_", "duplicates", "views", "stage_", "job_", "most_moved", "newly_", "no_longer_",
    "flagged_", "rank_", "fit_", "welcome_",
)  # fmt: skip
"""Beginnings of keys that the sources complete, such as "verdict_" and a verdict."""


def values_of(sentence: str) -> list[str]:
    return sorted(re.findall(r"\{(\w+)\}", sentence))


@pytest.mark.parametrize("package", PACKAGES)
def test_both_languages_have_the_same_texts_and_values(package):
    english, german = (texts_of(package, language) for language in LANGUAGES)
    assert list(english) == list(german)
    assert {key: values_of(english[key]) for key in english} == {key: values_of(german[key]) for key in german}
    assert all(english.values()) and all(german.values())
    assert package == "report" or not set(english) & set(texts_of("report", "en")), "pages have both"


def test_every_text_exists_and_is_used():
    known = {key for package in PACKAGES for key in texts_of(package, "en")}
    sources = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if path.suffix != ".json")
    asked = re.findall(r'''\b(?:t|text)\("(\w+)"|data-t="(\w+)"|"t":"(\w+)"''', sources)
    assert asked and not {key for keys in asked for key in keys if key and key[-1] != "_"} - known
    spoken = re.findall(r'\boperator_sentence\("(\w+)"', sources)
    assert spoken and not {f"sentence_{key}" for key in spoken} - known
    words = set(re.findall(r"\w+", sources))
    unused = {key for key in known if key not in words and not key.startswith(PUT_TOGETHER)}
    assert not {key for key in unused if key.removesuffix("_one") not in words}


class Words(HTMLParser):
    """Words of a page that are not in the files of texts."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(re.sub(r"\{%.*?%\}|\{\{.*?\}\}", " ", page, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name in ("aria-label", "placeholder", "title") and value]
        self.found += [value for name, value in attributes if name == "alt" and value]

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() not in ("<style>", "<script>"):
            self.found += [word for word in data.split() if re.search("[a-zA-Z]", word)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_have_no_texts_of_their_own(page):
    assert not {word.strip(",.;") for word in Words(page.read_text(encoding="utf-8")).found} - NOT_TRANSLATED


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_have_no_texts_of_their_own(script):
    source = re.sub(
        r'^\s*//.*$|\s//\s.*$|className: (".*?"|`.*?`)', "", script.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    strings = re.findall(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`', source)
    found = [re.sub(r"\$\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}", "", one or other) for one, other in strings]
    # several words without the signs of selectors, classes and paths
    words, signs = r"[A-Za-z]{2,} [a-z]{2,}", r"[#.\[<>:=/]|use strict|button |note "
    sentences = {one for one in found if re.search(words, one) and not re.search(signs, one)}
    assert not sentences


def test_texts_are_english_in_the_terminal():
    assert str(rarity(0.7)) == "most good parts" and str(rarity(0.00017543)) == "1 in 5,700 good parts"
    assert str(chance(1e-9)) == "fewer than 1 in 1,000,000"
    assert str(text("photos", count=1)) == "1 photo" and str(text("photos", count=1200)) == "1,200 photos"
    assert str(text("answers_applied", parts=[text("photos", count=2), text("applied_groups", count=1)])) == (
        "Your answers are applied: 2 photos and 1 group."
    )
    assert "3 times as much" in str(text("evidence_rough", ratio=3.0))
    calibration = calibrate(np.random.default_rng(0).normal(0.3, 0.02, 60), ThresholdConfig())
    assert "in this set of 60 that is" in str(describe_threshold(calibration, 60))
    assert str(describe_threshold(calibration, None)).startswith(
        "The threshold comes from the reference bank. About 1 "
    )
    few_fitted = replace(calibration, image_count=10)
    assert str(describe_threshold(few_fitted, 60)).startswith("10 photos without a recurring defect are too few")
    with pytest.raises(KeyError):
        str(Text("no such key", {}))


def test_warnings_and_alarms_are_known():
    warnings = [str(describe_warning(ThresholdWarning(kind, 5, 20, 3))) for kind in ("not_separate", "even", "many")]
    assert all("threshold.max_defective" in sentence and "{" not in sentence for sentence in warnings)
    alarms = [operator_sentence(f"{name}_{change}", part=1024) for name in STATISTICS for change in ("risen", "fallen")]
    assert all("part 1024" in sentence for sentence in alarms) and len(set(alarms)) == 10


def test_the_report_speaks_german(browser, tmp_path):
    outcomes = [make_outcome(tmp_path / "data", NAMES[:12], labelled=True)]
    write_results(tmp_path / "out", Config(), outcomes, Clock())
    page = (tmp_path / "out" / "report.html").absolute().as_uri()
    browser.view(390, 844, phone=True)
    browser.visit(f"{page}?language=de")
    said = browser.evaluate("document.body.innerText")
    assert browser.evaluate("[document.documentElement.lang, document.title]") == ["de", "4 von 12 Fotos auffällig"]
    for german in ("Ist dieses Teil fehlerhaft?", "Schwellwert", "Gutteilen", "wiederkehrende", "98,7 %"):
        assert german in said, german
    score = browser.text("#row-0 .score")
    assert re.fullmatch(r"0,\d{4}", score)
    english, german = (texts_of("report", language) for language in LANGUAGES)
    assert not {one for key, one in english.items() if one != german[key]} & set(said.splitlines())
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    browser.click("[data-answer=good]")
    change = "e => { e.value = 'en'; e.dispatchEvent(new Event('change', { bubbles: true })); }"
    browser.evaluate(f"({change})(document.querySelector('#language'))")
    assert "So far: 1 photo." in browser.evaluate("document.body.innerText"), "the answer is kept"
    assert browser.text("#row-0 .score") == score.replace(",", ".")
    browser.visit(page)
    assert browser.evaluate("document.documentElement.lang") == "en" and browser.problems == []


def test_sentences_of_a_server_are_translated(browser, tmp_path):
    (tmp_path / "page.html").write_text("<!doctype html><script>" + package_text("shared.js") + "</script>")
    browser.open(tmp_path / "page.html")
    texts = {language: texts_of("line", language) for language in LANGUAGES}
    found = browser.evaluate(
        f"history.replaceState(null, '', '?language=de'); texts.add({json.dumps(texts)});"
        "['tool mark is back: found on 3 parts (4, 7, 9).', 'None of this.'].map(texts.translated)"
    )
    assert found == ["tool mark ist wieder da: auf 3 Teilen gefunden (4, 7, 9).", "None of this."]
