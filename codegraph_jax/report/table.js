"use strict";
// The table of photos: sorting, filtering, and the same table for a spreadsheet.
//
// page: the state of the report, see page.js.
function newTable({ images, sets, rows, review, answers, mm_per_pixel: mmPerPixel, photos }) {
  const { setOf, verdictOf, scoreOf, rarityOf, rarityTextOf, rarityColumn } = photos;
  const body = $("#table tbody"), search = $("#search"), category = $("#category"), show = $("#show"), sort = $("#sort");
  const numbers = [...rows.keys()], collator = new Intl.Collator("en", { numeric: true });
  let group = null;  // { set, number } while the table shows one group
  let descending = false, visible = numbers;  // in the order of the table

  const painted = new Map();  // displayed state by row

  function paintRow(number) {
    const verdict = verdictOf(number), { answer, note } = answers.of(number), { label, pattern, rescored, name } = images[number];
    const text = rarityTextOf(number), state = [texts.language, verdict, answer, Boolean(note), scoreOf(number), text].join();
    if (painted.get(number) === state) return;
    painted.set(number, state);
    const row = rows.get(number), write = (selector, value) => { if ($(selector, row)) $(selector, row).textContent = value; };
    row.className = verdict;
    $(".frame", row).setAttribute("aria-label", t("open_photo", { name }));
    write(".badge", t(`verdict_${verdict}`));
    write(".your-answer", review ? [answer && answerText(answer), note && t("note")].filter(Boolean).join(", ") : "");
    write(".score", scoreText(scoreOf(number)));
    write(".rescored", scoreText(rescored ?? scoreOf(number)));
    write(".rarity", text);
    write(".label", label === null ? "" : t(labelKey(label)));
    write(".recurring bdi", texts.textOf(pattern));
    for (const key of ["score", "rescored"]) $(`.${key}`, row)?.setAttribute("data-label", t(key));
  }

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
    const ascending = typeof first === "string" ? collator.compare(first, second) : first - second;
    return descending ? -ascending : ascending;
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
    answered: (number) => answers.all.has(images[number].key),
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
      ? t("some_that_share", { ...counts, group: texts.textOf(images[visible[0]].pattern) }) : t("some_photos", counts);
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

  // shows verdicts that have changed
  function paint() {
    if (["score", "verdict", "rarity"].includes(sort.value)) applySort(sort.value, descending);
    else applyFilter();
  }

  // in the order, the language and with the decimals of the page
  function spreadsheet() {
    const columns = {
      name_column: ({ name }) => name,
      verdict_column: (_, number) => t(`verdict_${verdictOf(number)}`),
      recurring_column: ({ pattern }) => texts.textOf(pattern),
      your_answer: (_, number) => answers.of(number).answer && t(answers.of(number).answer),
      note_field: (_, number) => answers.of(number).note,
      [rarityColumn()]: (_, number) => rarityTextOf(number),
      score: (_, number) => scoreText(scoreOf(number)),
      largest_region: (image) => image.largest_region && sizeText(image.largest_region, mmPerPixel),
      ...(sets.length > 1 && { category: (_, number) => setOf(number).category }),
      file: ({ path }) => path,
    };
    const lines = [...body.rows].map((row) => Number(row.dataset.number))
      .map((number) => Object.values(columns).map((valueOf) => valueOf(images[number], number)));
    return csvText([Object.keys(columns).map((key) => t(key)), ...lines]);
  }

  sort.addEventListener("change", () => clickSort(sort.value));
  for (const head of $$("th[data-sort]")) head.addEventListener("click", () => clickSort(head.dataset.sort, head.getAttribute("aria-sort")));
  search.addEventListener("input", applyFilter);
  for (const select of [show, category]) select?.addEventListener("change", applyFilter);
  $("#reset").addEventListener("click", () => filter());
  $("#spreadsheet").addEventListener("click", () => save(spreadsheet(), "text/csv", "photos.csv"));

  return {
    paint, filter, numbers,
    start: () => clickSort(sort.value),  // browsers keep form values when a page is reloaded
    focusSearch: () => search.focus(),
    get visible() { return visible; },
  };
}
