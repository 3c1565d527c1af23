"use strict";
// The report: joins its parts, whose functions `new...` are in the files beside this one.
//
// `page` is the state that the parts share: the data of the page (`_script_data` of page.py), the rows of the table by
// number of the photo, and the parts themselves, which call each other through it.
(() => {
  const page = {
    ...JSON.parse($("#data").textContent),
    inApp: Boolean($("meta[name=codegraph-run]")),  // by codegraph app, which keeps the answers
    rows: new Map([...$("#table tbody").rows].map((row) => [Number(row.dataset.number), row])),
    onanswer: () => {},  // called after each change of an answer in the app
    answer, undo, changed,
  };
  const { images, sets, review } = page;
  const photos = page.photos = newPhotos(page);
  const groups = page.groups = newGroups(page);
  const answers = page.answers = newAnswers(page);
  const table = page.table = newTable(page);
  const card = page.card = newCard(page);
  const viewer = page.viewer = newViewer(page);
  const reviewFile = review && newReviewFile(page);

  // ---- changes ----

  function answer(number, value) {
    const set = photos.setOf(number), before = answers.of(number);
    set.undo.push({ number, before });
    set.revised = false;
    changed(...answers.set(images[number].key, { ...before, answer: value }));
    viewer.refresh();
  }

  function undo() {
    const set = viewer.open ? photos.setOf(viewer.current) : card.chosenSet(), last = set.undo.pop();
    if (!last) return;
    set.current = last.number;
    set.revised = last.before.answer !== null;
    changed(...answers.set(images[last.number].key, { ...last.before, note: answers.of(last.number).note }));
    viewer.refresh();
  }

  // updates the page after an answer, the slider or another share; a long table is updated after a pause
  const pause = images.length > 500 ? 100 : 0;
  let timer = 0;
  function changed(...touched) {
    if (touched.length) {
      touched.forEach(photos.updateVerdicts);
      card.paint();
      paintCounts();
      clearTimeout(timer);
      timer = setTimeout(table.paint, pause);
    }
    if (!review) return;
    reviewFile.countAnswers();
    answers.store();
  }

  function paintCounts() {
    const all = sets.flatMap((set) => set.verdicts), count = (verdict) => all.filter((other) => other === verdict).length;
    for (const cell of $$("[data-count]")) cell.textContent = texts.number(count(cell.dataset.count));
    $("#flagged").textContent = texts.number(count("flagged"));
    document.title = t("n_of_photos", { flagged: count("flagged"), photos: images.length });
  }

  function paintAll() {
    card.paint();
    paintCounts();
    table.paint();
    reviewFile?.countAnswers();
    viewer.refresh();
  }

  // ---- clicks and keys ----

  document.addEventListener("click", (event) => {
    const on = (selector) => event.target.closest(selector);
    const opener = on("[data-open]"), list = on(".members"), group = on("[data-group]"), tile = on("button[data-count]");
    // from a group, the large view steps through the group instead of the table
    if (opener) return viewer.show(Number(opener.dataset.open), list ? $$("[data-member]", list).map((item) => Number(item.dataset.member)) : undefined);
    if (!group && !tile) return undefined;
    if (group) table.filter("all", { set: Number(group.dataset.set), number: Number(group.dataset.group) });
    else table.filter(tile.dataset.count);
    return $("#images").scrollIntoView();
  });

  for (const form of $$("form:not([method])")) form.addEventListener("submit", (event) => event.preventDefault());
  for (const name of ["maps", "gallery"]) $(`#${name}`).addEventListener("change", (event) => document.body.classList.toggle(name, event.target.checked));

  const ANSWER_KEYS = { g: "good", d: "defective", u: "unsure" };

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.matches("textarea:not(:read-only), select, input:is([type=text], [type=search])")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const value = review && ANSWER_KEYS[key];
    let action = null;
    if (value) action = () => (viewer.open ? answer(viewer.current, value) : card.answer(value));
    else if (review && (key === "z" || key === "Backspace")) action = undo;
    else if (key === "h" || key === "m") action = () => (viewer.open ? viewer.mapSwitch : card.mapSwitch)?.click();
    else if (viewer.open) action = viewer.keys[key];
    else if (key === "/") action = table.focusSearch;
    if (!action) return;
    event.preventDefault();
    action();
  });

  // ---- the script of codegraph app keeps the answers, and merges those of other windows ----

  function merge(list) {
    answers.merge(list);
    sets.forEach(photos.updateVerdicts);
    paintAll();
  }

  if (page.inApp && review) {
    window.report = {
      USUAL_ANSWERS, merge, entries: answers.entries, reviewText: reviewFile.text, onanswer: (listener) => { page.onanswer = listener; },
    };
  }

  // ---- start ----

  if (review) answers.restore();
  sets.forEach(photos.updateVerdicts);
  card.paint();
  paintCounts();
  reviewFile?.countAnswers();
  table.start();
  // browsers keep form values when a page is reloaded
  for (const name of ["maps", "gallery"]) document.body.classList.toggle(name, $(`#${name}`).checked);
  texts.onchange(paintAll);

  // a link to one image: report.html#image-12
  function follow() {
    const match = /^#image-(\d+)$/.exec(location.hash);
    if (match && Number(match[1]) < images.length) viewer.show(Number(match[1]));
  }
  window.addEventListener("hashchange", follow);
  follow();
})();
