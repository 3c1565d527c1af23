"use strict";
(() => {
  const POLL_SECONDS = 2, PARTS_AT_ONCE = 24, CHARTED_PARTS = 300, CACHED_PICTURES = 400, LISTED_PARTS = 10;
  let token = sessionStorage.getItem("token") || "", lastPart = -1, onlyFlagged = false, opened = null, oldest = 0, showsEarlier = false;
  const pictures = new Map();
  const pattern = (name) => (texts.known(`group_${name}`) ? t(`group_${name}`) : texts.translated(name));  // without a name, its verdict
  const score = (value, digits = 3) => (value === null ? "–" : texts.number(value, digits));

  // the page may be below another address
  const relative = (path) => path.slice(1);
  $("#back").hidden = location.pathname === "/";

  async function get(path, method = "GET") {
    const headers = token ? { Authorization: `Bearer ${token}` } : {}, picture = /\/(photo|heatmap)$/.test(path);
    const response = await fetch(relative(path), { method, headers, cache: picture ? "default" : "no-store" });
    if (response.status === 401) {
      ask(token ? "token_wrong" : "");
      throw new Error("401");
    }
    if (!response.ok) throw new Error((await response.json().catch(() => ({}))).detail || String(response.status));
    return response;
  }
  const json = async (path, method) => (await get(path, method)).json();
  const blob = async (path) => URL.createObjectURL(await (await get(path)).blob());

  function ask(reason) {
    token = "";
    sessionStorage.removeItem("token");
    $("#main").hidden = true;
    if (reason) texts.mark($("#refused"), reason);
    if (!$("#ask").hidden) return;
    $("#ask").hidden = false;
    $("#token").focus();
  }

  $("#ask").addEventListener("submit", (event) => {
    event.preventDefault();
    token = $("#token").value.trim();
    sessionStorage.setItem("token", token);
    lastPart = -1;
    tick();
  });

  // shows a picture in an <img>; fetched by script, since an <img> cannot send the token
  async function show(image, path) {
    try {
      if (!pictures.has(path)) {
        pictures.set(path, await blob(path));
        if (pictures.size > CACHED_PICTURES) {
          const [first, url] = pictures.entries().next().value;
          URL.revokeObjectURL(url);
          pictures.delete(first);
        }
      }
      image.src = pictures.get(path);
    } catch {
      image.removeAttribute("src");
      image.alt = "";
    }
  }

  function card(part) {
    const stack = h("span", { className: "stack" });
    if (part.verdict === "not_inspected") stack.append(h("span", { className: "none" }, t("no_photo")));
    else {
      // the frame has the aspect of the photo, so that the map covers it exactly
      const images = ["photo", "heatmap"].map((kind) => [kind, h("img", { alt: "" })]), aspect = part.width / part.height;
      const frame = h("span", {}, images.map(([, image]) => image));
      frame.style.cssText = `${aspect > 4 / 3 ? "width" : "height"}: 100%; aspect-ratio: ${aspect}`;
      for (const [kind, image] of images) show(image, `/parts/${part.id}/${kind}`);
      stack.append(frame);
    }
    // an answer counts more than the verdict
    const kind = { good: "passed", defective: "flagged" }[part.answer] ?? part.verdict;
    const facts = [part.answer && t("verdict_in_list", { verdict: t(`verdict_${part.verdict}`) }), part.verdict === "not_inspected" ? part.failure : score(part.score), ...part.patterns.map(pattern)];
    const words = h("span", { className: "words" }, h("b", {}, `${part.id}: ${part.name}`),
      h("span", { className: `verdict ${kind}` }, part.answer ? t("you_said", { answer: t(part.answer) }) : t(`verdict_${part.verdict}`)), facts.filter(Boolean).map((fact) => ` · ${fact}`));
    return h("li", {}, h("button", { className: kind, "data-part": part.id, onclick: () => open(part) }, stack, words));
  }

  function open(part) {
    opened = part;
    $("#large-title").textContent = `${part.id}: ${part.name}`;
    $("#large-photo").alt = t("photo_of_part", { number: String(part.id) });
    $("#large figure").style.width = part.verdict === "not_inspected" ? "" : `min(100%, ${50 * part.width / part.height}vh)`;
    for (const kind of ["photo", "heatmap"]) {
      const image = $(`#large-${kind}`);
      image.removeAttribute("src");
      if (part.verdict !== "not_inspected") show(image, `/parts/${part.id}/${kind}`);
    }
    const facts = {
      verdict_column: [t(`verdict_${part.verdict}`), part.failure].filter(Boolean).join(": "),
      score: t("score_and_threshold", { score: score(part.score, 4), threshold: score(part.threshold, 4) }),
      score_this_high: part.p_value === null ? "–" : texts.chance(part.p_value),
      patterns: part.patterns.map(pattern).join(", ") || t("no_pattern"),
      regions: texts.number(part.regions.length),
      inspected_at: texts.date(part.inspected_at),
      file: part.path,
    };
    $("#facts").replaceChildren(...Object.entries(facts).flatMap(([key, value]) => [h("dt", {}, t(key)), h("dd", {}, value)]));
    $("#answered").textContent = "";
    showAnswer(part);
    if (!$("#large").open) $("#large").showModal();
  }

  function showAnswer(part) {
    for (const button of $$("[data-answer]")) {
      const { answer } = button.dataset;
      button.disabled = part.verdict === "not_inspected" || part.answer === answer;
      if (answer) button.setAttribute("aria-pressed", part.answer === answer);
    }
  }

  async function sendAnswer(answer) {
    const part = opened, path = `/parts/${part.id}/answer`;
    for (const button of $$("[data-answer]")) button.disabled = true;
    try {
      Object.assign(part, await (answer ? json(`${path}?defective=${answer === "defective"}`, "PUT") : json(path, "DELETE")));
      $("#answered").textContent = part.answer ? t("saved_in_bank", { answer: t(part.answer) }) : t("taken_back");
      $(`#parts button[data-part="${part.id}"]`)?.parentElement.replaceWith(card(part));
    } catch (error) {
      $("#answered").textContent = texts.translated(error.message);
    }
    if (opened === part) showAnswer(part);
  }
  for (const button of $$("[data-answer]")) button.addEventListener("click", () => sendAnswer(button.dataset.answer));
  $("#large").addEventListener("keydown", (event) => {
    const answer = { d: "defective", g: "good" }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "h") $("#map").click();
    if (answer) sendAnswer(answer);
  });
  $("#map").addEventListener("change", () => { $("#large-heatmap").hidden = !$("#map").checked; });

  // the left and right arrow keys move between parts, in the list and in the large view
  addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.target.matches("select, input:not([type=checkbox])")) return;
    const buttons = $$("#parts button"), large = $("#large").open;
    const position = large ? buttons.findIndex((button) => Number(button.dataset.part) === opened.id) : buttons.indexOf(document.activeElement);
    const next = buttons[position + step];
    if (position < 0 || !next) return;
    event.preventDefault();
    if (large) next.click(); else next.focus();
  });
  $("#large").addEventListener("close", () => $(`#parts button[data-part="${opened.id}"]`)?.focus());

  function chart(rows) {
    const known = rows.filter((row) => row.score !== null), box = $("#chart"), width = box.clientWidth || 1000, height = box.clientHeight || 190, edge = 12;
    box.setAttribute("viewBox", `0 0 ${width} ${height}`);
    box.replaceChildren();
    if (!known.length) return texts.mark($("#legend"), "none_inspected");
    const scores = known.map((row) => row.score), limits = known.filter((row) => row.threshold !== null);
    const values = [...scores, ...limits.map((row) => row.threshold)];
    const low = Math.min(...values), high = Math.max(...values), first = known[0].id, end = known.at(-1).id;
    const x = (part) => edge + (width - 2 * edge) * (end === first ? 0.5 : (part - first) / (end - first));
    const y = (value) => height - edge - (height - 2 * edge) * (high === low ? 0.5 : (value - low) / (high - low));
    const path = limits.map((row, i) => `${i ? "L" : "M"}${x(row.id)} ${y(row.threshold)}`).join("");
    if (limits.length) box.append(svg("path", { d: path + (limits.length === 1 ? "h1" : "") }));
    for (const row of known) {
      const title = svg("title", {}, t("part_score", { number: String(row.id), score: score(row.score) }));
      box.append(svg("circle", { cx: x(row.id), cy: y(row.score), r: 4, class: row.flagged ? "flagged" : "" }, title));
    }
    return texts.mark($("#legend"), "chart_about", {
      first: String(first), last: String(end), low: score(Math.min(...scores)), high: score(Math.max(...scores)), flagged: known.filter((row) => row.flagged).length });
  }

  function alarmItem(alarm) {
    const accept = (key, label) => h("button", { onclick: async () => {
      const reason = texts.english(key);  // the ledger stores the English words, which the page translates
      try {
        await get(`/alarms/${alarm.id}/acknowledgement?reason=${encodeURIComponent(reason)}`, "PUT");
        lastPart = -1;
      } catch (error) {
        texts.mark($("#state"), "server_lost", { message: texts.translated(error.message) });
      }
    } }, label);
    const openSheet = async (event) => {
      if (!token) return;
      event.preventDefault();
      window.open(await blob(alarm.sheet));
    };
    const item = h("li", {}, h("time", { dateTime: alarm.raised_at }, texts.date(alarm.raised_at)), texts.translated(alarm.message), " ");
    if (alarm.acknowledgement) item.append(h("span", {}, t("your_reason", { reason: texts.translated(alarm.acknowledgement) })), " ");
    else if (alarm.kind !== "drift") item.append(accept("sentence_dealt_with", t("dealt_with")), " ");
    else for (const key of ["sentence_daily_cycle", "sentence_new_batch"]) item.append(accept(key, t("that_is", { reason: t(key) })), " ");
    if (alarm.sheet) item.append(h("a", { href: relative(alarm.sheet), target: "_blank", onclick: openSheet }, t("contact_sheet")));
    return item;
  }

  // results on their way are not shown, only those that a target has not accepted
  function showUndelivered(targets) {
    const failed = targets.filter((one) => one.error), section = $("#undelivered");
    section.hidden = !failed.length;
    $("[data-method=DELETE]", section).hidden = !failed.some((one) => one.set_aside);
    const lines = failed.map((one) => {
      const kinds = [["results_waiting", one.waiting], ["results_set_aside", one.set_aside]]
        .filter(([, count]) => count).map(([key, count]) => t(key, { count }));
      const parts = one.parts.slice(0, LISTED_PARTS).join(", ") + (one.parts.length > LISTED_PARTS ? " …" : "");
      return [`${one.address}: ${kinds.join(", ")}.`, one.error && t("last_error", { error: one.error }), one.parts.length && t("parts_set_aside", { parts })]
        .filter(Boolean).join(" ");
    });
    const list = $("ul", section);
    if (lines.join() !== [...list.children].map((item) => item.textContent).join()) list.replaceChildren(...lines.map((line) => h("li", {}, line)));
  }
  for (const button of $$("[data-method]")) {
    button.addEventListener("click", async () => {
      // discarding needs a second click
      if (button.dataset.t === "discard") return texts.mark(button, "discard_sure");
      try {
        showUndelivered(await json("/undelivered", button.dataset.method));
        $("#undelivered-error").textContent = "";
      } catch (error) {
        texts.mark($("#undelivered-error"), "server_lost", { message: error.message });
      }
      if (button.dataset.t === "discard_sure") texts.mark(button, "discard");
      return undefined;
    });
  }

  async function refresh() {
    const paths = [`/parts?limit=${PARTS_AT_ONCE}&flagged=${onlyFlagged}`, `/scores?limit=${CHARTED_PARTS}`, "/alarms?limit=10"];
    const [parts, scores, alarms] = await Promise.all(paths.map((path) => json(path)));
    chart(scores);
    $("#alarms").replaceChildren(...(alarms.length ? alarms.map(alarmItem) : [h("li", { className: "none" }, t("no_alarms"))]));
    const focused = document.activeElement?.dataset?.part, list = $("#parts");
    const known = new Map([...list.children].map((item) => [item.firstChild.dataset.part, item]));
    if (!showsEarlier) {
      list.replaceChildren(...parts.map((part) => known.get(String(part.id)) || card(part)));
      oldest = parts.at(-1)?.id ?? 0;
      $("#more").hidden = parts.length < PARTS_AT_ONCE;
    } else {
      list.prepend(...parts.filter((part) => !known.has(String(part.id))).map(card));
    }
    if (focused && document.activeElement?.dataset?.part !== focused) $(`[data-part="${focused}"]`, list)?.focus();
  }

  // draws the list again from its newest part
  function restart() {
    showsEarlier = false;
    $("#parts").replaceChildren();
    return refresh();
  }

  $("#more").addEventListener("click", async () => {
    const parts = await json(`/parts?limit=${PARTS_AT_ONCE}&before=${oldest}&flagged=${onlyFlagged}`);
    showsEarlier = true;
    $("#parts").append(...parts.map(card));
    oldest = parts.at(-1)?.id ?? oldest;
    $("#more").hidden = parts.length < PARTS_AT_ONCE;
  });
  $("#only").addEventListener("change", () => {
    onlyFlagged = $("#only").checked;
    restart();
  });
  $("#csv").addEventListener("click", async (event) => {
    if (!token) return;
    event.preventDefault();
    h("a", { href: await blob("/parts.csv"), download: "parts.csv" }).click();
  });

  async function tick() {
    try {
      const summary = await json("/summary");
      $("#ask").hidden = true;
      $("#main").hidden = false;
      for (const name of ["inspected", "flagged", "not_inspected", "waiting"]) $(`#${name}`).textContent = texts.number(summary[name]);
      showUndelivered(summary.undelivered);
      if (summary.last_part !== lastPart) {
        await refresh();
        lastPart = summary.last_part;
      }
      texts.mark($("#state"), lastPart ? "up_to_date" : "no_parts_yet", { number: String(lastPart) });
      $("#state").className = "";
    } catch (error) {
      const asked = !$("#ask").hidden;
      texts.mark($("#state"), asked ? "enter_token" : "server_lost", { message: error.message });
      $("#state").className = asked ? "" : "lost";
    }
  }

  addEventListener("resize", () => { lastPart = -1; });
  // the app has a line's page at /lines/NAME/
  function showTitle() {
    const name = decodeURIComponent(/^\/lines\/([^/]+)/.exec(location.pathname)?.[1] ?? "");
    document.title = $("h1").textContent = name ? t("line_named", { name }) : t("line_title");
  }

  texts.onchange(() => {
    showTitle();
    if (opened && $("#large").open) open(opened);
    if (lastPart >= 0) restart();
  });
  showTitle();
  setInterval(() => { if ($("#ask").hidden) tick(); }, 1000 * POLL_SECONDS);
  tick();
})();
