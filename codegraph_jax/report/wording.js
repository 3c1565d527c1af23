"use strict";
// Texts on scores, answers and expected mistakes; those of wording.py are the same.
const labelKey = (label) => (label ? "defective" : "good");
const isDecisive = (answer) => answer === "good" || answer === "defective";
const answerText = (answer) => t("you_said", { answer: t(answer) });
const scoreText = (value) => texts.number(value, 4);

// how many good parts score as high as a photo or, with enough answers, the probability of a defect
function rarityText({ p, answer, marked, probability }) {
  if (probability === undefined) return p > 0.5 ? t("rarity_most") : t("rarity", { chance: texts.chance(p) });
  if (isDecisive(answer)) return answerText(answer);
  if (marked) return t("by_mark");
  const percent = Math.round(100 * probability);
  return t("probability", { percent: percent < 1 ? t("percent_low") : percent > 99 ? t("percent_high") : t("percent", { number: percent }) });
}

// expected false alarms and misses, as `ActiveCalibrator.estimate` returns them
function mistakesText({ falseAlarms, misses }) {
  let limited = false;
  const phrase = (kind, { expected, high, total }, parts) => {
    const number = Math.round(expected), count = Math.max(Math.round(total), number), most = Math.max(high, number);
    limited ||= count > 0 && most > 0;
    const key = !count ? "no_part" : !most ? "none" : number ? "about" : "unlikely";
    return t(`${kind}_${key}`, { number, most, parts: t(parts, { count }) });
  };
  const text = `${phrase("false_alarms", falseAlarms, "good_parts")}, ${phrase("misses", misses, "defective_parts")}.`;
  return `${text[0].toUpperCase()}${text.slice(1)}${limited ? ` ${t("at_most_holds")}` : ""}`;
}

// sides in pixels, and in millimetres if the width of a pixel is known
function sizeText(sides, mmPerPixel) {
  const inMm = (side) => Number((side * mmPerPixel).toPrecision(3)).toLocaleString(texts.locale);
  return `${sides.join(" × ")} px${mmPerPixel ? ` (${sides.map(inMm).join(" × ")} mm)` : ""}`;
}
