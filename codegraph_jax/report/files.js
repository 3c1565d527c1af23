"use strict";
// Saves and copies texts of the page.

// the lines of a table for a spreadsheet, in the language of the page
function csvText(lines) {
  const between = (1.5).toLocaleString(texts.locale).includes(",") ? ";" : ",";
  // a text that begins like a formula is kept from being one
  const cell = (value) => `"${String(value ?? "").replace(/^(?=[=+\-@\t\r])/, "'").replaceAll('"', '""')}"`;
  return `\ufeff${lines.map((line) => line.map(cell).join(between)).join("\r\n")}\r\n`;
}

function save(text, type, download) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// browsers may forbid this for a page that was opened from disk
async function copy(text, output, done, otherwise) {
  const copied = await navigator.clipboard.writeText(text).then(() => true, () => false);
  output.textContent = t(copied ? done : otherwise);
}
