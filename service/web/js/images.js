// Images out of drops, pastes and file choosers.

const SENT_AS_THEY_ARE = new Set(["image/jpeg", "image/png", "image/webp"]);
const NAMES = /\.(jpe?g|png|webp|gif|bmp|avif)$/i;

export const isImage = (file) => (file.type ? file.type.startsWith("image/") : NAMES.test(file.name));

/** The image in a format that the server reads. Raises when the browser itself cannot. */
export async function readable(file) {
  if (SENT_AS_THEY_ARE.has(file.type)) return file;
  const bitmap = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  return new File([await canvas.convertToBlob({ type: "image/png" })], file.name || "image", { type: "image/png" });
}

/** What was dropped, folders walked through: [{file, folder}], folder being "" for loose files. */
export async function dropped(transfer) {
  // Entries must be taken before the first await; the list is emptied then.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, folder: "" }));
  const found = [];
  for (const entry of entries) await walk(entry, "", found);
  return found;
}

async function walk(entry, folder, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, folder });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // A reader hands out at most a hundred entries at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const inner of some) await walk(inner, entry.name, found);
  }
}

/** What a chooser gave: [{file, folder}]. */
export function chosen(files) {
  return [...files].map((file) => ({ file, folder: file.webkitRelativePath.split("/").at(-2) ?? "" }));
}

/** Let an element take drops and show that it would. */
export function takesDrops(element, onDrop) {
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    element.classList.remove("over");
    onDrop(event.dataTransfer);
  });
}
