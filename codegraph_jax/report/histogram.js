"use strict";
// Draws the scores of a set by verdict, the threshold and the answers.
//
// answered: [index, whether defective] of each answered photo; included: further scores that the axis covers.
// Returns the ends of the axis, and the elements of the chart and of its legend.
function histogram({ scores, verdicts, threshold, answered, included }) {
  const WIDTH = 640, HEIGHT = 190, MAX_BINS = 48;
  const ends = [...scores, ...included];
  let low = ends.reduce((a, b) => Math.min(a, b)), high = ends.reduce((a, b) => Math.max(a, b));
  const margin = 0.03 * (high - low) || 0.01;
  [low, high] = [low - margin, high + margin];
  const bins = Math.round(Math.min(Math.max(3 * Math.sqrt(scores.length), 12), MAX_BINS)), width = WIDTH / bins;
  const kinds = ["passed", "unknown", "check", "flagged"];
  const counts = Array.from({ length: bins }, () => [0, 0, 0, 0]);
  scores.forEach((value, i) => {
    const bin = Math.min(Math.floor((value - low) / (high - low) * bins), bins - 1);
    counts[bin][kinds.indexOf(verdicts[i])] += 1;
  });
  const most = counts.reduce((top, bin) => Math.max(top, sum(bin)), 0);
  const x = (value) => Math.min(Math.max((value - low) / (high - low), 0), 1) * WIDTH;
  const tick = (at, y, anchor, text) => svg("text", { class: "tick", x: at, y, "text-anchor": anchor }, text);
  const countOf = (kind, number) => t("count_of", { number, kind: t(`verdict_${kind}`) });
  const chart = [];
  for (const count of ticks(0, most, 4)) if (count % 1 === 0) {
    const y = HEIGHT * (1 - count / most);
    chart.push(svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }), tick(-8, y + 4, "end", texts.number(count)));
  }
  for (const value of ticks(low, high, 6)) chart.push(tick(x(value), HEIGHT + 32, "middle", Number(value.toPrecision(6)).toLocaleString(texts.locale)));
  counts.forEach((bin, k) => {
    const title = t("bin", { low: texts.number(low + k / bins * (high - low), 3), high: texts.number(low + (k + 1) / bins * (high - low), 3),
      counts: kinds.filter((_, i) => bin[i]).map((kind) => countOf(kind, bin[kinds.indexOf(kind)])) });
    const bars = svg("g", {}, svg("title", {}, title));
    let y = HEIGHT;
    bin.forEach((count, kind) => {
      if (!count) return;
      const height = Math.max(count / most * HEIGHT, 2);  // one photo among thousands stays visible
      y -= height;
      bars.append(svg("rect", { class: kinds[kind], x: k * width, y, width, height }));
    });
    if (y < HEIGHT) chart.push(bars);
  });
  chart.push(svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }),
    tick(-36, -14, "start", t("photos_word")), tick(WIDTH, HEIGHT + 48, "end", t("score")));
  for (const [photo, label] of answered) {
    chart.push(svg("circle", { class: label ? "bad" : "good", cx: x(scores[photo]), cy: HEIGHT + 9, r: 5 }, svg("title", {}, answerText(labelKey(label)))));
  }
  if (threshold < Infinity) {
    const at = x(threshold), anchor = at > WIDTH * 0.8 ? "end" : at < WIDTH * 0.1 ? "start" : "middle";
    chart.push(svg("line", { class: "threshold", x1: at, x2: at, y1: -8, y2: HEIGHT }),
      svg("text", { class: "threshold-text", x: at, y: -14, "text-anchor": anchor }, t("threshold_at", { threshold: scoreText(threshold) })));
  }
  const numbers = [...kinds].reverse().map((kind) => [kind, verdicts.filter((verdict) => verdict === kind).length]);
  const labels = new Set(answered.map(([, label]) => labelKey(label)));
  const legend = [
    ...numbers.filter(([, count]) => count).map(([kind, count]) => h("span", { className: kind }, countOf(kind, count))),
    ...[...labels].map((answer) => h("span", { className: `answer ${answer}` }, answerText(answer))),
  ];
  return { low, high, chart, legend };
}

// round numbers in a range, about `most` of them: multiples of 1, 2 or 5 times a power of ten
function ticks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k <= Math.floor(high / step + 1e-9); k++) found.push(k * step + 0);  // not -0
  return found;
}
