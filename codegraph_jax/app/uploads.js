// Photos that are dropped on the page or chosen in a dialog.

// the files of a drop, those in folders included, and the name of their folder
async function dropped(event) {
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = (await Promise.all(entries.map(filesOf))).flat();
  return { files, name: entries.length === 1 && entries[0].isDirectory ? entries[0].name : "photos" };
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const one of some) found.push(...await filesOf(one));
  }
}

// sends files into a new folder, calling `sent` with the number of those done; returns the place of the folder, and the
// number of refused files
async function upload(files, name, sent) {
  const folder = await call("/api/uploads", { name });
  let done = 0, refused = 0;
  const queue = [...files], work = async () => {
    for (let file = queue.pop(); file; file = queue.pop()) {
      const address = `/api/uploads/${encodeURIComponent(folder.name)}?name=${encodeURIComponent(file.name)}`;
      const response = await fetch(address, { method: "PUT", body: file }).catch(() => null);
      if (!response?.ok) refused += 1;
      sent(++done);
    }
  };
  await Promise.all([work(), work(), work()]);
  return { place: folder.place, refused };
}
