"use strict";

const element = (name, text, attributes) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  return made;
};

// Whatever can be scrolled to the right fades out there.
for (const box of document.querySelectorAll(".scroll")) {
  const mark = () => box.classList.toggle("more", box.scrollWidth - box.clientWidth - box.scrollLeft > 2);
  box.addEventListener("scroll", mark);
  new ResizeObserver(mark).observe(box);
}

// Sorting is an extra: without scripts the tables are complete and in the model's class order.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = element("button", undefined, { type: "button" });
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const up = head.ariaSort ? head.ariaSort === "descending" : column === 0;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = row => column ? parseFloat(row.cells[column].dataset.value) : row.cells[0].textContent;
      const order = (a, b) => {
        const x = value(a), y = value(b);
        if (!column) return (up ? 1 : -1) * x.localeCompare(y);
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
        return up ? x - y : y - x;
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(order));
    };
  });
}

// The confusion matrix: a table of at most WHOLE classes; of more, a drawing of all chooses WINDOW of them for the table.
const WHOLE = 40, WINDOW = 20;

function confusion(place) {
  const { classes, orders, cells } = JSON.parse(place.querySelector("script").textContent);
  const [select, canvas, table, panel] = ["select", "canvas", "table", ".cell"].map(what => place.querySelector(what));
  const size = classes.length, width = size > WHOLE ? WINDOW : size;
  const known = new Map(cells.map(cell => [cell[0] * size + cell[1], cell]));
  const real = new Array(size).fill(0);
  for (const [truth, , count] of cells) real[truth] += count;
  let order, top = 0, left = 0, shown = null;
  const at = [];

  const within = start => Math.max(0, Math.min(size - width, start));
  const rank = name => {
    order = orders[name];
    order.forEach((index, position) => { at[index] = position; });
    [top, left] = [0, 0];
    draw();
  };
  const share = ([truth, , count]) => count / real[truth];
  const says = ([truth, guess, count]) => {
    const images = count === 1 ? "1 image" : `${count} images`;
    return truth === guess ? `${classes[truth]}, correct: ${images}`
      : `${classes[truth]}, predicted as ${classes[guess]}: ${images}`;
  };

  function drawTable() {
    const head = element("thead"), names = element("tr"), body = element("tbody");
    names.append(element("td"));
    for (const guess of order.slice(left, left + width)) {
      const cell = element("th", undefined, { scope: "col", title: classes[guess] });
      cell.append(element("span", classes[guess]));
      names.append(cell);
    }
    for (const truth of order.slice(top, top + width)) {
      const row = element("tr");
      row.append(element("th", classes[truth], { scope: "row", title: classes[truth] }));
      for (const guess of order.slice(left, left + width)) {
        const cell = known.get(truth * size + guess), spot = element("td");
        if (truth === guess) spot.className = "same";
        if (cell) {
          const part = share(cell), right = truth === guess;
          const button = element("button", cell[2], { type: "button", title: says(cell), "data-cell": `${truth},${guess}` });
          button.style.setProperty("--a", (0.2 + 0.8 * part).toFixed(2));
          button.className = (right ? "ok" : "err") + (part > 0.55 ? " deep" : "") + (cell === shown ? " shown" : "");
          spot.append(button);
        }
        row.append(spot);
      }
      body.append(row);
    }
    head.append(names);
    table.replaceChildren(head, body);
  }

  function drawAll() {
    if (size <= WHOLE) return;
    const unit = Math.max(1, Math.floor(1200 / size)), context = canvas.getContext("2d");
    canvas.hidden = false;
    canvas.width = canvas.height = unit * size;
    const colour = name => getComputedStyle(place).getPropertyValue(name).trim();
    const spot = Math.max(unit, 4), inset = (unit - spot) / 2;
    for (const cell of cells.slice().sort((a, b) => share(a) - share(b))) {
      const right = cell[0] === cell[1];
      context.globalAlpha = 0.25 + 0.75 * Math.sqrt(share(cell));
      context.fillStyle = colour(right ? "--right" : "--wrong");
      context.fillRect(at[cell[1]] * unit + inset, at[cell[0]] * unit + inset, spot, spot);
    }
    context.globalAlpha = 1;
    context.lineWidth = 4;
    context.strokeStyle = colour("--ink");
    context.strokeRect(left * unit, top * unit, width * unit, width * unit);
  }

  function draw() {
    drawAll();
    drawTable();
  }

  function open(truth, guess) {
    shown = known.get(truth * size + guess);
    const row = at[truth], column = at[guess];
    if (row < top || row >= top + width) top = within(row - width / 2);
    if (column < left || column >= left + width) left = within(column - width / 2);
    draw();
    const grid = element("div", undefined, { class: "mistakes" });
    const listed = shown[3];
    for (const [path, probability, source] of listed) {
      const figure = element("figure"), caption = element("figcaption", `${(100 * probability).toFixed(1)}%`);
      figure.append(source ? element("img", undefined, { src: source, alt: "" }) : element("span", "no image", { class: "none" }));
      caption.append(element("small", path));
      figure.append(caption);
      grid.append(figure);
    }
    const notes = [], rest = shown[2] - listed.length, bare = listed.filter(image => !image[2]).length;
    if (rest > 0) notes.push(`${rest} more ${rest === 1 ? "is" : "are"} left out to keep this page small; see predictions.csv.`);
    if (bare) notes.push(`${bare} ${bare === 1 ? "is" : "are"} listed without a picture.`);
    panel.replaceChildren(element("h3", says(shown)), ...notes.map(note => element("p", note)), grid);
    panel.hidden = false;
  }

  // The chosen place of the drawing, or the mistake nearest to it, is brought into the table.
  canvas.onclick = event => {
    const box = canvas.getBoundingClientRect();
    const scale = size / box.width, reach = 8 * scale;
    const column = (event.clientX - box.left) * scale, row = (event.clientY - box.top) * scale;
    let nearest = null, least = reach;
    for (const cell of cells) {
      const distance = Math.hypot(at[cell[0]] + 0.5 - row, at[cell[1]] + 0.5 - column);
      if (cell[0] !== cell[1] && distance < least) [nearest, least] = [cell, distance];
    }
    top = within(Math.floor(row - width / 2));
    left = within(Math.floor(column - width / 2));
    if (nearest) open(nearest[0], nearest[1]);
    else draw();
  };
  select.onchange = () => rank(select.value);
  document.addEventListener("click", event => {
    const button = event.target.closest("[data-cell]");
    if (!button) return;
    open(...button.dataset.cell.split(",").map(Number));
    panel.scrollIntoView({ block: "nearest" });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  rank(select.value);
}

document.querySelectorAll(".confusion").forEach(confusion);
