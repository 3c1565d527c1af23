"use strict";
(() => {
  const { images, sets, large, review, words, limits, mm_per_pixel: mmPerPixel } = JSON.parse(document.getElementById("data").textContent);
  const $ = (selector, root = document) => root.querySelector(selector);
  const served = Boolean($("meta[name=codegraph-run]"));  // by codegraph app, which keeps the answers
  const body = $("#table tbody");
  const rows = new Map([...body.rows].map((row) => [Number(row.dataset.number), row]));
  const numbers = [...rows.keys()];
  const collator = new Intl.Collator("en", { numeric: true });
  const search = $("#search"), category = $("#category"), show = $("#show"), sort = $("#sort");
  let group = null;   // { set, number } while the table shows one group
  let descending = false;
  let visible = numbers;  // in the order of the table

  const setOf = (number) => sets[images[number].set];
  const placeOf = (number) => number - setOf(number).first;
  const verdictOf = (number) => setOf(number).verdicts[placeOf(number)];
  const scoreOf = (number) => setOf(number).model.scores[setOf(number).score][placeOf(number)];

  // ---- answers, by the digest of the photo; shared by the card and the large view ----

  const answers = new Map();  // { answer, note } by key
  const answerOf = (number) => answers.get(images[number].key) ?? { answer: null, note: "" };
  const numbersOf = new Map();
  images.forEach(({ key }, number) => numbersOf.set(key, [...(numbersOf.get(key) ?? []), number]));

  // sets the answer of all identical photos; returns their sets
  function setAnswer(key, answer) {
    if (answer.answer || answer.note) answers.set(key, answer);
    else answers.delete(key);
    const numbers = numbersOf.get(key) ?? [];
    for (const number of numbers) {
      const { model } = setOf(number);
      if (answer.answer) model.label(placeOf(number), answer.answer === "unsure" ? null : answer.answer === "defective");
      else model.unlabel(placeOf(number));
    }
    return new Set(numbers.map(setOf));
  }

  // browsers may not store anything for a page that was opened from disk
  function stored(name) {
    try {
      return JSON.parse(localStorage.getItem(name)) ?? {};
    } catch {
      return {};
    }
  }

  function store() {
    const thresholds = Object.fromEntries(sets.filter((set) => set.decision).map((set) => [set.category, set.decision]));
    const atMost = Object.fromEntries(sets.filter((set) => set.atMost < 1).map((set) => [set.category, set.atMost]));
    const groups = reviewedForms().map((form) => [form.dataset.place, form.elements.verdict.value, form.elements.name.value]);
    if (served) return kept();
    try {
      localStorage.setItem(review.store.photos, JSON.stringify({ answers: [...answers], atMost }));
      localStorage.setItem(review.store.rest, JSON.stringify({ thresholds, groups }));
    } catch {
      // without storage, answers are lost when the page is closed
    }
  }

  function restore() {
    const photos = served ? {} : stored(review.store.photos), rest = served ? {} : stored(review.store.rest);
    const given = review.photos.map(({ key, answer, note }) => [key, { answer, note }]);
    for (const set of sets) for (const photo of [...set.model.labels.keys()]) set.model.unlabel(photo);
    for (const [key, answer] of photos.answers ?? given) if (numbersOf.has(key)) setAnswer(key, answer);
    for (const set of sets) {
      set.decision = rest.thresholds ? rest.thresholds[set.category] ?? null : set.given;
      if (set.decision && !(set.decision.score in set.model.scores)) set.decision = null;
      set.atMost = photos.atMost ? photos.atMost[set.category] ?? 1 : set.state.at_most;
      set.model.atMost = set.atMost;
    }
    for (const [place, verdict, name] of rest.groups ?? []) {
      const form = forms.find((other) => other.dataset.place === place);
      if (!form) continue;
      form.elements.verdict.value = verdict;
      form.elements.name.value = name;
      form.dataset.reviewed = "";
    }
  }

  // how unusual a photo is: its p-value or, with enough answers, its probability of a defect
  function rarityOf(number) {
    const set = setOf(number), place = placeOf(number), label = set.model.labels.get(place);
    if (!set.likely) return { text: images[number].rarity, value: set.p_values[place] };
    if (typeof label === "boolean") return { text: label ? "you: defective" : "you: good", value: 1 - Number(label) };
    const marked = set.now[place] && scoreOf(number) < set.threshold;
    if (marked) return { text: "flagged by its mark", value: 0 };
    return { text: `defective: ${percent(set.likely[place])}`, value: 1 - set.likely[place] };
  }

  function percent(share) {
    const rounded = Math.round(100 * share);
    return rounded < 1 ? "less than 1 %" : rounded > 99 ? "more than 99 %" : `${rounded} %`;
  }

  // ---- verdicts: those of the run until there is an answer ----

  for (const set of sets) {
    const model = new ActiveCalibrator(set.state), expected = model.flagged(set.score, set.threshold ?? Infinity);
    // marks of earlier answers decide on some photos, whatever their score
    const fixed = set.flagged.map((flag, i) => (flag === expected[i] ? null : flag));
    const photos = images.slice(set.first, set.first + set.flagged.length);
    const tallest = photos.reduce((most, { width, height }) => Math.max(most, height / width), 0.1);
    Object.assign(set, { model, fixed, tallest, decision: null, atMost: 1, undo: [], current: null });
  }

  function updateVerdicts(set) {
    const { model, decision } = set, answered = model.answered.length > 0;
    set.score = decision?.score ?? model.chosen;
    set.threshold = decision?.threshold ?? model.threshold;
    const found = decision || answered ? model.flagged(set.score, set.threshold) : set.flagged;
    set.now = found.map((flag, i) => (typeof model.labels.get(i) === "boolean" ? flag : set.fixed[i] ?? flag));
    set.likely = model.decided ? model.defective(set.score) : null;
    set.verdicts = ActiveCalibrator.verdicts({
      flagged: set.now, scores: model.scores[set.score], p_values: set.p_values, enough: set.enough,
      good: set.now.map((_, i) => model.labels.get(i) === false), defective: set.likely,
    }, limits);
  }

  const painted = new Map();  // displayed state by row

  function paintRow(number) {
    const verdict = verdictOf(number), answer = review ? answerOf(number) : {}, score = scoreOf(number).toFixed(4);
    const { text } = rarityOf(number), state = `${verdict} ${answer.answer} ${Boolean(answer.note)} ${score} ${text}`;
    if (painted.get(number) === state) return;
    painted.set(number, state);
    const row = rows.get(number);
    row.className = verdict;
    $(".badge", row).textContent = words.verdicts[verdict];
    $(".own", row).textContent = [answer.answer && `you: ${answer.answer}`, answer.note && "note"].filter(Boolean).join(", ");
    $("[data-label=score]", row).textContent = score;
    $("[data-label=rarity]", row).textContent = text;
  }

  function paintCounts() {
    const all = sets.flatMap((set) => set.verdicts);
    for (const cell of document.querySelectorAll("[data-count]")) {
      cell.textContent = all.filter((verdict) => verdict === cell.dataset.count).length;
    }
    const flagged = all.filter((verdict) => verdict === "flagged").length;
    $("#flagged").textContent = flagged;
    document.title = `${flagged} of ${images.length} photos flagged`;
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

  // ---- the table: sorting and filtering ----

  // columns that are sorted in descending order first
  const LARGEST_FIRST = new Set(["score", "rescored", "label"]);
  const KEYS = {
    name: (number) => images[number].name,
    category: (number) => setOf(number).category,
    verdict: (number) => Object.keys(words.verdicts).indexOf(verdictOf(number)),
    score: scoreOf,
    rescored: (number) => images[number].rescored,
    rarity: (number) => rarityOf(number).value,
    label: (number) => images[number].label,
    group: (number) => images[number].group,
  };

  function compare(first, second) {
    // photos without a value come last in either direction
    if (first === null || second === null) return (first === null) - (second === null);
    const order = typeof first === "string" ? collator.compare(first, second) : first - second;
    return descending ? -order : order;
  }

  function applySort(key, down) {
    descending = down;
    sort.value = key;
    for (const head of document.querySelectorAll("th[data-sort]")) {
      if (head.dataset.sort === key) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    const values = images.map((_, number) => KEYS[key](number)), scores = images.map((_, number) => scoreOf(number));
    numbers.sort((a, b) => compare(values[a], values[b]) || scores[b] - scores[a] || a - b);
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
    const typed = search.value.toLowerCase().split(/\s+/).filter(Boolean), only = category ? category.value : "";
    const test = TESTS[show.value] ?? ((number) => verdictOf(number) === show.value);
    visible = numbers.filter((number) => {
      const image = images[number], name = image.name.toLowerCase();
      return test(number) && (only === "" || image.set === Number(only)) && typed.every((word) => name.includes(word)) &&
        (!group || (image.group === group.number && image.set === group.set));
    });
    showRows(limit);
    const all = visible.length === images.length;
    const what = group && visible.length ? ` that share ${images[visible[0]].shares}` : "";
    $("#count").textContent = all ? `${images.length} photos` : `${visible.length} of ${images.length} photos${what}`;
    $("#reset").hidden = all;
    $("#one-by-one").hidden = !visible.length;
  }

  // only the first rows are in the document, since the layout of thousands of rows is slow
  const ROWS = 60, more = $("#more");
  let limit = ROWS, inTable = "";

  function showRows(count) {
    limit = count;
    const shown = visible.slice(0, limit);
    shown.forEach(paintRow);
    if (shown.join() !== inTable) body.replaceChildren(...shown.map((number) => rows.get(number)));
    inTable = shown.join();
    more.hidden = limit >= visible.length;
  }

  more.addEventListener("click", () => showRows(limit + ROWS));
  new IntersectionObserver(([entry]) => entry.isIntersecting && more.click(), { rootMargin: "1000px" }).observe(more);
  window.addEventListener("beforeprint", () => showRows(Infinity));

  function reset() {
    search.value = "";
    show.value = "all";
    if (category) category.value = "";
    group = null;
    applyFilter();
  }

  sort.addEventListener("change", () => applySort(sort.value, LARGEST_FIRST.has(sort.value)));
  for (const head of document.querySelectorAll("th[data-sort]")) {
    const key = head.dataset.sort;
    head.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      applySort(key, now ? now === "ascending" : LARGEST_FIRST.has(key));
    });
  }
  search.addEventListener("input", applyFilter);
  for (const select of [show, category]) if (select) select.addEventListener("change", applyFilter);
  $("form.tools").addEventListener("submit", (event) => event.preventDefault());
  $("#reset").addEventListener("click", reset);
  $("#one-by-one").addEventListener("click", () => openViewer(visible[0]));
  for (const tile of document.querySelectorAll("button[data-count]")) {
    tile.addEventListener("click", () => {
      reset();
      show.value = tile.dataset.count;
      applyFilter();
      $("#images").scrollIntoView();
    });
  }
  $("#maps").addEventListener("change", (event) => document.body.classList.toggle("maps", event.target.checked));
  $("#gallery").addEventListener("change", (event) => document.body.classList.toggle("gallery", event.target.checked));

  // ---- members of groups and near-duplicates, with the pictures of the table ----

  const photograph = (number) => $(".photo", rows.get(number));
  const layer = (number) => $(".heat", rows.get(number));

  function drawBoxes(svg, boxes, kind) {
    for (const [left, top, right, bottom] of boxes) {
      for (const part of ["outline", kind]) {
        const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        box.setAttribute("class", part);
        const edges = { x: left, y: top, width: right - left, height: bottom - top };
        for (const [name, value] of Object.entries(edges)) box.setAttribute(name, value);
        svg.append(box);
      }
    }
  }

  function member(item) {
    const number = Number(item.dataset.member), image = images[number], source = photograph(number);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "frame";
    button.dataset.open = number;
    button.setAttribute("aria-label", `Open ${image.name}`);
    const fit = document.createElement("span");
    fit.className = source.parentElement.className;
    const picture = source.cloneNode();
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 1 1");
    svg.setAttribute("preserveAspectRatio", "none");
    drawBoxes(svg, image.shared, "shared");
    fit.append(picture, svg);
    button.append(fit);
    const name = document.createElement("bdi");
    name.textContent = image.name;
    item.append(button, name);
    // the large view steps through the group instead of the table
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      openViewer(number, [...item.parentElement.children].map((other) => Number(other.dataset.member)));
    });
  }
  for (const item of document.querySelectorAll("li[data-member]")) member(item);

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) return openViewer(Number(opener.dataset.open));
    const chosen = event.target.closest("[data-group]");
    if (chosen) {
      reset();
      group = { set: Number(chosen.dataset.set), number: Number(chosen.dataset.group) };
      applyFilter();
      $("#images").scrollIntoView();
    }
    return undefined;
  });

  // dots of a graph: Tab focuses one of them, arrow keys move the focus, Enter and Space open the photo
  const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  document.addEventListener("keydown", (event) => {
    const dot = event.target;
    if (!dot.matches(".graph [data-open]") || !(event.key in STEPS || ["Enter", " "].includes(event.key))) return;
    event.preventDefault();
    if (!(event.key in STEPS)) return openViewer(Number(dot.dataset.open));
    const dots = [...dot.parentNode.querySelectorAll("[data-open]")];
    const next = dots[(dots.indexOf(dot) + STEPS[event.key] + dots.length) % dots.length];
    dot.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  // ---- the picture of the card and of the large view, as large as possible ----

  let missing = false;  // the report was moved without its folder; only embedded pictures can be displayed

  class Stage {
    constructor(root) {
      this.canvas = $(".canvas", root);
      this.number = null;
      $(".photo", root).addEventListener("error", (event) => {
        if (missing || event.target.src.startsWith("data:")) return;
        missing = true;
        this.show(this.number, this.map);
      });
      new ResizeObserver(() => this.layout()).observe(this.canvas.parentElement);
    }

    show(number, map) {
      Object.assign(this, { number, map });
      const photo = $(".photo", this.canvas), heat = $(".heat", this.canvas);
      // if the embedded picture is small, the heat-map file beside the report has more detail
      const file = map && !large && !missing && images[number].heatmap;
      photo.src = file || photograph(number).src;
      photo.alt = images[number].name;
      heat.src = layer(number).src;
      heat.hidden = !map || Boolean(file);
      this.layout();
    }

    // fits the photo into the stage
    layout() {
      const stage = this.canvas.parentElement;
      if (this.number === null || !stage.clientWidth) return;
      const { width, height } = images[this.number];
      const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height);
      this.canvas.style.width = `${Math.floor(width * scale)}px`;
      this.canvas.style.height = `${Math.floor(height * scale)}px`;
    }
  }

  // ---- the card: the photo to answer for, the histogram, and the threshold slider ----

  const look = review && new Stage($("#look")), lookMap = $("#look-map"), slider = $("#slider");
  const setSelect = $("#set"), atMost = $("#at-most");
  const chosenSet = () => sets[setSelect ? Number(setSelect.value) : 0];

  function paintCard() {
    const set = chosenSet();
    const [low, high] = paintHistogram(set);
    $("#effect").textContent = effect(set);
    if (!review) return;
    Object.assign(slider, { min: low, max: high });
    slider.value = Math.min(set.threshold, high);
    atMost.value = set.atMost;
    $("#undo").disabled = !set.undo.length;
    const { photo, enough } = set.model.suggest(), labelled = set.current !== null && set.model.labels.has(placeOf(set.current));
    if (set.current === null || (labelled && !set.revised)) set.current = photo === null ? null : set.first + photo;
    $(".question").classList.toggle("done", set.current === null);
    $("#look-name").textContent = set.current === null ? "" : images[set.current].name;
    $("#ask").textContent = set.current === null ? "You have answered for every photo." : "Is this part defective?";
    look.canvas.parentElement.style.aspectRatio = 1 / set.tallest;
    if (set.current !== null) look.show(set.current, lookMap.checked);
    paintUsual(set);
    $("#progress").textContent = progress(set, enough);
    const hand = $("#use-answers");
    hand.hidden = !set.decision;
    hand.textContent = set.model.answered.length ? "use my answers again" : "back to the automatic threshold";
    const other = set.score !== set.model.names[0];
    $("#score-choice").hidden = !other;
    $("#score-choice").textContent = other
      ? `By your answers, another way to score finds the defects better: ${words.scores[set.score] ?? set.score}. The photos are ranked by it.` : "";
  }

  // a photo for comparison, at the lower quartile of the scores or above; neither the current one nor one called defective
  function paintUsual(set) {
    const scores = set.model.scores[set.score], own = set.model.setSize, figure = $("#usual");
    const ranked = [...Array(own).keys()].sort((a, b) => scores[a] - scores[b]).slice(0, Math.ceil(own / 2));
    const place = ranked.slice(Math.floor(own / 4)).find((i) => set.first + i !== set.current && set.model.labels.get(i) !== true);
    figure.hidden = place === undefined || set.current === null;
    if (figure.hidden) return;
    const number = set.first + place, source = photograph(number), button = $(".frame", figure);
    if (button.dataset.open === String(number)) return;
    button.dataset.open = number;
    button.setAttribute("aria-label", `Open ${images[number].name}`);
    $(".fit", figure).className = source.parentElement.className;
    $(".photo", figure).src = source.src;
  }

  function progress(set, enough) {
    const count = set.model.answered.length;
    if (set.decision) return "You set the threshold by hand:";
    if (!count) return "These verdicts are provisional. Answer about eight photos to set a reliable threshold; the report picks those whose answers help most.";
    const soFar = count === 1 ? "1 answer so far" : `${count} answers so far`;
    if (!set.model.decided) return `${soFar}; they apply to their own photos. The threshold changes from the third answer on.`;
    if (enough) return `${soFar}: enough. More would change little.`;
    return count < USUAL ? `${soFar}; about ${USUAL} are enough for most sets.` : `${soFar}, enough for most sets; more make the threshold a little more certain.`;
  }

  function effect(set) {
    if (!set.model.decided) {
      return set.decision ? "Answer for a few photos to learn how often this threshold is wrong." : set.explanation;
    }
    const { falseAlarms, misses } = set.model.estimate(set.now, set.score);
    const phrase = ({ expected, high, total }, kind, wrong) => {
      const number = Math.round(expected), all = Math.max(Math.round(total), number), most = Math.max(high, number);
      if (!all) return `probably no part is ${kind}`;
      const parts = `${all} ${kind} part${all === 1 ? "" : "s"}`;
      if (!most) return `none of ${parts} is ${wrong}`;
      return `${number ? `about ${number}` : "probably none"} of ${parts} ${wrong} (at most ${most})`;
    };
    const text = `${phrase(falseAlarms, "good", "flagged by mistake")}, ${phrase(misses, "defective", "missed")}.`;
    const sure = text.includes("(at most") ? " “At most” holds about 9 times in 10." : "";
    return text[0].toUpperCase() + text.slice(1) + sure;
  }

  const WIDTH = 640, HEIGHT = 190, MOST_BINS = 48;
  const USUAL = 8;  // answers that are enough for most sets (docs/method.md, section 5.1)

  // draws the scores by verdict, the threshold and the answers; returns the range of the slider
  function paintHistogram(set) {
    const scores = set.model.scores[set.score], first = set.score === set.model.names[0];
    const ends = first && set.model.automatic < Infinity ? [...scores, set.model.automatic] : scores;
    let low = ends.reduce((a, b) => Math.min(a, b)), high = ends.reduce((a, b) => Math.max(a, b));
    const margin = 0.03 * (high - low) || 0.01;
    [low, high] = [low - margin, high + margin];
    const bins = Math.round(Math.min(Math.max(3 * Math.sqrt(scores.length), 12), MOST_BINS)), width = WIDTH / bins;
    const kinds = ["passed", "undecided", "look", "flagged"];
    const counts = Array.from({ length: bins }, () => [0, 0, 0, 0]);
    scores.forEach((score, i) => {
      const bin = Math.min(Math.floor((score - low) / (high - low) * bins), bins - 1);
      counts[bin][kinds.indexOf(set.verdicts[i])] += 1;
    });
    const most = counts.reduce((top, bin) => Math.max(top, sum(bin)), 0);
    const x = (score) => Math.min(Math.max((score - low) / (high - low), 0), 1) * WIDTH;
    // innerHTML is safe here: the parts are numbers and fixed words
    const parts = [];
    for (const count of ticks(0, most, 4)) if (count % 1 === 0) {
      const y = HEIGHT * (1 - count / most);
      parts.push(`<line class="grid" x1="0" x2="${WIDTH}" y1="${y}" y2="${y}"/><text class="tick" x="-8" y="${y + 4}" text-anchor="end">${count}</text>`);
    }
    for (const value of ticks(low, high, 6)) {
      parts.push(`<text class="tick" x="${x(value)}" y="${HEIGHT + 32}" text-anchor="middle">${Number(value.toPrecision(6))}</text>`);
    }
    counts.forEach((bin, k) => {
      let y = HEIGHT;
      const bars = bin.map((count, kind) => {
        if (!count) return "";
        const height = Math.max(count / most * HEIGHT, 2);  // one photo among thousands stays visible
        y -= height;
        return `<rect class="${kinds[kind]}" x="${k * width}" y="${y}" width="${width}" height="${height}"/>`;
      });
      const edges = [k, k + 1].map((edge) => (low + edge / bins * (high - low)).toFixed(3));
      const text = kinds.map((kind, i) => bin[i] && `${bin[i]} ${words.verdicts[kind]}`).filter(Boolean).join(", ");
      if (y < HEIGHT) parts.push(`<g><title>${edges.join(" to ")}: ${text}</title>${bars.join("")}</g>`);
    });
    parts.push(`<line class="axis" x1="0" x2="${WIDTH}" y1="${HEIGHT}" y2="${HEIGHT}"/>`);
    parts.push(`<text class="tick" x="-36" y="-14">photos</text><text class="tick" x="${WIDTH}" y="${HEIGHT + 48}" text-anchor="end">score</text>`);
    for (const [photo, label] of set.model.answered) {
      parts.push(`<circle class="${label ? "bad" : "good"}" cx="${x(scores[photo])}" cy="${HEIGHT + 9}" r="5"><title>you: ${label ? "defective" : "good"}</title></circle>`);
    }
    if (set.threshold < Infinity) {
      const at = x(set.threshold), anchor = at > WIDTH * 0.8 ? "end" : at < WIDTH * 0.1 ? "start" : "middle";
      parts.push(`<line class="threshold" x1="${at}" x2="${at}" y1="-8" y2="${HEIGHT}"/>`);
      parts.push(`<text class="threshold-text" x="${at}" y="-14" text-anchor="${anchor}">threshold ${set.threshold.toFixed(4)}</text>`);
    }
    $("#histogram").innerHTML = parts.join("");
    const legend = [...kinds].reverse().map((kind) => [kind, set.verdicts.filter((verdict) => verdict === kind).length]);
    $("#legend").replaceChildren(...legend.filter(([, count]) => count).map(([kind, count]) => {
      const item = document.createElement("span");
      item.className = kind;
      item.textContent = `${count} ${kind === "look" ? "to look at" : words.verdicts[kind]}`;
      return item;
    }));
    for (const kind of new Set(set.model.answered.map(([, label]) => (label ? "defective" : "good")))) {
      const item = document.createElement("span");
      item.className = `answer ${kind}`;
      item.textContent = `you: ${kind}`;
      $("#legend").append(item);
    }
    return [low, high];
  }

  // round numbers in a range, about `most` of them: multiples of 1, 2 or 5 times a power of ten
  function ticks(low, high, most) {
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k <= Math.floor(high / step + 1e-9); k++) found.push(k * step);
    return found;
  }

  function answer(number, word) {
    const set = setOf(number), before = answerOf(number);
    set.undo.push({ number, before });
    set.revised = false;
    changed(...setAnswer(images[number].key, { ...before, answer: word }));
    if (viewer.open) render();
  }

  // answers for the photo of the card; if the photo is not visible, scrolls to it instead
  function answerCard(word) {
    const set = chosenSet(), stage = $("#look").getBoundingClientRect();
    if (set.current === null) return;
    if (stage.bottom < stage.height / 2 || stage.top > innerHeight - stage.height / 2) $("#threshold").scrollIntoView();
    else answer(set.current, word);
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
    for (const button of document.querySelectorAll("[data-answer]")) {
      button.addEventListener("click", () => answerCard(button.dataset.answer));
    }
    $("#undo").addEventListener("click", undo);
    lookMap.addEventListener("change", paintCard);
    slider.addEventListener("input", () => {
      const set = chosenSet();
      set.decision = { score: set.score, threshold: Number(slider.value) };
      changed(set);
    });
    $("#use-answers").addEventListener("click", () => {
      const set = chosenSet();
      set.decision = null;
      changed(set);
    });
    atMost.addEventListener("change", () => {
      const set = chosenSet();
      set.atMost = Number(atMost.value);
      set.model.atMost = set.atMost;
      changed(set);
    });
  }
  if (setSelect) setSelect.addEventListener("change", paintCard);

  // ---- the large view ----

  const viewer = $("#viewer"), stage = new Stage(viewer), canvas = stage.canvas, answerForm = $("#answer");
  const mapSwitch = $("#viewer-map"), boxSwitch = $("#viewer-boxes");
  let order = visible, current = 0, opened = 0;

  function openViewer(number, among = visible) {
    order = among.includes(number) ? among : numbers;
    current = opened = number;
    if (!viewer.open) {
      viewer.showModal();
      viewer.focus();
    }
    render();
  }

  function step(by) {
    const place = order.indexOf(current) + by;
    if (place < 0 || place >= order.length) return;
    current = order[place];
    render();
  }

  function render() {
    const image = images[current], place = order.indexOf(current), svg = $("svg", canvas);
    stage.show(current, mapSwitch.checked);
    svg.replaceChildren();
    if (boxSwitch.checked) {
      drawBoxes(svg, image.boxes, "found");
      drawBoxes(svg, image.shared, "shared");
    }
    $("#viewer-name bdi").textContent = image.name;
    $("#place").textContent = `${place + 1} of ${order.length}`;
    $("#previous").disabled = place === 0;
    $("#next").disabled = place === order.length - 1;
    if (answerForm) {
      answerForm.elements.answer.value = answerOf(current).answer ?? "none";
      answerForm.elements.note.value = answerOf(current).note;
    }
    renderFacts(image);
    stage.layout();
    history.replaceState(null, "", `#image-${current}`);
  }

  function sizeOf(sides) {
    const inMm = (side) => Number((side * mmPerPixel).toPrecision(3));
    const mm = mmPerPixel ? ` (${sides.map(inMm).join(" × ")} mm)` : "";
    return `${sides.join(" × ")} px${mm}`;
  }

  function renderFacts(image) {
    const set = setOf(current), threshold = set.threshold < Infinity ? ` (threshold ${set.threshold.toFixed(4)})` : "";
    const facts = [
      ["verdict", words.verdicts[verdictOf(current)]],
      ["category", sets.length > 1 ? set.category : null],
      ["score", `${scoreOf(current).toFixed(4)}${threshold}`],
      ["re-scored", image.rescored === null ? null : image.rescored.toFixed(4)],
      ["how unusual", rarityOf(current).text],
      ["label", image.label === null ? null : image.label ? "defective" : "good"],
      ["recurring", image.shares],
      ["largest region", image.largest && sizeOf(image.largest)],
      ["photo", `${image.width} × ${image.height} px`],
      ["file", image.path],
    ];
    const list = $("#facts");
    list.replaceChildren();
    for (const [term, value] of facts.filter(([, value]) => value !== null)) list.append(fact(term, String(value)));
    for (const [term, href] of [["heat map", image.heatmap], ["mask", image.mask]]) {
      if (!href) continue;
      const link = document.createElement("a");
      link.href = href;
      link.textContent = "open file";
      list.append(fact(term, link));
    }
  }

  function fact(term, value) {
    const pair = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = term;
    dd.append(value);
    pair.append(dt, dd);
    return pair;
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
    answerForm.addEventListener("submit", (event) => event.preventDefault());
    answerForm.addEventListener("change", (event) => {
      if (event.target.name === "answer") answer(current, event.target.value === "none" ? null : event.target.value);
    });
    answerForm.elements.note.addEventListener("input", (event) => {
      changed(...setAnswer(images[current].key, { ...answerOf(current), note: event.target.value.trim() }));
    });
  }

  // ---- keys ----

  const VIEWER_KEYS = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    Home: () => step(-order.indexOf(current)),
    End: () => step(order.length - 1 - order.indexOf(current)),
    b: () => boxSwitch.click(),
  };
  const ANSWER_KEYS = { g: "good", d: "defective", u: "unsure" };

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.matches("textarea:not(:read-only), select, input:is([type=text], [type=search])")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const word = review && ANSWER_KEYS[key];
    let action = null;
    if (word) action = () => (viewer.open ? answer(current, word) : answerCard(word));
    else if (review && (key === "z" || key === "Backspace")) action = undo;
    else if (key === "h" || key === "m") action = () => (viewer.open ? mapSwitch : lookMap)?.click();
    else if (viewer.open) action = VIEWER_KEYS[event.key] ?? VIEWER_KEYS[key];
    else if (key === "/") action = () => search.focus();
    if (!action) return;
    event.preventDefault();
    action();
  });

  // ---- the review file ----

  const forms = [...document.querySelectorAll("form.verdicts[data-place]")];

  // only a person's verdicts are saved; the rule decides again on the next batch
  function reviewedForms() {
    return forms.filter((form) => "reviewed" in form.dataset);
  }

  function reviewText() {
    const chosen = reviewedForms().map((form) => ({
      ...review.patterns[Number(form.dataset.place)],
      verdict: form.elements.verdict.value,
      name: form.elements.name.value.trim(),
    }));
    const given = new Map(review.photos.map((photo) => [photo.key, photo]));
    const photos = [...answers].map(([key, { answer, note }]) => {
      const [number] = numbersOf.get(key), { mark, answer: before } = given.get(key) ?? {};
      const photo = { key, name: images[number].name, category: setOf(number).category, answer, note };
      return mark && before === answer ? { ...photo, mark } : photo;
    });
    // answers for photos of earlier batches stay in the review
    const others = review.photos.filter(({ key }) => !numbersOf.has(key));
    const own = new Set(sets.map((set) => set.category));
    const merged = (given, ours) => Object.fromEntries([...Object.entries(given).filter(([name]) => !own.has(name)), ...ours]);
    const value = {
      format: review.format,
      feature_identity: review.feature_identity,
      patterns: [...review.other_patterns, ...chosen],
      photos: [...others, ...photos],
      thresholds: merged(review.thresholds, sets.filter((set) => set.decision).map((set) => [set.category, set.decision])),
      at_most: merged(review.at_most, sets.filter((set) => set.atMost < 1).map((set) => [set.category, set.atMost])),
    };
    return `${JSON.stringify(value, null, 2)}\n`;
  }

  function countAnswers() {
    const answered = [...answers.values()].filter(({ answer }) => answer).length;
    const notes = [...answers.values()].filter(({ note }) => note).length;
    const hand = sets.filter((set) => set.decision).length, shares = sets.filter((set) => set.atMost < 1).length;
    const counted = (count, what) => (count ? `${count} ${what}${count > 1 ? "s" : ""}` : "");
    const parts = [
      counted(answered, "photo"), counted(notes, "note"), counted(reviewedForms().length, "group"),
      counted(hand, "threshold set by hand").replace("threshold set by hands", "thresholds set by hand"),
    ].filter(Boolean);
    $("#answer-count").textContent = parts.length ? `So far: ${parts.join(", ")}.` : "No answer yet.";
    for (const button of [$("#save-review"), $("#copy-review")]) button.disabled = !parts.length && !shares;
    $("#review-done").textContent = "";
    $("#review-text").hidden = true;
  }

  async function copy(text, done, otherwise) {
    try {
      await navigator.clipboard.writeText(text);
      return done;
    } catch {
      // browsers may forbid this for a page that was opened from disk
      return otherwise;
    }
  }

  if (review) {
    for (const form of forms) {
      form.addEventListener("submit", (event) => event.preventDefault());
      form.addEventListener("input", () => {
        form.dataset.reviewed = "";
        countAnswers();
        store();
      });
      // browsers keep form values when a page is reloaded; these are not verdicts
      form.reset();
    }
    $("#save-review").addEventListener("click", () => {
      const link = document.createElement("a"), url = URL.createObjectURL(new Blob([reviewText()], { type: "application/json" }));
      link.href = url;
      link.download = "review.json";
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
      $("#review-done").textContent = "Saved.";
    });
    $("#copy-review").addEventListener("click", async () => {
      const text = $("#review-text");
      text.value = reviewText();
      text.hidden = false;
      text.select();
      $("#review-done").textContent = await copy(
        text.value, "Copied; paste it into a file review.json.", "Copy the text below into a file review.json.");
    });
    $("#copy-command").addEventListener("click", async () => {
      const command = $("#command");
      getSelection().selectAllChildren(command);
      $("#command-done").textContent = await copy(command.textContent, "Copied.", "Press Ctrl+C to copy it.");
    });
    restore();
    countAnswers();
  }

  // ---- the script of codegraph app keeps the answers, and merges those of other windows ----

  let kept = () => {};  // called after each change

  // all answers: values by kind and key
  function entries() {
    const groups = reviewedForms().map((form) => [
      `${review.store.rest} ${form.dataset.place}`, { verdict: form.elements.verdict.value, name: form.elements.name.value }]);
    return {
      photo: Object.fromEntries(answers),
      group: Object.fromEntries(groups),
      decision: Object.fromEntries(sets.map((set) => [set.category, set.decision])),
      share: Object.fromEntries(sets.map((set) => [set.category, set.atMost])),
    };
  }

  function merge(list) {
    for (const { kind, key, value } of list) {
      const set = sets.find((other) => other.category === key);
      const form = forms.find((other) => `${review.store.rest} ${other.dataset.place}` === key);
      if (kind === "photo" && numbersOf.has(key)) setAnswer(key, value ?? { answer: null, note: "" });
      if (kind === "decision" && set) set.decision = value && value.score in set.model.scores ? value : null;
      if (kind === "share" && set) set.model.atMost = set.atMost = value;
      if (kind === "group" && form) {
        form.elements.verdict.value = value.verdict;
        form.elements.name.value = value.name;
        form.dataset.reviewed = "";
      }
    }
    sets.forEach(updateVerdicts);
    paintCard();
    paintCounts();
    paintTable();
    countAnswers();
    if (viewer.open) render();
  }

  if (served && review) window.report = { entries, merge, text: reviewText, keep: (callback) => { kept = callback; } };

  // ---- a link to one image: report.html#image-12 ----

  function follow() {
    const match = /^#image-(\d+)$/.exec(location.hash);
    if (match && Number(match[1]) < images.length) openViewer(Number(match[1]));
  }
  window.addEventListener("hashchange", follow);
  for (const set of sets) updateVerdicts(set);
  paintCard();
  paintCounts();
  // browsers keep form values when a page is reloaded
  applySort(sort.value, LARGEST_FIRST.has(sort.value));
  document.body.classList.toggle("maps", $("#maps").checked);
  document.body.classList.toggle("gallery", $("#gallery").checked);
  follow();
})();
