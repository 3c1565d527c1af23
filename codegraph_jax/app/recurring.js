// Recurring defects and variants over time.

const RECENT_RUNS = 12, CHART_WIDTH = 320, CHART_HEIGHT = 70;

// groups that recur in several runs, by their names: a chart of each name, and a table with links
function recurringSection(runs, addressOf) {
  const named = new Map(), columns = runs.filter((run) => run.groups?.some((group) => group.name)).sort((a, b) => a.begun - b.begun).slice(-RECENT_RUNS);
  for (const run of columns) for (const { name, photos, verdict } of run.groups) {
    if (!name) continue;
    const row = named.get(name) ?? { name, cells: new Map() };
    row.cells.set(run, (row.cells.get(run) ?? 0) + photos);
    named.set(name, Object.assign(row, { verdict }));
  }
  if (!named.size) return null;
  const rows = [...named.values()], most = Math.max(...rows.flatMap(({ cells }) => [...cells].map(([run, count]) => count / run.photos)), 0.01);
  return h("section", { id: "recurs" }, h("h2", {}, t("recurring")), h("p", { className: "facts" }, t("recurring_about")),
    h("div", { className: "recurs" }, rows.map((row) => recurringChart(row, most))),
    h("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: t("recurring") }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("name_field")), columns.map((run) => h("th", { className: "number", scope: "col" }, h("a", { href: addressOf(run) }, h("bdi", {}, run.name)))))),
      h("tbody", {}, rows.map(({ name, cells }) => h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, name)),
        columns.map((run) => h("td", { className: "number" }, cells.has(run) ? t("some_of_all", { some: cells.get(run), all: run.photos }) : "–"))))))));
}

// bars of the share of photos in each run in which the mark was looked for, the oldest on the left
function recurringChart({ name, verdict, cells }, most) {
  const runs = [...cells.keys()], [last, before] = runs.toReversed(), wide = CHART_WIDTH / Math.max(runs.length, 6);
  const share = (run) => t("some_of_all", { some: cells.get(run), all: run.photos });
  const text = before ? t("recurs_before", { now: share(last), before: share(before), date: dayText(before.begun) }) : t("recurs_now", { now: share(last) });
  const label = (x, run, anchor) => svg("text", { class: "tick", x, y: CHART_HEIGHT + 18, "text-anchor": anchor }, dayText(run.begun));
  return h("figure", {}, h("figcaption", {}, h("b", {}, h("bdi", {}, name)), " ", h("span", { className: `badge ${verdict}` }, t(`group_${verdict}`)), h("br"), text),
    svg("svg", { class: "chart", viewBox: `-88 -14 ${CHART_WIDTH + 92} ${CHART_HEIGHT + 38}`, role: "img", "aria-label": `${name}: ${text}` },
      ...[0, 1].map((level) => svg("line", { class: level ? "grid" : "axis", x1: 0, x2: CHART_WIDTH, y1: CHART_HEIGHT * (1 - level), y2: CHART_HEIGHT * (1 - level) })),
      ...[0, 1].map((level) => svg("text", { class: "tick", x: -6, y: CHART_HEIGHT * (1 - level) + 4, "text-anchor": "end" }, percentText(level * most))),
      ...runs.map((run, i) => {
        const tall = Math.max(cells.get(run) / run.photos / most * CHART_HEIGHT, 1.5);
        return svg("g", {}, svg("title", {}, `${run.name}, ${dayText(run.begun)}: ${share(run)}`),
          svg("rect", { class: verdict === "defect" ? "flagged" : "", x: i * wide + 3, y: CHART_HEIGHT - tall, width: wide - 6, height: tall }));
      }),
      label(3, runs[0], "start"), ...(runs.length > 2 ? [label(runs.length * wide - 3, last, "end")] : [])));
}
