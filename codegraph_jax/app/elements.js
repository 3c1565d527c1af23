// Texts and elements that the views of the app share.

const countText = (count, key) => t(key, { count }), dateText = (seconds) => texts.date(1000 * seconds);
const dayText = (seconds) => new Date(1000 * seconds).toLocaleDateString(texts.locale, { day: "numeric", month: "short" });
const percentText = (share) => share.toLocaleString(texts.locale, { style: "percent", maximumFractionDigits: 1 });
function durationText(seconds) {
  if (seconds < 45) return t("less_than_a_minute");
  return seconds < 5400 ? countText(Math.max(1, Math.round(seconds / 60)), "minutes") : countText(Math.round(seconds / 3600), "hours");
}

const basename = (path) => path.split(/[/\\]/).filter(Boolean).pop() ?? path;
const button = (text, action, kind = "button quiet") => h("button", { type: "button", className: kind, onclick: action }, text);
const optionsOf = (choices, current) => choices.map(([value, text]) => h("option", { value, selected: value === current }, text));
const previewAddress = (place, side = 256) => `/api/preview?side=${side}&place=${encodeURIComponent(place)}`;
const previewImage = (place) => h("img", { alt: "", loading: "lazy", src: previewAddress(place), onerror: (event) => { event.target.style.visibility = "hidden"; } });
