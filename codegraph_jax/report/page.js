"use strict";
(() => {
  const { images, large, review } = JSON.parse(document.getElementById("data").textContent);
  const $ = (selector, root = document) => root.querySelector(selector);
  const body = $("#table tbody");
  const rows = new Map([...body.rows].map((row) => [Number(row.dataset.number), row]));
  const numbers = [...rows.keys()];
  const collator = new Intl.Collator("en", { numeric: true });
  const search = $("#search"), category = $("#category"), show = $("#show"), sort = $("#sort");
  let community = null;   // { category, number } while the table shows one group
  let descending = false;
  let visible = numbers;  // in the order of the table

  // ---- the table: sorting and filtering ----

  // what people look for first comes first when a column is chosen
  const LARGEST_FIRST = new Set(["raw", "score", "label"]);
  const KEYS = {
    name: (image) => image.name,
    category: (image) => image.category,
    rank: (image) => image.rank,
    score: (image) => image.score,
    raw: (image) => image.raw,
    p: (image) => image.p,
    label: (image) => image.label,
    community: (image) => image.community,
  };

  function compare(key, a, b) {
    const first = KEYS[key](images[a]), second = KEYS[key](images[b]);
    // images without a value come last in either direction
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
    numbers.sort((a, b) => compare(key, a, b) || images[b].raw - images[a].raw || a - b);
    body.append(...numbers.map((number) => rows.get(number)));
    applyFilter();
  }

  const TESTS = {
    all: () => true,
    flagged: (image) => image.flagged,
    quiet: (image) => !image.flagged,
    recurring: (image) => image.community !== null,
    missed: (image) => image.label === 1 && !image.flagged,
    false: (image) => image.label === 0 && image.flagged,
  };

  function applyFilter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const test = TESTS[show.value], only = category ? category.value : "";
    visible = numbers.filter((number) => {
      const image = images[number], name = image.name.toLowerCase();
      return test(image) && (!only || image.category === only) && words.every((word) => name.includes(word)) &&
        (!community || (image.community === community.number && image.category === community.category));
    });
    const shown = new Set(visible);
    for (const [number, row] of rows) row.hidden = !shown.has(number);
    const all = visible.length === images.length;
    const what = community && visible.length ? ` that share ${images[visible[0]].shares}` : "";
    $("#count").textContent = all ? `${images.length} images` : `${visible.length} of ${images.length} images${what}`;
    $("#reset").hidden = all;
  }

  function reset() {
    search.value = "";
    show.value = "all";
    if (category) category.value = "";
    community = null;
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
  $("#maps").addEventListener("change", (event) => document.body.classList.toggle("maps", event.target.checked));
  $("#gallery").addEventListener("change", (event) => document.body.classList.toggle("gallery", event.target.checked));

  // ---- members of groups and near-duplicates: the pictures of the table once more ----

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
    // follows the order of its group, not that of the table
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      open(number, [...item.parentElement.children].map((other) => Number(other.dataset.member)));
    });
  }
  for (const item of document.querySelectorAll("li[data-member]")) member(item);

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) return open(Number(opener.dataset.open));
    const chosen = event.target.closest("[data-community]");
    if (chosen) {
      reset();
      community = { category: chosen.dataset.category, number: Number(chosen.dataset.community) };
      applyFilter();
      $("#images").scrollIntoView();
    }
    return undefined;
  });

  // dots of a graph: Tab comes to one of them, arrow keys lead on to the others, Enter and Space click
  const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  document.addEventListener("keydown", (event) => {
    const dot = event.target;
    if (!dot.matches(".graph [data-open]") || !(event.key in STEPS || ["Enter", " "].includes(event.key))) return;
    event.preventDefault();
    if (!(event.key in STEPS)) return open(Number(dot.dataset.open));
    const dots = [...dot.parentNode.querySelectorAll("[data-open]")];
    const next = dots[(dots.indexOf(dot) + STEPS[event.key] + dots.length) % dots.length];
    dot.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  // ---- the large view ----

  const viewer = $("#viewer"), canvas = $(".canvas", viewer);
  const mapSwitch = $("#viewer-map"), boxSwitch = $("#viewer-boxes");
  let order = visible, current = 0, opened = 0, missing = false;

  function open(number, among = visible) {
    order = among.includes(number) ? among : numbers;
    current = opened = number;
    if (!viewer.open) viewer.showModal();
    render();
  }

  function step(by) {
    const place = order.indexOf(current) + by;
    if (place < 0 || place >= order.length) return;
    current = order[place];
    render();
  }

  function render() {
    const image = images[current], place = order.indexOf(current);
    const photo = $(".photo", canvas), heat = $(".heat", canvas), svg = $("svg", canvas);
    // where the embedded picture is small, the heat-map file beside the report shows more
    const file = mapSwitch.checked && !large && !missing && image.heatmap;
    photo.src = file || photograph(current).src;
    photo.alt = image.name;
    heat.src = layer(current).src;
    heat.hidden = !mapSwitch.checked || Boolean(file);
    svg.replaceChildren();
    if (boxSwitch.checked) {
      drawBoxes(svg, image.boxes, "found");
      drawBoxes(svg, image.shared, "shared");
    }
    $("#viewer-name bdi").textContent = image.name;
    $("#place").textContent = `${place + 1} of ${order.length}`;
    $("#previous").disabled = place === 0;
    $("#next").disabled = place === order.length - 1;
    renderFacts(image);
    layout();
    history.replaceState(null, "", `#image-${current}`);
  }

  function renderFacts(image) {
    const facts = [
      ["verdict", image.flagged ? "flagged" : "not flagged"],
      ["category", image.category],
      ["rank", image.rank],
      ["score", image.score.toFixed(4)],
      ["raw score", image.raw.toFixed(4)],
      ["p-value", image.p < 0.001 ? image.p.toExponential(1) : image.p.toPrecision(2)],
      ["label", image.label === null ? null : image.label ? "anomalous" : "normal"],
      ["recurring", image.shares],
      ["size", `${image.width} × ${image.height}`],
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

  // the largest size of the image's own aspect that the stage holds
  function layout() {
    if (!viewer.open) return;
    const image = images[current], stage = canvas.parentElement;
    const scale = Math.min(stage.clientWidth / image.width, stage.clientHeight / image.height);
    canvas.style.width = `${Math.floor(image.width * scale)}px`;
    canvas.style.height = `${Math.floor(image.height * scale)}px`;
  }

  $(".photo", canvas).addEventListener("error", (event) => {
    // the report was moved away from its folder: what it carries itself always works
    if (missing || event.target.src.startsWith("data:")) return;
    missing = true;
    render();
  });
  new ResizeObserver(layout).observe(canvas.parentElement);
  for (const box of [mapSwitch, boxSwitch]) box.addEventListener("change", render);
  $("#previous").addEventListener("click", () => step(-1));
  $("#next").addEventListener("click", () => step(1));
  $("#close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => {
    if (viewer.open) return;  // the event comes late: it has been opened again
    history.replaceState(null, "", location.pathname + location.search);
    // the browser has given the focus back to what had opened the view
    if (current === opened && document.activeElement !== document.body) return;
    const opener = $(".frame", rows.get(current));
    if (opener.offsetParent) opener.focus();
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const actions = {
      ArrowLeft: () => step(-1),
      ArrowRight: () => step(1),
      Home: () => step(-order.indexOf(current)),
      End: () => step(order.length - 1 - order.indexOf(current)),
      m: () => mapSwitch.click(),
      b: () => boxSwitch.click(),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || viewer.open || event.target.matches("input, select, textarea")) return;
    event.preventDefault();
    search.focus();
  });

  // ---- the verdicts of a person on what recurs ----

  const forms = [...document.querySelectorAll("form.verdicts")];

  // only what a person has said: a verdict of the rule is made again, from whatever the next lot shows
  function judged() {
    return forms.filter((form) => "reviewed" in form.dataset);
  }

  function reviewText() {
    const chosen = judged().map((form) => ({
      ...review.patterns[Number(form.dataset.place)],
      verdict: form.elements.verdict.value,
      name: form.elements.name.value.trim(),
    }));
    return `${JSON.stringify({ format: review.format, features: review.features, patterns: [...review.passed, ...chosen] }, null, 2)}\n`;
  }

  function countVerdicts() {
    const count = judged().length;
    $("#verdict-count").textContent = count ? `${count} verdict${count > 1 ? "s" : ""}.` : "No verdict yet.";
    for (const button of [$("#save-review"), $("#copy-review")]) button.disabled = !count;
    $("#review-done").textContent = "";
    $("#review-text").hidden = true;
  }

  if (review) {
    for (const form of forms) {
      form.addEventListener("submit", (event) => event.preventDefault());
      form.addEventListener("input", () => {
        form.dataset.reviewed = "";
        countVerdicts();
      });
      // a browser that keeps what was typed into a form when a page is loaded again must not pass it off as a verdict
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
      try {
        await navigator.clipboard.writeText(text.value);
        $("#review-done").textContent = "Copied; paste it into a file review.json.";
      } catch {
        // a page that was opened from disk may not be allowed to
        $("#review-done").textContent = "Copy the text below into a file review.json.";
      }
    });
    countVerdicts();
  }

  // ---- a link to one image: report.html#image-12 ----

  function follow() {
    const match = /^#image-(\d+)$/.exec(location.hash);
    if (match && Number(match[1]) < images.length) open(Number(match[1]));
  }
  window.addEventListener("hashchange", follow);
  // browsers keep what was typed into a form when a page is loaded again
  applySort(sort.value, LARGEST_FIRST.has(sort.value));
  document.body.classList.toggle("maps", $("#maps").checked);
  document.body.classList.toggle("gallery", $("#gallery").checked);
  follow();
})();
