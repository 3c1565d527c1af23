"use strict";
(() => {
  const { images, sets, large, review, limits, mm_per_pixel: mmPerPixel } = JSON.parse($("#data").textContent);
  const served = Boolean($("meta[name=codegraph-run]"));  // by codegraph app, which keeps the answers
  const body = $("#table tbody"), search = $("#search"), category = $("#category"), show = $("#show"), sort = $("#sort");
  const rows = new Map([...body.rows].map((row) => [Number(row.dataset.number), row]));
  const numbers = [...rows.keys()], collator = new Intl.Collator("en", { numeric: true });
  let group = null;  // { set, number } while the table shows one group
  let descending = false, visible = numbers;  // in the order of the table

  const setOf = (number) => sets[images[number].set];
  const indexOf = (number) => number - setOf(number).first;  // of a photo in its set
  const verdictOf = (number) => setOf(number).verdicts[indexOf(number)];
  const scoreOf = (number) => setOf(number).model.scores[setOf(number).score][indexOf(number)];

  // ---- answers, by the digest of the photo; shared by the card and the large view ----

  const answers = new Map();  // { answer, note } by key
  const answerOf = (number) => answers.get(images[number].key) ?? { answer: null, note: "" };
  const numbersOf = new Map();
  images.forEach(({ key }, number) => numbersOf.set(key, [...(numbersOf.get(key) ?? []), number]));

  // sets the answer of all identical photos; returns their sets
  function setAnswer(key, answer) {
    if (answer.answer || answer.note) answers.set(key, answer);
    else answers.delete(key);
    const identical = numbersOf.get(key) ?? [];
    for (const number of identical) {
      const { model } = setOf(number);
      if (answer.answer) model.answer(indexOf(number), answer.answer === "unsure" ? null : answer.answer === "defective");
      else model.removeAnswer(indexOf(number));
    }
    return new Set(identical.map(setOf));
  }

  // browsers may not store anything for a page that was opened from disk
  function stored(name) {
    try {
      return (!served && JSON.parse(localStorage.getItem(name))) || {};
    } catch {
      return {};
    }
  }

  // keeps all answers: in the app, or in the browser
  function store() {
    if (served) return keep();
    const { photo, share, group, threshold } = entries();
    try {
      localStorage.setItem(review.store.photos, JSON.stringify({ photo, share }));
      localStorage.setItem(review.store.rest, JSON.stringify({ group, threshold }));
    } catch {
      // without storage, answers are lost when the page is closed
    }
    return undefined;
  }

  const byCategory = (value) => Object.fromEntries(sets.map((set) => [set.category, value(set)]));
  const formKey = (form) => `${review.store.rest} ${form.dataset.pattern}`;

  // all answers: values by kind and key
  const entries = () => ({
    photo: Object.fromEntries(answers),
    group: Object.fromEntries(reviewedForms().map((form) => [formKey(form), { verdict: form.elements.verdict.value, name: form.elements.name.value }])),
    threshold: byCategory((set) => set.manual),
    share: byCategory((set) => set.maxDefective),
  });

  const ofSet = (category, change) => sets.filter((set) => set.category === category).forEach(change);
  const SETTERS = {
    photo: (key, value) => { if (numbersOf.has(key)) setAnswer(key, value ?? { answer: null, note: "" }); },
    group: (key, value) => fill(forms.find((form) => formKey(form) === key), value.verdict, value.name),
    threshold: (key, value) => ofSet(key, (set) => { set.manual = value && value.score in set.model.scores ? value : null; }),
    share: (key, value) => ofSet(key, (set) => { set.model.maxDefective = set.maxDefective = value; }),
  };

  // the answers that the browser has kept, otherwise those that the run has applied
  function restore() {
    for (const set of sets) for (const photo of [...set.model.answers.keys()]) set.model.removeAnswer(photo);
    const kept = {
      photo: Object.fromEntries(review.photos.map(({ key, answer, note }) => [key, { answer, note }])),
      threshold: byCategory((set) => set.by_hand),
      share: byCategory((set) => set.state.max_defective),
      ...stored(review.store.photos),
      ...stored(review.store.rest),
    };
    for (const [kind, give] of Object.entries(SETTERS)) for (const [key, value] of Object.entries(kept[kind] ?? {})) give(key, value);
  }

  const marked = (set, index) => set.flags[index] && set.model.scores[set.score][index] < set.threshold;

  // how unusual a photo is: its p-value or, with enough answers, the probability that it is good
  function rarityOf(number) {
    const set = setOf(number), index = indexOf(number), answer = set.model.answers.get(index);
    if (!set.probabilities) return set.p_values[index];
    return typeof answer === "boolean" ? 1 - Number(answer) : marked(set, index) ? 0 : 1 - set.probabilities[index];
  }

  // one heading for all categories, from the first one with enough answers on
  const rarityColumn = () => (sets.some((set) => set.probabilities) ? "probability_column" : "how_unusual");

  function rarityTextOf(number) {
    const set = setOf(number), index = indexOf(number);
    return rarityText({
      p: set.p_values[index], answer: set.model.answers.get(index), marked: marked(set, index), probability: set.probabilities?.[index],
    });
  }

  // ---- verdicts: those of the run until there is an answer ----

  for (const set of sets) {
    const model = new ActiveCalibrator(set.state), expected = model.flagged(set.score, set.threshold ?? Infinity);
    // marks of earlier answers decide on some photos, whatever their score
    const forcedFlags = set.flagged.map((flag, i) => (flag === expected[i] ? null : flag));
    const photos = images.slice(set.first, set.first + set.flagged.length);
    const tallest = photos.reduce((most, { width, height }) => Math.max(most, height / width), 0.1);
    Object.assign(set, { model, forcedFlags, tallest, manual: null, maxDefective: 1, undo: [], current: null });
  }

  function updateVerdicts(set) {
    const { model, manual } = set;
    set.score = manual?.score ?? model.chosen;
    set.threshold = manual?.threshold ?? model.threshold;
    const found = manual || model.answered.length ? model.flagged(set.score, set.threshold) : set.flagged;
    set.flags = found.map((flag, i) => (typeof model.answers.get(i) === "boolean" ? flag : set.forcedFlags[i] ?? flag));
    set.probabilities = model.decided ? model.defective(set.score) : null;
    set.verdicts = ActiveCalibrator.verdicts({
      flagged: set.flags, scores: model.scores[set.score], p_values: set.p_values,
      always_passed: set.flags.map((flag, i) => model.answers.get(i) === false || (!flag && set.tolerated[i])),
      defect_probabilities: set.probabilities, enough_photos: set.enough_photos,
    }, limits);
  }

  const painted = new Map();  // displayed state by row

  function paintRow(number) {
    const verdict = verdictOf(number), { answer, note } = answerOf(number), { label, pattern, rescored, name } = images[number];
    const text = rarityTextOf(number), state = [texts.language, verdict, answer, Boolean(note), scoreOf(number), text].join();
    if (painted.get(number) === state) return;
    painted.set(number, state);
    const row = rows.get(number), write = (selector, value) => { if ($(selector, row)) $(selector, row).textContent = value; };
    row.className = verdict;
    $(".frame", row).setAttribute("aria-label", t("open_photo", { name }));
    write(".badge", t(`verdict_${verdict}`));
    write(".said", review ? [answer && youSaid(answer), note && t("note")].filter(Boolean).join(", ") : "");
    write(".score", scoreText(scoreOf(number)));
    write(".rescored", scoreText(rescored ?? scoreOf(number)));
    write(".rarity", text);
    write(".label", label === null ? "" : t(word(label)));
    write(".recurring bdi", texts.say(pattern));
    for (const key of ["score", "rescored"]) $(`.${key}`, row)?.setAttribute("data-label", t(key));
  }

  function paintCounts() {
    const all = sets.flatMap((set) => set.verdicts), count = (verdict) => all.filter((other) => other === verdict).length;
    for (const cell of $$("[data-count]")) cell.textContent = texts.number(count(cell.dataset.count));
    $("#flagged").textContent = texts.number(count("flagged"));
    document.title = t("n_of_photos", { flagged: count("flagged"), photos: images.length });
  }

  // updates the page after an answer, the slider or another share; a long table is updated after a pause
  const pause = images.length > 500 ? 100 : 0;
  let timer = 0;
  function changed(...touched) {
    touched.forEach(updateVerdicts);
    paintCard();
    paintCounts();
    if (review) {
      countAnswers();
      store();
    }
    clearTimeout(timer);
    timer = setTimeout(paintTable, pause);
  }

  function paintTable() {
    if (["score", "verdict", "rarity"].includes(sort.value)) applySort(sort.value, descending);
    else applyFilter();
  }

  function paintAll() {
    paintCard();
    paintCounts();
    paintTable();
    if (review) countAnswers();
    if (viewer.open) render();
  }

  // ---- the table: sorting and filtering ----

  const LARGEST_FIRST = new Set(["score", "rescored", "label"]);
  const KEYS = {
    name: (number) => images[number].name,
    category: (number) => setOf(number).category,
    verdict: (number) => ["flagged", "check", "passed", "unknown"].indexOf(verdictOf(number)),
    score: scoreOf,
    rescored: (number) => images[number].rescored,
    rarity: rarityOf,
    label: (number) => images[number].label,
    group: (number) => images[number].group,
  };

  function order(first, second) {
    // photos without a value come last in either direction
    if (first === null || second === null) return (first === null) - (second === null);
    const found = typeof first === "string" ? collator.compare(first, second) : first - second;
    return descending ? -found : found;
  }

  function applySort(key, down) {
    descending = down;
    sort.value = key;
    for (const head of $$("th[data-sort]")) {
      if (head.dataset.sort === key) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    const values = images.map((_, number) => KEYS[key](number)), scores = images.map((_, number) => scoreOf(number));
    numbers.sort((a, b) => order(values[a], values[b]) || scores[b] - scores[a] || a - b);
    applyFilter();
  }

  const TESTS = {
    all: () => true,
    answered: (number) => answers.has(images[number].key),
    recurring: (number) => images[number].group !== null,
    missed: (number) => images[number].label === 1 && verdictOf(number) !== "flagged",
    false: (number) => images[number].label === 0 && verdictOf(number) === "flagged",
  };

  function applyFilter() {
    const typed = search.value.toLowerCase().split(/\s+/).filter(Boolean), only = category?.value ?? "";
    const test = TESTS[show.value] ?? ((number) => verdictOf(number) === show.value);
    visible = numbers.filter((number) => {
      const image = images[number], name = image.name.toLowerCase();
      return test(number) && (only === "" || image.set === Number(only)) && typed.every((part) => name.includes(part)) &&
        (!group || (image.group === group.number && image.set === group.set));
    });
    showRows(shownRows);
    const all = visible.length === images.length, counts = { some: visible.length, photos: images.length };
    $("#count").textContent = all ? t("photos", { count: images.length }) : group && visible.length
      ? t("some_that_share", { ...counts, group: texts.say(images[visible[0]].pattern) }) : t("some_photos", counts);
    $("#reset").hidden = all;
    $("#one-by-one").hidden = !visible.length;
  }

  // only the first rows are in the document, since the layout of thousands of rows is slow
  const ROWS = 60, more = $("#more");
  let shownRows = ROWS, inTable = "";

  function showRows(count) {
    shownRows = count;
    const first = visible.slice(0, shownRows);
    first.forEach(paintRow);
    if (first.join() !== inTable) body.replaceChildren(...first.map((number) => rows.get(number)));
    inTable = first.join();
    more.hidden = shownRows >= visible.length;
  }

  more.addEventListener("click", () => showRows(shownRows + ROWS));
  new IntersectionObserver(([entry]) => entry.isIntersecting && more.click(), { rootMargin: "1000px" }).observe(more);
  window.addEventListener("beforeprint", () => showRows(Infinity));

  // shows some of the photos: all, those with a verdict, or those of a group
  function filter(shown = "all", only = null) {
    search.value = "";
    show.value = shown;
    if (category) category.value = "";
    group = only;
    applyFilter();
  }

  function clickSort(key, direction) {
    applySort(key, direction ? direction === "ascending" : LARGEST_FIRST.has(key));
  }

  sort.addEventListener("change", () => clickSort(sort.value));
  for (const head of $$("th[data-sort]")) head.addEventListener("click", () => clickSort(head.dataset.sort, head.getAttribute("aria-sort")));
  search.addEventListener("input", applyFilter);
  for (const select of [show, category]) select?.addEventListener("change", applyFilter);
  for (const form of $$("form:not([method])")) form.addEventListener("submit", (event) => event.preventDefault());
  $("#reset").addEventListener("click", () => filter());
  $("#one-by-one").addEventListener("click", () => openViewer(visible[0]));
  for (const name of ["maps", "gallery"]) $(`#${name}`).addEventListener("change", (event) => document.body.classList.toggle(name, event.target.checked));

  // ---- members of groups and near-duplicates, with the pictures of the table ----

  const photograph = (number) => $(".photo", rows.get(number));

  function pictures(number) {
    const { width, height, name, heatmap } = images[number];
    return { width, height, name, photo: photograph(number).src, heat: $(".heat", rows.get(number)).src, file: large ? null : heatmap };
  }

  function drawBoxes(into, boxes, kind) {
    for (const [left, top, right, bottom] of boxes) {
      for (const part of ["outline", kind]) into.append(svg("rect", { class: part, x: left, y: top, width: right - left, height: bottom - top }));
    }
  }

  for (const item of $$("li[data-member]")) {
    const number = Number(item.dataset.member), image = images[number], source = photograph(number);
    const boxes = svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none" });
    drawBoxes(boxes, image.pattern_boxes, "pattern");
    const button = h("button", { type: "button", className: "frame", "data-open": number },
      h("span", { className: source.parentElement.className }, source.cloneNode(), boxes));
    item.append(texts.attribute(button, "aria-label", "open_photo", { name: image.name }), h("bdi", {}, image.name));
  }

  document.addEventListener("click", (event) => {
    const on = (selector) => event.target.closest(selector);
    const opener = on("[data-open]"), list = on(".members"), chosen = on("[data-group]"), tile = on("button[data-count]");
    // from a group, the large view steps through the group instead of the table
    if (opener) return openViewer(Number(opener.dataset.open), list ? $$("[data-member]", list).map((item) => Number(item.dataset.member)) : visible);
    if (!chosen && !tile) return undefined;
    if (chosen) filter("all", { set: Number(chosen.dataset.set), number: Number(chosen.dataset.group) });
    else filter(tile.dataset.count);
    return $("#images").scrollIntoView();
  });

  // ---- the card: the photo to answer for, the histogram, and the threshold slider ----

  const look = review && new Stage($("#look"), pictures), lookMap = $("#look-map"), slider = $("#slider");
  const setSelect = $("#set"), maxDefective = $("#at-most");
  const chosenSet = () => sets[Number(setSelect?.value ?? 0)];

  function paintCard() {
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
    if (set.current === null || (answered && !set.revised)) set.current = photo === null ? null : set.first + photo;
    const none = set.current === null;
    $(".question").classList.toggle("done", none);
    $("#look-name").textContent = none ? "" : images[set.current].name;
    $("#ask").textContent = t(none ? "all_answered" : "is_defective");
    look.canvas.parentElement.style.aspectRatio = 1 / set.tallest;
    if (!none) look.show(set.current, lookMap.checked);
    paintUsual(set);
    $("#progress").textContent = progress(set, enough);
    $("#use-answers").hidden = !set.manual;
    $("#use-answers").textContent = t(set.model.answered.length ? "use_answers" : "use_automatic");
    const other = set.score !== set.model.names[0];
    $("#score-choice").hidden = !other;
    $("#score-choice").textContent = other ? t("other_score", { score: texts.known(`score_${set.score}`) ?? set.score }) : "";
  }

  // a photo for comparison, at the lower quartile of the scores or above; neither the current one nor one called defective
  function paintUsual(set) {
    const scores = set.model.scores[set.score], size = set.model.setSize, figure = $("#usual");
    const ranked = [...Array(size).keys()].sort((a, b) => scores[a] - scores[b]).slice(Math.floor(size / 4), Math.ceil(size / 2));
    const index = ranked.find((i) => set.first + i !== set.current && set.model.answers.get(i) !== true);
    figure.hidden = index === undefined || set.current === null;
    if (figure.hidden) return;
    const number = set.first + index, source = photograph(number), button = $(".frame", figure);
    if (button.dataset.open === String(number)) return;
    button.dataset.open = number;
    texts.attribute(button, "aria-label", "open_photo", { name: images[number].name });
    $(".fit", figure).className = source.parentElement.className;
    $(".photo", figure).src = source.src;
  }

  function progress(set, enough) {
    const count = set.model.answered.length, so_far = t("so_far", { count });
    if (set.manual) return t("by_hand");
    if (!count) return t("provisional");
    if (!set.model.decided) return t("too_few_answers", { so_far });
    if (enough) return t("enough_answers", { so_far });
    return t(count < USUAL ? "about_eight" : "more_help_little", { so_far, usual: USUAL });
  }

  const USUAL = 8;  // answers that are enough for most sets (docs/method.md, section 5.1)

  function effect(set) {
    if (set.model.decided) return mistakesText(set.model.estimate(set.flags, set.score));
    return set.manual ? t("answer_to_learn") : texts.say(set.explanation);
  }

  // draws the histogram; returns the range of the slider
  function paintHistogram({ model, score, verdicts, threshold }) {
    const included = score === model.names[0] && model.automatic < Infinity ? [model.automatic] : [];
    const { low, high, chart, legend } = histogram({ scores: model.scores[score], verdicts, threshold, answered: model.answered, included });
    $("#histogram").replaceChildren(...chart);
    $("#legend").replaceChildren(...legend);
    return [low, high];
  }

  function answer(number, said) {
    const set = setOf(number), before = answerOf(number);
    set.undo.push({ number, before });
    set.revised = false;
    changed(...setAnswer(images[number].key, { ...before, answer: said }));
    if (viewer.open) render();
  }

  // answers for the photo of the card; if the photo is not visible, scrolls to it instead
  function answerCard(said) {
    const set = chosenSet(), stage = $("#look").getBoundingClientRect();
    if (set.current === null) return;
    if (stage.bottom < stage.height / 2 || stage.top > innerHeight - stage.height / 2) $("#threshold").scrollIntoView();
    else answer(set.current, said);
  }

  function undo() {
    const set = viewer.open ? setOf(current) : chosenSet(), last = set.undo.pop();
    if (!last) return;
    set.current = last.number;
    set.revised = last.before.answer !== null;
    changed(...setAnswer(images[last.number].key, { ...last.before, note: answerOf(last.number).note }));
    if (viewer.open) render();
  }

  if (review) {
    const setByHand = (manual) => {
      const set = chosenSet();
      set.manual = manual;
      changed(set);
    };
    for (const button of $$("[data-answer]")) button.addEventListener("click", () => answerCard(button.dataset.answer));
    $("#undo").addEventListener("click", undo);
    $("#look .canvas").addEventListener("click", () => openViewer(chosenSet().current));
    lookMap.addEventListener("change", paintCard);
    slider.addEventListener("input", () => setByHand({ score: chosenSet().score, threshold: Number(slider.value) }));
    $("#use-answers").addEventListener("click", () => setByHand(null));
    maxDefective.addEventListener("change", () => {
      const set = chosenSet();
      set.model.maxDefective = set.maxDefective = Number(maxDefective.value);
      changed(set);
    });
  }
  setSelect?.addEventListener("change", paintCard);

  // ---- the table for a spreadsheet: in the order, the language and with the decimals of the page ----

  function tableText() {
    const columns = {
      name_column: ({ name }) => name,
      verdict_column: (_, number) => t(`verdict_${verdictOf(number)}`),
      recurring_column: ({ pattern }) => texts.say(pattern),
      your_answer: (_, number) => answerOf(number).answer && t(answerOf(number).answer),
      note_field: (_, number) => answerOf(number).note,
      [rarityColumn()]: (_, number) => rarityTextOf(number),
      score: (_, number) => scoreText(scoreOf(number)),
      largest_region: ({ largest }) => largest && sizeText(largest, mmPerPixel),
      ...(sets.length > 1 && { category: (_, number) => setOf(number).category }),
      file: ({ path }) => path,
    };
    const lines = [Object.keys(columns).map((key) => t(key)),
      ...[...body.rows].map((row) => Number(row.dataset.number)).map((number) => Object.values(columns).map((of) => of(images[number], number)))];
    return csvText(lines);
  }

  $("#spreadsheet").addEventListener("click", () => save(tableText(), "text/csv", "photos.csv"));

  // ---- the large view ----

  const viewer = $("#viewer"), stage = new Stage(viewer, pictures), answerForm = $("#answer");
  const mapSwitch = $("#viewer-map"), boxSwitch = $("#viewer-boxes");
  let sequence = visible, current = 0, opened = 0;

  function openViewer(number, among = visible) {
    sequence = among.includes(number) ? among : numbers;
    current = opened = number;
    if (!viewer.open) {
      viewer.showModal();
      viewer.focus();
    }
    render();
  }

  function goTo(position) {
    if (!(position in sequence)) return;
    current = sequence[position];
    render();
  }
  const step = (by) => goTo(sequence.indexOf(current) + by);

  function render() {
    const image = images[current], position = sequence.indexOf(current), boxes = $("svg", stage.canvas);
    stage.show(current, mapSwitch.checked);
    boxes.replaceChildren();
    if (boxSwitch.checked) {
      drawBoxes(boxes, image.boxes, "found");
      drawBoxes(boxes, image.pattern_boxes, "pattern");
    }
    $("#viewer-name bdi").textContent = image.name;
    $("#position").textContent = t("of", { some: position + 1, all: sequence.length });
    $("#previous").disabled = position === 0;
    $("#next").disabled = position === sequence.length - 1;
    if (answerForm) {
      answerForm.elements.answer.value = answerOf(current).answer ?? "none";
      answerForm.elements.note.value = answerOf(current).note;
    }
    renderFacts(image);
    history.replaceState(null, "", `#image-${current}`);
  }

  function renderFacts(image) {
    const set = setOf(current), value = scoreText(scoreOf(current));
    const link = (href) => href && h("a", { href }, t("open_file"));
    const facts = {
      verdict_column: t(`verdict_${verdictOf(current)}`),
      category: sets.length > 1 ? set.category : null,
      score: set.threshold < Infinity ? t("fact_score", { score: value, threshold: scoreText(set.threshold) }) : value,
      rescored: image.rescored && scoreText(image.rescored),
      [rarityColumn()]: rarityTextOf(current),
      label: image.label === null ? null : t(word(image.label)),
      recurring_column: texts.say(image.pattern),
      largest_region: image.largest && sizeText(image.largest, mmPerPixel),
      photo: sizeText([image.width, image.height], mmPerPixel),
      file: image.path,
      heat_map: link(image.heatmap),
      mask: link(image.mask),
    };
    $("#facts").replaceChildren(...Object.entries(facts).filter(([, fact]) => fact).map(([key, fact]) =>
      h("div", {}, h("dt", {}, t(key)), h("dd", {}, fact))));
  }

  for (const box of [mapSwitch, boxSwitch]) box.addEventListener("change", render);
  $("#previous").addEventListener("click", () => step(-1));
  $("#next").addEventListener("click", () => step(1));
  $("#close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => {
    if (viewer.open) return;  // the event is late, and the view is open again
    history.replaceState(null, "", location.pathname + location.search);
    // the browser has returned the focus to the element that opened the view
    if (current === opened && document.activeElement !== document.body) return;
    const opener = $(".frame", rows.get(current));
    if (opener.offsetParent) opener.focus();
  });
  if (answerForm) {
    answerForm.addEventListener("change", (event) => {
      if (event.target.name === "answer") answer(current, event.target.value === "none" ? null : event.target.value);
    });
    answerForm.elements.note.addEventListener("input", (event) => {
      changed(...setAnswer(images[current].key, { ...answerOf(current), note: event.target.value.trim() }));
    });
  }

  // ---- keys ----

  const VIEWER_KEYS = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => goTo(0), End: () => goTo(sequence.length - 1), b: () => boxSwitch.click(),
  };
  const ANSWER_KEYS = { g: "good", d: "defective", u: "unsure" };

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.matches("textarea:not(:read-only), select, input:is([type=text], [type=search])")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const said = review && ANSWER_KEYS[key];
    let action = null;
    if (said) action = () => (viewer.open ? answer(current, said) : answerCard(said));
    else if (review && (key === "z" || key === "Backspace")) action = undo;
    else if (key === "h" || key === "m") action = () => (viewer.open ? mapSwitch : lookMap)?.click();
    else if (viewer.open) action = VIEWER_KEYS[key];
    else if (key === "/") action = () => search.focus();
    if (!action) return;
    event.preventDefault();
    action();
  });

  // ---- the review file ----

  const forms = $$("form[data-pattern]");
  // only a person's verdicts are saved; the rule decides again on the next batch
  const reviewedForms = () => forms.filter((form) => "reviewed" in form.dataset);

  function fill(form, verdict, name) {
    if (!form) return;
    form.elements.verdict.value = verdict;
    form.elements.name.value = name;
    form.dataset.reviewed = "";
    showName(form);
  }

  // the heading of a group has the name that a person has typed
  function showName(form) {
    const heading = $("h4 bdi", form.closest("article")), name = form.elements.name.value.trim();
    heading.given ??= [...heading.childNodes];
    heading.replaceChildren(...(name ? [name] : heading.given));
    const shown = $("[data-group]", form.closest("article")).dataset;
    for (const [number, row] of rows) {
      const image = images[number];
      if (image.group !== Number(shown.group) || image.set !== Number(shown.set)) continue;
      image.given ??= image.pattern;
      image.pattern = name || image.given;
      $(".recurring bdi", row).textContent = texts.say(image.pattern);
    }
  }

  const manualThresholds = () => sets.filter((set) => set.manual).map((set) => [set.category, set.manual]);
  const shares = () => sets.filter((set) => set.maxDefective < 1).map((set) => [set.category, set.maxDefective]);

  function reviewText() {
    const patterns = reviewedForms().map((form) => ({
      ...review.patterns[Number(form.dataset.pattern)],
      verdict: form.elements.verdict.value,
      name: form.elements.name.value.trim(),
    }));
    const earlier = new Map(review.photos.map((photo) => [photo.key, photo]));
    const photos = [...answers].map(([key, { answer, note }]) => {
      const [number] = numbersOf.get(key), { mark, answer: before } = earlier.get(key) ?? {};
      const photo = { key, name: images[number].name, category: setOf(number).category, answer, note };
      return mark && before === answer ? { ...photo, mark } : photo;
    });
    // answers for photos and categories of earlier batches stay in the review
    const others = review.photos.filter(({ key }) => !numbersOf.has(key)), here = new Set(sets.map((set) => set.category));
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

  function countAnswers() {
    const counts = {
      photos: [...answers.values()].filter(({ answer }) => answer).length,
      notes: [...answers.values()].filter(({ note }) => note).length,
      applied_groups: reviewedForms().length,
      applied_thresholds: manualThresholds().length,
    };
    const parts = Object.entries(counts).filter(([, count]) => count).map(([key, count]) => t(key, { count }));
    $("#answer-count").textContent = parts.length ? t("answers_so_far", { parts }) : t("no_answer_yet");
    for (const button of [$("#save-review"), $("#copy-review")]) button.disabled = !parts.length && !shares().length;
    $("#review-done").textContent = "";
    $("#review-text").hidden = true;
  }

  if (review) {
    for (const form of forms) {
      form.addEventListener("input", () => {
        form.dataset.reviewed = "";
        showName(form);
        countAnswers();
        store();
      });
      // browsers keep form values when a page is reloaded; these are not verdicts
      form.reset();
    }
    $("#save-review").addEventListener("click", () => {
      save(reviewText(), "application/json", "review.json");
      $("#review-done").textContent = t("saved_file");
    });
    $("#copy-review").addEventListener("click", () => {
      const text = $("#review-text");
      Object.assign(text, { value: reviewText(), hidden: false });
      text.select();
      return copy(text.value, $("#review-done"), "copied_text", "copy_below");
    });
    $("#copy-command").addEventListener("click", () => {
      getSelection().selectAllChildren($("#command"));
      return copy($("#command").textContent, $("#command-done"), "copied", "press_copy");
    });
    restore();
    countAnswers();
  }

  // ---- the script of codegraph app keeps the answers, and merges those of other windows ----

  let keep = () => {};  // called after each change

  function merge(list) {
    for (const { kind, key, value } of list) SETTERS[kind](key, value);
    sets.forEach(updateVerdicts);
    paintAll();
  }

  if (served && review) window.report = { USUAL, entries, merge, text: reviewText, keep: (callback) => { keep = callback; } };

  // ---- a link to one image: report.html#image-12 ----

  function follow() {
    const match = /^#image-(\d+)$/.exec(location.hash);
    if (match && Number(match[1]) < images.length) openViewer(Number(match[1]));
  }
  window.addEventListener("hashchange", follow);
  sets.forEach(updateVerdicts);
  paintCard();
  paintCounts();
  // browsers keep form values when a page is reloaded
  clickSort(sort.value);
  for (const name of ["maps", "gallery"]) document.body.classList.toggle(name, $(`#${name}`).checked);
  texts.onchange(paintAll);
  follow();
})();
