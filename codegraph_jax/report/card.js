"use strict";
// The card of a set: the photo to answer for, the histogram, and the threshold slider.

const USUAL_ANSWERS = 8;  // answers that are enough for most sets (docs/method.md, section 5.1)

// page: the state of the report, see page.js
function newCard(page) {
  const { images, sets, review, photos: { indexOf, rarityColumn, imagesOf, thumbnailOf } } = page;
  const stage = review && new Stage($("#look"), imagesOf), mapSwitch = $("#look-map"), slider = $("#slider");
  const setSelect = $("#set"), maxDefective = $("#at-most");
  const chosenSet = () => sets[Number(setSelect?.value ?? 0)];

  function paint() {
    const set = chosenSet();
    const [low, high] = paintHistogram(set);
    $("#effect").textContent = effect(set);
    if (!review) return;
    Object.assign(slider, { min: low, max: high });
    slider.value = Math.min(set.threshold, high);
    maxDefective.value = set.maxDefective;
    const undone = set.undo.at(-1);
    $("#undo").disabled = !undone;
    $("#undo").title = undone ? images[undone.number].name : "";
    texts.mark($("th[data-sort=rarity] button"), rarityColumn());
    const { photo, enough } = set.model.suggest(), answered = set.current !== null && set.model.answers.has(indexOf(set.current));
    if (set.current === null || (answered && !set.revised)) set.current = photo === null ? null : set.first_number + photo;
    paintQuestion(set);
    paintUsual(set);
    $("#progress").textContent = progress(set, enough);
    $("#use-answers").hidden = !set.manual;
    $("#use-answers").textContent = t(set.model.decisive.length ? "use_answers" : "use_automatic");
    const other = set.score !== set.model.names[0];
    $("#score-choice").hidden = !other;
    $("#score-choice").textContent = other ? t("other_score", { score: texts.known(`score_${set.score}`) ?? set.score }) : "";
  }

  function paintQuestion(set) {
    const none = set.current === null;
    $(".question").classList.toggle("done", none);
    $("#look-name").textContent = none ? "" : images[set.current].name;
    $("#ask").textContent = t(none ? "all_answered" : "is_defective");
    stage.canvas.parentElement.style.aspectRatio = 1 / set.tallest;
    if (!none) stage.show(set.current, mapSwitch.checked);
  }

  // a photo for comparison, at the lower quartile of the scores or above; neither the current one nor one called defective
  function paintUsual(set) {
    const scores = set.model.scores[set.score], size = set.model.setSize, figure = $("#usual");
    const ranked = [...Array(size).keys()].sort((a, b) => scores[a] - scores[b]).slice(Math.floor(size / 4), Math.ceil(size / 2));
    const index = ranked.find((i) => set.first_number + i !== set.current && set.model.answers.get(i) !== "defective");
    figure.hidden = index === undefined || set.current === null;
    if (figure.hidden) return;
    const number = set.first_number + index, source = thumbnailOf(number), button = $(".frame", figure);
    if (button.dataset.open === String(number)) return;
    button.dataset.open = number;
    texts.attribute(button, "aria-label", "open_photo", { name: images[number].name });
    $(".fit", figure).className = source.parentElement.className;
    $(".photo", figure).src = source.src;
  }

  function progress(set, enough) {
    const count = set.model.decisive.length, so_far = t("so_far", { count });
    if (set.manual) return t("by_hand");
    if (!count) return t("provisional");
    if (!set.model.hasEnoughAnswers) return t("too_few_answers", { so_far });
    if (enough) return t("enough_answers", { so_far });
    return t(count < USUAL_ANSWERS ? "about_eight" : "more_help_little", { so_far, usual: USUAL_ANSWERS });
  }

  function effect(set) {
    if (set.model.hasEnoughAnswers) return mistakesText(set.model.estimate(set.flags, set.score));
    return set.manual ? t("answer_to_learn") : texts.textOf(set.explanation);
  }

  // draws the histogram; returns the range of the slider
  function paintHistogram({ model, score, verdicts, threshold }) {
    const included = score === model.names[0] && model.initialThreshold < Infinity ? [model.initialThreshold] : [];
    const { low, high, chart, legend } = histogram({ scores: model.scores[score], verdicts, threshold, answered: model.decisive, included });
    $("#histogram").replaceChildren(...chart);
    $("#legend").replaceChildren(...legend);
    return [low, high];
  }

  // answers for the photo of the card; if the photo is not visible, scrolls to it instead
  function answer(value) {
    const set = chosenSet(), box = $("#look").getBoundingClientRect();
    if (set.current === null) return;
    if (box.bottom < box.height / 2 || box.top > innerHeight - box.height / 2) $("#threshold").scrollIntoView();
    else page.answer(set.current, value);
  }

  function setByHand(manual) {
    const set = chosenSet();
    set.manual = manual;
    page.changed(set);
  }

  if (review) {
    for (const button of $$("[data-answer]")) button.addEventListener("click", () => answer(button.dataset.answer));
    $("#undo").addEventListener("click", page.undo);
    $("#look .canvas").addEventListener("click", () => page.viewer.show(chosenSet().current));
    mapSwitch.addEventListener("change", paint);
    slider.addEventListener("input", () => setByHand({ score: chosenSet().score, threshold: Number(slider.value) }));
    $("#use-answers").addEventListener("click", () => setByHand(null));
    maxDefective.addEventListener("change", () => {
      const set = chosenSet();
      set.model.maxDefective = set.maxDefective = Number(maxDefective.value);
      page.changed(set);
    });
  }
  setSelect?.addEventListener("change", paint);

  return { paint, answer, chosenSet, mapSwitch };
}
