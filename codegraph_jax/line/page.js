"use strict";
const SECONDS = 2, SHOWN = 24, CHARTED = 300;
const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem("token") || "", last = -1, only = false, opened = null, oldest = 0, earlier = false;
const pictures = new Map();

async function get(path, method = "GET") {
  const headers = token ? {Authorization: "Bearer " + token} : {};
  const answer = await fetch(path, {method, headers, cache: path.includes("/photo") || path.includes("/heatmap") ? "default" : "no-store"});
  if (answer.status === 401) { ask(token ? "This token is wrong." : ""); throw new Error("a token is needed"); }
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail || "status " + answer.status);
  return answer;
}

function ask(why) {
  token = "";
  sessionStorage.removeItem("token");
  $("main").hidden = true;
  $("refused").textContent = why;
  if ($("ask").hidden) { $("ask").hidden = false; $("token").focus(); }
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("token", token);
  last = -1;
  tick();
});

// shows a picture in an <img>; fetched by script, since an <img> cannot send the token
async function show(image, path) {
  try {
    if (!pictures.has(path)) {
      pictures.set(path, URL.createObjectURL(await (await get(path)).blob()));
      if (pictures.size > 400) {
        const [first, url] = pictures.entries().next().value;
        URL.revokeObjectURL(url);
        pictures.delete(first);
      }
    }
    image.src = pictures.get(path);
  } catch { image.removeAttribute("src"); image.alt = ""; }
}

const number = (value, digits = 3) => value === null ? "–" : value.toFixed(digits);
const WORDS = {look: "look at this"};
const clock = (text) => new Date(text).toLocaleString();

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function card(part) {
  const item = element("li"), button = element("button", part.verdict), stack = element("span", "stack");
  stack.style.display = "block";
  button.dataset.part = part.id;
  if (part.status === "failed") stack.append(element("span", "none", "no photo"));
  else {
    // the frame has the aspect of the photo, so that the map covers it exactly
    const frame = element("span"), aspect = part.width / part.height;
    frame.style.cssText = aspect > 4 / 3 ? `width: 100%; aspect-ratio: ${aspect}` : `height: 100%; aspect-ratio: ${aspect}`;
    for (const kind of ["photo", "heatmap"]) {
      const image = element("img");
      image.alt = "";
      frame.append(image);
      show(image, `/parts/${part.id}/${kind}`);
    }
    stack.append(frame);
  }
  const words = element("span", "words"), verdict = part.verdict;
  words.append(element("b", "", `${part.id}: ${part.name}`), element("span", "verdict " + verdict, WORDS[verdict] || verdict));
  if (part.answer) words.append(element("span", "", ` · you said ${part.answer}`));
  words.append(` ${part.status === "failed" ? part.failure : number(part.score)}`);
  if (part.patterns.length) words.append(element("span", "", ` · ${part.patterns.join(", ")}`));
  button.append(stack, words);
  button.addEventListener("click", () => open(part));
  item.append(button);
  return item;
}

function open(part) {
  opened = part;
  $("large-title").textContent = `${part.id}: ${part.name}`;
  $("large-photo").alt = `Photo of part ${part.id}`;
  for (const kind of ["photo", "heatmap"]) {
    $("large-" + kind).removeAttribute("src");
    if (part.status !== "failed") show($("large-" + kind), `/parts/${part.id}/${kind}`);
  }
  const facts = {
    Verdict: (WORDS[part.verdict] || part.verdict) + (part.failure ? `: ${part.failure}` : ""),
    Score: `${number(part.score, 4)} (flagged from ${number(part.threshold, 4)})`,
    "Good parts that score this high": part.p_value === null ? "–" : `1 in ${Number((1 / part.p_value).toPrecision(2)).toLocaleString("en")}`,
    Patterns: part.patterns.join(", ") || "no known pattern",
    Regions: part.regions.length,
    Inspected: clock(part.inspected_at),
    File: part.path,
  };
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]));
  $("answered").textContent = "";
  showAnswer(part);
  if (!$("large").open) $("large").showModal();
}

function showAnswer(part) {
  for (const button of document.querySelectorAll("[data-answer]")) {
    const given = {true: "defective", false: "good", "": ""}[button.dataset.answer];
    button.disabled = part.status === "failed" || part.answer === given;
    if (given) button.setAttribute("aria-pressed", part.answer === given);
  }
}

async function say(answer) {
  const part = opened, path = `/parts/${part.id}/answer`;
  for (const button of document.querySelectorAll("[data-answer]")) button.disabled = true;
  try {
    const changed = await (await get(answer ? `${path}?defective=${answer}` : path, answer ? "PUT" : "DELETE")).json();
    Object.assign(part, changed);
    $("answered").textContent = changed.answer ? `Saved in the bank: this part is ${changed.answer}.` : "Taken back.";
    const item = document.querySelector(`#parts button[data-part="${part.id}"]`);
    if (item) item.parentElement.replaceWith(card(part));
  } catch (error) { $("answered").textContent = error.message; }
  if (opened === part) showAnswer(part);
}
for (const button of document.querySelectorAll("[data-answer]")) button.addEventListener("click", () => say(button.dataset.answer));
$("large").addEventListener("keydown", (event) => {
  const answer = {d: "true", g: "false"}[event.key];
  if (answer && !event.ctrlKey && !event.metaKey && !event.altKey) say(answer);
});
$("map").addEventListener("change", () => { $("large-heatmap").hidden = !$("map").checked; });

// the left and right arrow keys move between parts, in the list and in the large view
addEventListener("keydown", (event) => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!step || event.target.matches("input:not([type=checkbox])")) return;
  const buttons = [...document.querySelectorAll("#parts button")];
  const large = $("large").open;
  const here = large ? buttons.findIndex((button) => Number(button.dataset.part) === opened.id) : buttons.indexOf(document.activeElement);
  const there = buttons[here + step];
  if (here < 0 || !there) return;
  event.preventDefault();
  if (large) there.click(); else there.focus();
});
$("large").addEventListener("close", () => document.querySelector(`#parts button[data-part="${opened.id}"]`)?.focus());

function chart(rows) {
  const known = rows.filter((row) => row.score !== null), svg = $("chart"), width = svg.clientWidth || 1000, height = svg.clientHeight || 190, edge = 12;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  if (!known.length) { $("legend").textContent = "No part has been inspected yet."; return; }
  const values = known.flatMap((row) => row.threshold === null ? [row.score] : [row.score, row.threshold]);
  const low = Math.min(...values), high = Math.max(...values), first = known[0].id, end = known[known.length - 1].id;
  const x = (part) => edge + (width - 2 * edge) * (end === first ? 0.5 : (part - first) / (end - first));
  const y = (value) => height - edge - (height - 2 * edge) * (high === low ? 0.5 : (value - low) / (high - low));
  const add = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    svg.append(made);
    return made;
  };
  const limits = known.filter((row) => row.threshold !== null);
  if (limits.length) add("path", {d: limits.map((row, i) => `${i ? "L" : "M"}${x(row.id)} ${y(row.threshold)}`).join("") + (limits.length === 1 ? "h1" : "")});
  for (const row of known) {
    const dot = add("circle", {cx: x(row.id), cy: y(row.score), r: 4, class: row.flagged ? "flagged" : ""});
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = `part ${row.id}: ${number(row.score)}`;
    dot.append(title);
  }
  const over = known.filter((row) => row.flagged).length;
  $("legend").textContent = `Parts ${first} to ${end}, scores ${number(Math.min(...known.map((row) => row.score)))} to `
    + `${number(Math.max(...known.map((row) => row.score)))}; ${over} flagged. The dashed line is the threshold.`;
}

function alarmItem(alarm) {
  const item = element("li"), time = element("time", "", clock(alarm.raised_at));
  time.dateTime = alarm.raised_at;
  item.append(time, alarm.message + " ");
  if (alarm.acknowledgement) item.append(element("span", "none", `Your reason: ${alarm.acknowledgement}. `));
  else for (const reason of ["our daily cycle", "a new batch"]) {
    const button = element("button", "", `That is ${reason}`);
    button.addEventListener("click", async () => { await get(`/alarms/${alarm.id}/acknowledgement?reason=${encodeURIComponent(reason)}`, "PUT"); last = -1; });
    item.append(button, " ");
  }
  if (alarm.sheet) {
    const link = element("a", "", "Contact sheet");
    link.href = alarm.sheet;
    link.target = "_blank";
    link.addEventListener("click", async (event) => {
      if (!token) return;
      event.preventDefault();
      window.open(URL.createObjectURL(await (await get(alarm.sheet)).blob()));
    });
    item.append(link);
  }
  return item;
}

async function refresh() {
  const [parts, scores, alarms] = await Promise.all([
    get(`/parts?limit=${SHOWN}&flagged=${only}`), get(`/scores?limit=${CHARTED}`), get("/alarms?limit=10"),
  ].map(async (answer) => (await answer).json()));
  chart(scores);
  $("alarms").replaceChildren(...(alarms.length ? alarms.map(alarmItem) : [element("li", "none", "None.")]));
  const focused = document.activeElement?.dataset?.part, list = $("parts");
  const known = new Map([...list.children].map((item) => [item.firstChild.dataset.part, item]));
  if (!earlier) {
    list.replaceChildren(...parts.map((part) => known.get(String(part.id)) || card(part)));
    oldest = parts.length ? parts[parts.length - 1].id : 0;
    $("more").hidden = parts.length < SHOWN;
  } else {
    list.prepend(...parts.filter((part) => !known.has(String(part.id))).map(card));
  }
  if (focused && document.activeElement?.dataset?.part !== focused) list.querySelector(`[data-part="${focused}"]`)?.focus();
}

$("more").addEventListener("click", async () => {
  const parts = await (await get(`/parts?limit=${SHOWN}&before=${oldest}&flagged=${only}`)).json();
  earlier = true;
  $("parts").append(...parts.map(card));
  if (parts.length) oldest = parts[parts.length - 1].id;
  $("more").hidden = parts.length < SHOWN;
});
$("only").addEventListener("change", () => { only = $("only").checked; earlier = false; $("parts").replaceChildren(); refresh(); });
$("csv").addEventListener("click", async (event) => {
  if (!token) return;
  event.preventDefault();
  const link = element("a");
  link.href = URL.createObjectURL(await (await get("/parts.csv")).blob());
  link.download = "parts.csv";
  link.click();
});

async function tick() {
  try {
    const summary = await (await get("/summary")).json();
    $("ask").hidden = true;
    $("main").hidden = false;
    for (const name of ["inspected", "flagged", "failed", "waiting"]) $(name).textContent = summary[name].toLocaleString();
    if (summary.last !== last) { await refresh(); last = summary.last; }
    $("state").textContent = last ? `Up to date: the last part is ${last}.` : "Up to date: no parts yet.";
    $("state").className = "";
  } catch (error) {
    const asked = !$("ask").hidden;
    $("state").textContent = asked ? "Enter the token of this server." : `The server cannot be reached (${error.message}); trying again.`;
    $("state").className = asked ? "" : "lost";
  }
}
addEventListener("resize", () => { last = -1; });
setInterval(() => { if ($("ask").hidden) tick(); }, 1000 * SECONDS);
tick();
