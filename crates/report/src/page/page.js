"use strict";
// Tables that sort by a click on a heading; without a value goes last.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.addEventListener("click", () => {
    const numeric = column > 0;
    const was = heading.getAttribute("aria-sort");
    // Of scores the worst come first.
    const worstFirst = table.tBodies[0].rows[0]?.cells[column].classList.contains("score");
    const descending = was ? was === "ascending" : numeric && !worstFirst;
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent;
      const value = parseFloat(cell.dataset.value ?? cell.textContent);
      return Number.isNaN(value) ? null : value;
    };
    const compare = (one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === null || b === null) return (a === null) - (b === null);
      const order = numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
      return descending ? -order : order;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  }));
}
// Fields that leave the rows with their text.
for (const field of document.querySelectorAll("input[data-filter]")) {
  const body = document.getElementById(field.dataset.filter).tBodies[0];
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  });
}
// A chart under the pointer says its values there: they are read back from its lines.
for (const chart of document.querySelectorAll("svg.chart[data-x]")) {
  const numbers = (name) => chart.dataset[name].split(" ").map(Number);
  const [[left, top, width, height], [xLow, xHigh], [yLow, yHigh]] = ["box", "x", "y"].map(numbers);
  const categories = chart.dataset.categories?.split("\n");
  const lines = new Map();
  for (const line of chart.querySelectorAll("polyline[data-name]")) {
    const points = line.getAttribute("points").split(" ").map((point) => point.split(",").map(Number));
    lines.set(line.dataset.name, [...(lines.get(line.dataset.name) ?? []), ...points]);
  }
  if (lines.size === 0) continue;
  const cursor = document.createElementNS(chart.namespaceURI, "line");
  cursor.setAttribute("class", "cursor");
  const reading = document.createElement("div");
  reading.className = "reading";
  const digits = (value, span) => value.toFixed(Math.max(0, Math.min(6, 3 - Math.floor(Math.log10(span)))));
  const show = (event) => {
    const box = chart.getBoundingClientRect();
    const scale = chart.viewBox.baseVal.width / box.width;
    const pointer = (event.clientX - box.left) * scale;
    const nearest = (points) =>
      points.reduce((best, point) => (Math.abs(point[0] - pointer) < Math.abs(best[0] - pointer) ? point : best));
    const found = [...lines].map(([name, points]) => [name, nearest(points)]);
    const [, [x]] = found.reduce((best, one) =>
      Math.abs(one[1][0] - pointer) < Math.abs(best[1][0] - pointer) ? one : best);
    const at = xLow + ((x - left) / width) * (xHigh - xLow);
    const place = categories ? categories[Math.round(at)] : digits(at, xHigh - xLow).replace(/\.?0+$/, "") || "0";
    const texts = [`${chart.dataset.xLabel} ${place}`];
    for (const [name, [, y]] of found) {
      const value = yLow + (1 - (y - top) / height) * (yHigh - yLow);
      texts.push(`${name}: ${"percent" in chart.dataset ? `${(value * 100).toFixed(2)} %` : digits(value, yHigh - yLow)}`);
    }
    reading.replaceChildren(...texts.flatMap((text, index) => (index ? [document.createElement("br"), text] : [text])));
    for (const [name, value] of [["x1", x], ["x2", x], ["y1", top], ["y2", top + height]]) cursor.setAttribute(name, value);
    chart.append(cursor);
    const figure = chart.parentElement;
    figure.append(reading);
    const outer = figure.getBoundingClientRect();
    const over = x / scale + box.left - outer.left;
    reading.style.left = `${over > outer.width / 2 ? over - reading.offsetWidth - 10 : over + 10}px`;
    reading.style.top = `${box.top - outer.top + 14}px`;
  };
  chart.addEventListener("pointermove", show);
  chart.addEventListener("pointerleave", () => { cursor.remove(); reading.remove(); });
}
