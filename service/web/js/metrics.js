// Prometheus' text format, as far as the page reads it.

/** The samples of a metric whose labels are these, at least: [{labels, value}]. */
export function samples(text, name, wanted = {}) {
  return text.split("\n").filter((line) => line.startsWith(`${name}{`)).map((line) => {
    const end = line.lastIndexOf("}");
    const labels = Object.fromEntries([...line.slice(name.length, end).matchAll(/(\w+)="([^"]*)"/g)].map(([, key, text]) => [key, text]));
    return { labels, value: Number(line.slice(end + 1).trim().split(" ")[0]) };
  }).filter(({ labels }) => Object.entries(wanted).every(([key, value]) => labels[key] === value));
}
