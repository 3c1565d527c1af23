"use strict";
// The review file with all answers, and the buttons that save and copy it.
//
// page: the state of the report, see page.js.
function newReviewFile({ images, sets, review, answers, groups, photos: { setOf } }) {
  const manualThresholds = () => sets.filter((set) => set.manual).map((set) => [set.category, set.manual]);
  const shares = () => sets.filter((set) => set.maxDefective < 1).map((set) => [set.category, set.maxDefective]);

  function text() {
    const patterns = groups.reviewed().map(({ pattern, verdict, name }) => ({ ...review.patterns[pattern], verdict, name: name.trim() }));
    const earlier = new Map(review.photos.map((photo) => [photo.key, photo]));
    const photos = [...answers.all].map(([key, { answer, note }]) => {
      const [number] = answers.numbersOf.get(key), { mark, answer: before } = earlier.get(key) ?? {};
      const photo = { key, name: images[number].name, category: setOf(number).category, answer, note };
      return mark && before === answer ? { ...photo, mark } : photo;
    });
    // answers for photos and categories of earlier batches stay in the review
    const others = review.photos.filter(({ key }) => !answers.numbersOf.has(key)), here = new Set(sets.map((set) => set.category));
    const merged = (before, now) => Object.fromEntries([...Object.entries(before).filter(([name]) => !here.has(name)), ...now]);
    const value = {
      format: review.format,
      feature_identity: review.feature_identity,
      patterns: [...review.other_patterns, ...patterns],
      photos: [...others, ...photos],
      thresholds: merged(review.thresholds, manualThresholds()),
      max_defective: merged(review.max_defective, shares()),
      photos_digest: review.photos_digest,
    };
    return `${JSON.stringify(value, null, 2)}\n`;
  }

  // shows how many answers there are, and clears the results of earlier clicks
  function countAnswers() {
    const values = [...answers.all.values()];
    const counts = {
      photos: values.filter(({ answer }) => answer).length,
      notes: values.filter(({ note }) => note).length,
      applied_groups: groups.reviewed().length,
      applied_thresholds: manualThresholds().length,
    };
    const parts = Object.entries(counts).filter(([, count]) => count).map(([key, count]) => t(key, { count }));
    $("#answer-count").textContent = parts.length ? t("answers_so_far", { parts }) : t("no_answer_yet");
    for (const button of [$("#save-review"), $("#copy-review")]) button.disabled = !parts.length && !shares().length;
    $("#review-done").textContent = "";
    $("#review-text").hidden = true;
  }

  $("#save-review").addEventListener("click", () => {
    save(text(), "application/json", "review.json");
    $("#review-done").textContent = t("saved_file");
  });
  $("#copy-review").addEventListener("click", () => {
    const area = $("#review-text");
    Object.assign(area, { value: text(), hidden: false });
    area.select();
    return copy(area.value, $("#review-done"), "copied_text", "copy_below");
  });
  $("#copy-command").addEventListener("click", () => {
    getSelection().selectAllChildren($("#command"));
    return copy($("#command").textContent, $("#command-done"), "copied", "press_copy");
  });

  return { text, countAnswers };
}
