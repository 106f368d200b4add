"use strict";
(() => {

// ---- Data -------------------------------------------------------------------------------------------------------------------------

const data = JSON.parse(document.getElementById("data").textContent);
const authors = data.authors || [];
const saes = data.saes || [];
const raw = data.values === "raw";
const allTokens = sum(authors.map(author => author.tokens));
const comparable = authors.filter(author => author.tokens > 0).length > 1;
const ALL = -1;                                     // an index for the features of all SAEs together
const SITES = { res: "residual stream", mlp: "MLP output", att: "attention output" };

function sum(numbers) { return numbers.reduce((total, number) => total + (number || 0), 0); }
function known(number) { return typeof number === "number" && Number.isFinite(number); }

const saeLabel = sae => `${sae.site} ${sae.layer}`;
const keyOf = (sae, id) => `${sae.site}-${sae.layer}-${id}`;

/** For each SAE, the table entries of its features; null until they are first needed. */
const entriesOfSAE = saes.map(() => null);
function entriesOf(index) {
  if (index === ALL) {
    const all = saes.flatMap((_, each) => entriesOf(each));
    return all.map((entry, order) => [entry, order]).sort((a, b) => compare(b[0].z, a[0].z) || a[1] - b[1]).map(pair => pair[0]);
  }
  entriesOfSAE[index] ||= (saes[index].features || []).map(feature => makeEntry(index, feature));
  return entriesOfSAE[index];
}

function makeEntry(index, feature) {
  // A feature marks the author with the largest z. Log-odds do not decide, because even three tokens can make them
  // large.
  let best = -1;
  if (comparable) authors.forEach((_, author) => {
    const z = zOf(feature, author);
    if (z > 0 && (best < 0 || z > feature.z[best])) best = author;
  });
  const total = sum(feature.counts);
  const entry = { sae: index, feature, best, key: keyOf(saes[index], feature.id), total, documents: sum(feature.documents) };
  entry.there = best < 0 ? null : ratio(feature.counts[best], authors[best].tokens);
  entry.elsewhere = best < 0 ? null : ratio(total - feature.counts[best], allTokens - authors[best].tokens);
  entry.logOdds = best < 0 ? null : feature.log_odds[best];
  entry.z = best < 0 ? null : feature.z[best];
  return entry;
}

/** Returns log-odds or z of a feature for an author; null for an author without tokens, even if the data have a number. */
function logOddsOf(feature, author) { return authors[author].tokens > 0 ? feature.log_odds[author] ?? null : null; }
function zOf(feature, author) { return authors[author].tokens > 0 ? feature.z[author] ?? null : null; }

function ratio(part, whole) { return whole > 0 ? part / whole : null; }

/** Compares two values for sorting; null is below every number. Tables show null last, whether they ascend or descend. */
function compare(a, b) {
  const none = value => value === null || value === undefined || Number.isNaN(value);
  if (none(a) || none(b)) return none(a) - none(b) ? none(b) - none(a) : 0;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The lower-case texts of each feature that the text filter searches. They are made when a feature is first filtered. */
const searched = new WeakMap();
function searchText(feature) {
  let texts = searched.get(feature);
  if (!texts) {
    const contexts = feature.contexts || [];
    texts = {
      all: contexts.map(context => plain(context.tokens.join(""))).join("\u0000").toLowerCase(),
      firing: contexts.flatMap(context => context.fires.map(fire => plain(context.tokens[fire[0]]))).join("\u0000").toLowerCase(),
    };
    searched.set(feature, texts);
  }
  return texts;
}
function plain(token) { return token.replaceAll("▁", " "); }

/** Returns the tokens at which a feature fires in its contexts, most frequent first. */
function firingTokens(feature) {
  const counts = new Map();
  for (const context of feature.contexts || []) {
    for (const [index] of context.fires) {
      const token = plain(context.tokens[index]).trim() || context.tokens[index].replaceAll("▁", "␣").replaceAll(" ", "␣");
      counts.set(token, (counts.get(token) || 0) + 1);
    }
  }
  return [...counts].sort((a, b) => b[1] - a[1]).map(pair => pair[0]);
}

function fewTokens(entry, most) {
  return firingTokens(entry.feature).slice(0, most).map(token => isolated(shorten(token, 18))).join(" · ");
}

// ---- Numbers and text -------------------------------------------------------------------------------------------------------------

/** Number formats, by number of decimals. They are made once, because making a format takes longer than the rest of a cell. */
const formats = [0, 1, 2, 3].map(digits =>
  new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
function integer(number) { return fixed(number, 0); }
function fixed(number, digits) {
  if (!known(number)) return "–";
  const text = formats[digits].format(Math.abs(number));
  return number < 0 && /[1-9]/.test(text) ? "\u2212" + text : text;
}
function percent(number) { return known(number) ? fixed(100 * number, 3) + "\u00a0%" : "–"; }
function count(number, one, many) { return `${integer(number)} ${number === 1 ? one : many}`; }
function shorten(text, most) {
  const letters = [...text];
  return letters.length > most ? letters.slice(0, most - 1).join("") + "…" : text;
}

/** Puts a name between Unicode isolates, so that a right-to-left name does not change the order of the sentence. */
function isolated(name) { return "\u2068" + name.replace(/[\u202a-\u202e\u2066-\u2069]/g, "") + "\u2069"; }
function authorName(index) { return authors[index] ? isolated(authors[index].name) : "?"; }

/** Matches invisible characters and byte tokens. They are shown as symbols or code points, so that none reorders the line. */
const INVISIBLE = /(\n|\t|<0x[0-9A-F]{2}>|[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff])/;
function tokenNodes(token) {
  return plain(token).split(INVISIBLE).filter(Boolean).map(piece => {
    if (piece === "\n") return h("span", { class: "code" }, "↵");
    if (piece === "\t") return h("span", { class: "code" }, "⇥");
    if (!INVISIBLE.test(piece)) return piece;
    if (piece.startsWith("<0x")) return h("span", { class: "code" }, piece);
    return h("span", { class: "code" }, `<U+${piece.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}>`);
  });
}

function quoted(argument) {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : "'" + argument.replaceAll("'", "'\\''") + "'";
}

// ---- Elements ---------------------------------------------------------------------------------------------------------------------

/** Makes an element. Strings among the children become text, never markup. */
function h(name, properties, ...children) { return filled(document.createElement(name), properties, children); }
function svg(name, properties, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), properties, children);
}
function filled(element, properties, children) {
  for (const [key, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, text] of Object.entries(value)) element.style.setProperty(name, text);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter(child => child !== null && child !== undefined));
  return element;
}
const byId = id => document.getElementById(id);

/** Makes an element for a name. The name's writing direction does not affect the text around the name. */
function bdi(text, most) {
  const shown = most ? shorten(text, most) : text;
  return h("bdi", { dir: "auto", title: shown === text && text.length < 16 ? null : text }, shown);
}

const tipBox = byId("tip");
function showTip(event, text) {
  tipBox.textContent = text;
  tipBox.hidden = false;
  const { width, height } = tipBox.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, document.documentElement.clientWidth - width - 6);
  const below = event.clientY + 16;
  tipBox.style.left = `${Math.max(6, left)}px`;
  tipBox.style.top = `${below + height > innerHeight - 6 ? Math.max(6, event.clientY - height - 12) : below}px`;
}
function hideTip() { tipBox.hidden = true; }
function withTip(element, text) {
  element.addEventListener("pointermove", event => showTip(event, typeof text === "function" ? text(event) : text));
  element.addEventListener("pointerleave", hideTip);
  return element;
}

function niceTicks(from, to, about) {
  const rough = (to - from) / about || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(each => each >= rough * 0.999);
  const ticks = [];
  for (let tick = Math.ceil(from / step - 1e-9) * step; tick <= to + step * 1e-6; tick += step) ticks.push(Number(tick.toPrecision(6)));
  return ticks;
}

// ---- Tables -----------------------------------------------------------------------------------------------------------------------

/** Returns the class of a table's box. A table of more than 20 rows scrolls in its box, so that the page stays short. */
function scrollClass(rows) { return rows > 20 ? "scroll" : "scroll whole"; }

/**
 * Makes a table with sortable columns. A column has a key and a title. Its function value(row) returns the value to sort by;
 * fill(row) returns the cell's content. At first the table shows `limit` rows, because thousands of rows make the page slow.
 * A button shows the other rows.
 */
function makeTable({ id, label, columns, rows, keyOf, sort, limit = Infinity, choose, low, rowClass }) {
  let current = rows, sorted = [], shown = limit, selected = null;
  let [by, direction] = sort || [null, 1];
  const head = h("tr");
  const body = h("tbody");
  const more = h("button", { type: "button", class: "more", onclick: () => { shown = Infinity; draw(); } });
  const box = h("div", { class: low ? "scroll low" : scrollClass(rows.length), tabindex: "0", role: "region", "aria-label": label },
    h("table", { id, "aria-label": label }, h("thead", {}, head), body));
  const headers = columns.map(column => {
    const cell = h("th", { scope: "col", class: classes(column), title: column.help });
    if (column.value) {
      cell.append(h("button", { type: "button", "data-column": column.key, "aria-label": column.name, onclick: () => {
        if (by === column.key) direction = -direction;
        else [by, direction] = [column.key, column.number ? -1 : 1];
        draw();
      } }, column.title));
    } else {
      cell.append(column.title);
      if (column.under) cell.append(column.under());
    }
    head.append(cell);
    return cell;
  });
  if (choose) body.addEventListener("click", event => {
    const row = event.target.closest("tr");
    if (row && !event.target.closest("a, button") && !String(getSelection())) choose(row.dataset.key);
  });

  function classes(column) { return [column.first && "first", column.number && "number", column.class].filter(Boolean).join(" ") || null; }
  function draw() {
    const column = columns.find(each => each.key === by);
    sorted = current.map((row, order) => ({ row, order, value: column ? column.value(row) : null }));
    if (column) {
      const none = value => value === null || value === undefined;
      sorted.sort((a, b) => none(a.value) - none(b.value) || direction * compare(a.value, b.value) || a.order - b.order);
    }
    sorted = sorted.map(each => each.row);
    columns.forEach((each, index) => {
      if (each.key === by) headers[index].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else headers[index].removeAttribute("aria-sort");
    });
    body.replaceChildren(...sorted.slice(0, shown).map(row => {
      const key = keyOf(row);
      const kinds = [choose && "choosable", rowClass && rowClass(row)].filter(Boolean).join(" ") || null;
      return h("tr", { "data-key": key, class: kinds, "aria-selected": choose ? String(key === selected) : null },
        columns.map(each => h(each.first ? "th" : "td", { scope: each.first ? "row" : null, class: classes(each) }, each.fill(row))));
    }));
    more.hidden = sorted.length <= shown;
    more.textContent = `Show all ${integer(sorted.length)} rows`;
  }
  /** Scrolls the table's box so that a row is visible. The page does not scroll. */
  function reveal(row) {
    const above = row.offsetTop - head.offsetHeight, below = row.offsetTop + row.offsetHeight - box.clientHeight;
    if (box.scrollTop > above) box.scrollTop = above;
    else if (box.scrollTop < below) box.scrollTop = below;
  }
  draw();
  return {
    nodes: [box, more],
    update(rows) { current = rows; shown = limit; box.scrollTop = 0; draw(); },
    sorted: () => sorted,
    select(key) {
      selected = key;
      if (sorted.findIndex(row => keyOf(row) === key) >= shown) { shown = Infinity; draw(); }
      for (const row of body.rows) {
        const chosen = row.dataset.key === key;
        row.setAttribute("aria-selected", String(chosen));
        if (chosen) reveal(row);
      }
    },
    redraw: draw,
  };
}

/** Makes a column of numbers. `help` is the tooltip of the column's header. */
function numberColumn(key, title, value, show, help) {
  return { key, title, help, number: true, value: row => value(row) ?? null, fill: row => show(value(row)) };
}
const to = digits => number => fixed(number, digits);

// ---- Colours ----------------------------------------------------------------------------------------------------------------------

/** Converts OKLCH to sRGB. In OKLCH, equal steps of lightness look equal for every hue. Hue is in degrees. */
function oklch(lightness, chroma, hue) {
  const a = chroma * Math.cos(hue * Math.PI / 180), b = chroma * Math.sin(hue * Math.PI / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s, -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s].map(linear => {
    const clipped = Math.min(1, Math.max(0, linear));
    return Math.round(255 * (clipped <= 0.0031308 ? 12.92 * clipped : 1.055 * clipped ** (1 / 2.4) - 0.055));
  });
}
function isDark() { return document.documentElement.dataset.theme === "dark"; }

/** Returns the colour for t from 0 to 1. At 0 it is near the page's colour. Lightness changes steadily with t. */
function sequential(t) {
  return isDark() ? oklch(0.27 + 0.63 * t, 0.07 + 0.08 * Math.sin(Math.PI * t), 290 - 185 * t)
    : oklch(0.965 - 0.64 * t, 0.03 + 0.1 * Math.sin(Math.PI * Math.min(1, 0.15 + 0.75 * t)), 110 + 180 * t);
}
/** Returns the colour for t from -1 to 1: blue below 0, the page's colour near 0, orange above 0. */
function diverging(t) {
  const strength = Math.min(1, Math.abs(t)), hue = t < 0 ? 257 : 56;
  return isDark() ? oklch(0.25 + 0.53 * strength, 0.008 + 0.132 * strength, hue)
    : oklch(0.975 - 0.43 * strength, 0.004 + 0.136 * strength, hue);
}
function css(colour) { return `rgb(${colour.join(" ")})`; }
/** Returns black or white, whichever is more legible on a colour. */
function inkOn(colour) {
  const [r, g, b] = colour.map(value => (value / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.2 ? "#111" : "#fff";
}
function painted(colour) { return { background: css(colour), color: inkOn(colour) }; }

/** Makes a legend: a strip of a palette with ticks below. */
function scaleStrip(label, palette, from, ticks) {
  const strip = h("canvas", { width: 240, height: 1, "aria-hidden": "true" });
  const context = strip.getContext("2d");
  for (let x = 0; x < 240; x++) {
    context.fillStyle = css(palette(from + (1 - from) * x / 239));
    context.fillRect(x, 0, 1, 1);
  }
  return h("div", { class: "scale" }, h("span", {}, label), strip, h("span", { class: "ticks" }, ticks.map(tick => h("span", {}, tick))));
}

const onTheme = [];
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", theme === "dark" ? "Switch to light colours" : "Switch to dark colours");
  for (const draw of onTheme) draw();
}
function startTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  // Some browsers store no settings for a page that is a local file. Then the choice lasts until the page is closed.
  let chosen = null;
  try { chosen = localStorage.getItem("sae-extract-theme"); } catch { /* no storage */ }
  if (chosen !== "light" && chosen !== "dark") chosen = null;
  setTheme(chosen || (system.matches ? "dark" : "light"));
  system.addEventListener("change", () => { if (!chosen) setTheme(system.matches ? "dark" : "light"); });
  byId("theme").addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    try { localStorage.setItem("sae-extract-theme", chosen); } catch { /* no storage */ }
    setTheme(chosen);
  });
  let before = null;                                // the theme to restore after printing; pages are printed in the light theme
  addEventListener("beforeprint", () => { before = document.documentElement.dataset.theme; setTheme("light"); });
  addEventListener("afterprint", () => { if (before) setTheme(before); });
}

// ---- Run --------------------------------------------------------------------------------------------------------------------------

function renderRun() {
  byId("run-title").textContent = data.model;
  const documents = sum(authors.map(author => author.documents));
  const totals = [["authors", authors.length], ["documents", documents], ["tokens", allTokens], ["SAEs", saes.length]];
  const device = data.device === "cuda" ? (data.devices || []).join(", ") || "CUDA" : "CPU";
  const facts = [
    ["Results in", h("bdi", {}, data.save_dir)],
    ["Run", period(data.started, data.finished)],
    ["Device", device],
    ["Kernels", (data.kernels || []).join(", ") || "–"],
    ["Arithmetic", `${data.dtype}; ${data.reproducible ? "reproducible" : "not reproducible"}`],
    ["A feature fires", `if its activation is above ${data.threshold}`],
    ["Files record", raw ? "activations" : "whether a feature fires"],
    ["Cut at", `${integer(data.max_seq_len)} tokens per document`],
    ["Prefix", data.prefix ? h("bdi", { dir: "auto" }, `“${data.prefix}”`) : "none"],
    ["Written by", `sae-extract ${data.tool}`],
  ];
  const warnings = [...(data.notes || [])];
  if (data.reproducible === false) warnings.unshift("This run is not reproducible to the byte: see its run.json.");
  if (!data.finished) warnings.unshift("This run has not finished: this page shows only the results that it has written so far.");
  const command = (data.command || []).map(quoted).join(" ");
  const copy = h("button", { type: "button", onclick: () => copyText(command, pre, copy) }, "Copy");
  const pre = h("pre", { tabindex: "0", "aria-label": "Command" }, command);
  byId("run-body").append(
    h("dl", { class: "totals" }, totals.map(([name, number]) => h("div", {}, h("dt", {}, name), h("dd", {}, integer(number))))),
    ...warnings.map(text => h("p", { class: "warning", role: "note", dir: "auto" }, text)),
    h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    command ? h("div", { class: "command" }, pre, copy) : "");
  byId("footer").textContent = "Positions and documents are counted from 0, as in the run’s arrays. <bos> and the prefix are not counted.";
}

function period(started, finished) {
  if (!started) return "–";
  const day = time => time.replace("T", " ").replace(/(:\d\d)(\.\d+)?Z$/, "$1");
  if (!finished) return `${day(started)} UTC, not finished`;
  const seconds = Math.round((Date.parse(finished) - Date.parse(started)) / 1000);
  const parts = [[Math.floor(seconds / 3600), "h"], [Math.floor(seconds / 60) % 60, "min"], [seconds % 60, "s"]]
    .filter(part => part[0] > 0).slice(0, 2);
  return `${day(started)} UTC, ${parts.map(part => part.join("\u00a0")).join(" ") || "under 1\u00a0s"}`;
}

async function copyText(text, element, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren(element);      // without the clipboard, the user copies the selected text
    button.textContent = "Selected";
    return;
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

// ---- Authors ----------------------------------------------------------------------------------------------------------------------

function renderAuthors() {
  const body = byId("authors-body");
  if (!authors.length) { body.append(h("p", { class: "empty" }, "The run has no authors yet.")); return; }
  const losses = [["cross_entropy", "Cross-entropy"], ["entropy", "Entropy"]];
  const columns = [
    { key: "name", title: "Author", first: true, value: row => row.name.toLowerCase(), fill: row => bdi(row.name) },
    ...[["documents", "Documents", "documents of this author"], ["tokens", "Tokens", "tokens computed, without <bos>"],
      ["truncated", "Truncated", `documents cut to ${data.max_seq_len} tokens`]].map(([key, title, help]) =>
      numberColumn(key, title, row => row[key], integer, help)),
  ];
  for (const [key, title] of losses) {
    const bin = data.bins[key];
    const highest = Math.max(1e-9, ...authors.map(author => tallest(author[key])));
    columns.push(
      numberColumn(key + ".mean", `${title} mean`, row => row[key]?.mean, to(3)),
      { ...numberColumn(key + ".p50", "median", row => row[key]?.p50, to(3)), name: `${title} median` },
      { key: key + ".plot", title: `${title}, nats`, class: "plot", under: () => axis(bin),
        fill: row => distribution(row, key, title, bin, highest) });
  }
  const table = makeTable({
    id: "authors-table", label: "Authors", columns, keyOf: row => row.index,
    rows: authors.map((author, index) => ({ ...author, index })) });
  body.append(
    h("p", { class: "lede" },
      "The model’s loss on each author’s tokens, in nats. Cross-entropy says how unlikely a token was for the model. ",
      "Entropy says how uncertain the model was about the next token. All authors have the same scale. Heights are square roots ",
      "of shares of tokens, so that a long tail is visible beside the peak at 0."),
    h("ul", { class: "legend" },
      h("li", {}, svg("svg", { viewBox: "0 0 26 14" }, svg("line", { class: "range", x1: 1, x2: 25, y1: 7, y2: 7 })), "5–95 % of tokens"),
      h("li", {}, svg("svg", { viewBox: "0 0 26 14" }, svg("line", { class: "box", x1: 3, x2: 23, y1: 7, y2: 7 })), "25–75 %"),
      h("li", {}, svg("svg", { viewBox: "0 0 26 14" }, svg("circle", { class: "median", cx: 13, cy: 7, r: 3.5 })), "median")),
    ...table.nodes);
}

const PLOT = { width: 200, height: 48, floor: 36 };
function tallest(stats) {
  const total = sum(stats?.histogram || []);
  return total ? Math.sqrt(Math.max(...stats.histogram) / total) : 0;
}
function axis(bin) {
  const x = value => PLOT.width * (value - bin.from) / (bin.to - bin.from);
  return svg("svg", { class: "axis", viewBox: `0 0 ${PLOT.width} 16`, "aria-hidden": "true" }, niceTicks(bin.from, bin.to, 5).map(tick =>
    svg("text", { x: x(tick), y: 12, "text-anchor": tick === bin.from ? "start" : tick >= bin.to ? "end" : "middle" }, String(tick))));
}

function distribution(author, key, title, bin, highest) {
  const stats = author[key];
  const total = sum(stats?.histogram || []);
  if (!total) return h("span", { class: "quiet" }, "no tokens");
  const step = (bin.to - bin.from) / bin.count;
  const x = value => PLOT.width * Math.min(1, Math.max(0, (value - bin.from) / (bin.to - bin.from)));
  let outline = `M0 ${PLOT.floor}`;
  stats.histogram.forEach((each, index) => {
    const y = PLOT.floor - (PLOT.floor - 1) * Math.sqrt(each / total) / highest;
    outline += `V${y.toFixed(2)}H${(PLOT.width * (index + 1) / bin.count).toFixed(2)}`;
  });
  const summary = `5 % ${fixed(stats.p5, 2)}, 25 % ${fixed(stats.p25, 2)}, median ${fixed(stats.p50, 2)}, 75 % ${fixed(stats.p75, 2)}, ` +
    `95 % ${fixed(stats.p95, 2)}, largest ${fixed(stats.max, 2)} nats`;
  const y = 42;
  const plot = svg("svg", {
    class: "distribution", viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${title}: ${summary}` },
    niceTicks(bin.from, bin.to, 5).map(tick => svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: 0, y2: PLOT.height })),
    svg("path", { class: "shape", d: `${outline}V${PLOT.floor}Z` }),
    svg("line", { class: "range", x1: x(stats.p5), x2: x(stats.p95), y1: y, y2: y }),
    svg("line", { class: "box", x1: x(stats.p25), x2: x(stats.p75), y1: y, y2: y }),
    svg("circle", { class: "median", cx: x(stats.p50), cy: y, r: 3.2 }));
  return withTip(plot, event => {
    const { left, width } = plot.getBoundingClientRect();
    const index = Math.min(bin.count - 1, Math.max(0, Math.floor((event.clientX - left) / width * bin.count)));
    const from = bin.from + index * step;
    const range = index === bin.count - 1 ? `${fixed(from, 2)} nats and above` : `${fixed(from, 2)}–${fixed(from + step, 2)} nats`;
    return `${isolated(author.name)}\n${range}: ${percent(stats.histogram[index] / total)} of tokens\n${summary}`;
  });
}

// ---- L0 ---------------------------------------------------------------------------------------------------------------------------

const siteNames = [...new Set(saes.map(sae => sae.site))];
const layersOf = site => saes.map((sae, index) => ({ sae, index })).filter(each => each.sae.site === site)
  .sort((a, b) => a.sae.layer - b.sae.layer);

function renderSparsity() {
  const body = byId("sparsity-body");
  if (!saes.length) { body.append(h("p", { class: "empty" }, "The run has no SAEs.")); return; }
  const highest = Math.max(1, ...saes.map(sae => Math.max(sae.l0?.p95 || 0, sae.l0?.mean || 0, sae.published_l0 || 0)));
  const small = children => svg("svg", { viewBox: "0 0 26 14" }, children);
  const columns = [
    { key: "sae", title: "SAE", first: true, value: row => row.index, fill: row => `${saeLabel(row.sae)}` },
    { key: "name", title: "Name", value: row => row.sae.sae_name, fill: row => bdi(row.sae.sae_name) },
    numberColumn("published", "Published L0", row => row.sae.published_l0, integer),
    numberColumn("mean", "Mean L0", row => row.sae.l0?.mean, to(1)),
    ...[["p5", "5 %"], ["p50", "median"], ["p95", "95 %"], ["max", "largest"]].map(([key, title]) =>
      numberColumn(key, title, row => row.sae.l0?.[key], integer)),
    numberColumn("alive", "Features alive", row => row.sae.alive, integer, "features that fire at least once in this run"),
    { key: "share", title: "of all", number: true, value: row => ratio(row.sae.alive, row.sae.d_sae),
      fill: row => known(row.sae.alive) ? `${fixed(100 * row.sae.alive / row.sae.d_sae, 1)}\u00a0% of ${integer(row.sae.d_sae)}` : "–" },
  ];
  const table = makeTable({
    id: "saes-table", label: "SAEs", columns, rows: saes.map((sae, index) => ({ sae, index })), keyOf: row => row.index, low: true });
  const matrix = h("div");
  body.append(
    h("p", { class: "lede" },
      `The number of features of each SAE that fire at a token (activation above ${data.threshold}), over all authors, and the `,
      "published L0 of the SAE. ",
      "If the mean is far from the published L0, the text or the tapped activations differ from the SAE’s training data."),
    h("div", { class: "panels" }, siteNames.map(site => l0Panel(site, highest))),
    h("ul", { class: "legend" },
      h("li", {}, small(svg("circle", { class: "l0-mean", cx: 13, cy: 7, r: 4 })), "mean"),
      h("li", {}, small(svg("line", { class: "l0-range", x1: 1, x2: 25, y1: 7, y2: 7 })), "5–95 % of tokens"),
      h("li", {}, small(svg("line", { class: "l0-box", x1: 3, x2: 23, y1: 7, y2: 7 })), "25–75 %"),
      h("li", {}, small(svg("line", { class: "l0-published", x1: 4, x2: 22, y1: 7, y2: 7 })), "published")),
    ...table.nodes, matrix);
  const draw = () => matrix.replaceChildren(...l0Matrix());
  draw();
  onTheme.push(draw);
}

function l0Panel(site, highest) {
  const list = layersOf(site), width = 380, height = 215, left = 34, bottom = 34, top = 8;
  const each = (width - left - 6) / list.length;
  const y = value => top + (height - top - bottom) * (1 - value / (highest * 1.04));
  const every = Math.ceil(list.length / 14);
  const parts = niceTicks(0, highest * 1.04, 5).flatMap(tick => [
    svg("line", { class: "grid", x1: left, x2: width, y1: y(tick), y2: y(tick) }),
    svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick))]);
  list.forEach(({ sae }, index) => {
    const x = left + each * (index + 0.5), l0 = sae.l0 || {}, reach = Math.min(9, each * 0.4);
    if (known(l0.p5) && known(l0.p95)) parts.push(svg("line", { class: "l0-range", x1: x, x2: x, y1: y(l0.p5), y2: y(l0.p95) }));
    if (known(l0.p25) && known(l0.p75)) parts.push(svg("line", { class: "l0-box", x1: x, x2: x, y1: y(l0.p25), y2: y(l0.p75) }));
    if (known(sae.published_l0)) {
      const level = y(sae.published_l0);
      parts.push(svg("line", { class: "l0-published", x1: x - reach, x2: x + reach, y1: level, y2: level }));
    }
    if (known(l0.mean)) parts.push(svg("circle", { class: "l0-mean", cx: x, cy: y(l0.mean), r: 4 }));
    if (index % every === 0) parts.push(svg("text", { x, y: height - bottom + 16, "text-anchor": "middle" }, String(sae.layer)));
    parts.push(withTip(svg("rect", { class: "l0-hit", x: x - each / 2, y: 0, width: each, height: height - bottom }),
      `${saeLabel(sae)}: ${sae.sae_name}\nmean ${fixed(l0.mean, 1)}, median ${integer(l0.p50)}, ` +
      `5–95 % ${integer(l0.p5)}–${integer(l0.p95)}, largest ${integer(l0.max)}\n` +
      `published ${fixed(sae.published_l0, 0)}; ${integer(sae.alive)} of ${integer(sae.d_sae)} features alive`));
  });
  parts.push(svg("text", { x: left + (width - left) / 2, y: height - 3, "text-anchor": "middle" }, "layer"));
  const words = list.map(({ sae }) => `layer ${sae.layer}: ${fixed(sae.l0?.mean, 1)}, published ${fixed(sae.published_l0, 0)}`).join("; ");
  return h("figure", {}, h("figcaption", {}, site, h("span", {}, SITES[site] ? `  ${SITES[site]}` : "")),
    svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Mean L0 of ${site}. ${words}` }, parts));
}

/** Makes a table with a row for each author and a column for each SAE. `cell` makes the td of an author and an SAE. */
function authorMatrix(id, label, cell) {
  const columns = siteNames.flatMap(site => layersOf(site).map((each, order) => ({ ...each, edge: order === 0 })));
  const box = { class: `${scrollClass(authors.length)} fitting`, tabindex: "0", role: "region", "aria-label": label };
  return h("div", box, h("table", { class: "matrix", id, "aria-label": label },
    h("thead", {},
      h("tr", {}, h("th", { class: "first" }),
        siteNames.map(site => h("th", { colspan: layersOf(site).length, class: "edge", scope: "colgroup" }, site))),
      h("tr", {}, h("th", { class: "first", scope: "col" }, "Author"),
        columns.map(each => h("th", { class: each.edge ? "edge" : null, scope: "col" }, String(each.sae.layer))))),
    h("tbody", {}, authors.map((author, row) => h("tr", { "data-key": row }, h("th", { class: "first", scope: "row" }, bdi(author.name)),
      columns.map(each => {
        const td = cell(row, each.index);
        if (each.edge) td.classList.add("edge");
        return td;
      }))))));
}

function l0Matrix() {
  if (authors.length < 2) return [];
  const deviation = (author, sae) => {
    const value = sae.l0_by_author?.[author];
    return known(value) && sae.l0?.mean > 0 ? value / sae.l0.mean - 1 : null;
  };
  const all = saes.flatMap(sae => authors.map((_, author) => Math.abs(deviation(author, sae) || 0)));
  const reach = Math.max(0.05, Math.ceil(20 * Math.max(...all)) / 20);
  const end = `${fixed(100 * reach, 0)}\u00a0%`;
  return [
    h("h3", {}, "Mean L0 by author"),
    scaleStrip("difference from the SAE’s mean over all tokens", diverging, -1, [`\u2212${end}`, "0", `+${end}`]),
    authorMatrix("l0-table", "Mean L0 by author and SAE", (author, index) => {
      const value = saes[index].l0_by_author?.[author], by = deviation(author, saes[index]);
      const text = h("span", {}, fixed(value, known(value) && value >= 100 ? 0 : 1));
      if (by === null) return h("td", { class: "quiet" }, text);
      return withTip(h("td", { style: painted(diverging(by / reach)) }, text),
        () => `${authorName(author)}, ${saeLabel(saes[index])}: ${fixed(value, 2)}, ` +
          `${by < 0 ? "\u2212" : "+"}${fixed(100 * Math.abs(by), 1)} % from the mean ${fixed(saes[index].l0.mean, 2)}`);
    }),
  ];
}

// ---- Contrast ---------------------------------------------------------------------------------------------------------------------

const MEASURES = {
  logOdds: { title: "Log-odds", of: logOddsOf },
  z: { title: "z", of: zOf },
  rate: { title: "Rate", of: (feature, author) => ratio(feature.counts[author], authors[author].tokens) },
};
const view = { sae: 0, measure: comparable ? "logOdds" : "rate", author: "", number: "", text: "", firing: true, chosen: null };
const HEAT_MOST = 120;                              // maximum number of columns of the heat map: more would be too narrow
let contrast = null;

function renderContrast() {
  const body = byId("contrast-body");
  if (!saes.length) { body.append(h("p", { class: "empty" }, "The run has no SAEs.")); return; }
  const start = saes.findIndex((_, index) => entriesOf(index).length);
  view.sae = Math.max(0, start);

  const saeSelect = h("select", { id: "sae", onchange: event => { view.sae = Number(event.target.value); refresh(); } },
    saes.length > 1 ? h("option", { value: ALL }, "all SAEs") : "",
    siteNames.map(site => h("optgroup", { label: SITES[site] ? `${site}: ${SITES[site]}` : site },
      layersOf(site).map(({ sae, index }) => h("option", { value: index },
        `${saeLabel(sae)} (${count((sae.features || []).length, "feature", "features")})`)))));
  const authorSelect = h("select", { id: "by-author", onchange: event => { view.author = event.target.value; refresh(); } },
    h("option", { value: "" }, "any author"), authors.map((author, index) => h("option", { value: index }, shorten(author.name, 40))));
  const typed = (id, key, properties) => h("input", { id, type: "search", autocomplete: "off", spellcheck: "false", ...properties,
    oninput: event => { view[key] = event.target.value; refresh(); } });
  const measures = h("div", { class: "choices", role: "group", "aria-label": "Measure" }, Object.entries(MEASURES)
    .filter(([key]) => comparable || key === "rate")
    .map(([key, measure]) =>
      h("button", { type: "button", "data-measure": key, onclick: () => { view.measure = key; refresh(); } }, measure.title)));

  const overview = h("div");
  const heat = makeHeat();
  const status = h("p", { class: "quiet", role: "status", id: "features-status" });
  const empty = h("p", { class: "empty", hidden: true });
  const columns = [
    { key: "feature", title: "Feature", first: true, value: row => view.sae === ALL ? row.sae * 1e7 + row.feature.id : row.feature.id,
      fill: row => h("a", { href: `#${row.key}` }, (view.sae === ALL ? `${saeLabel(saes[row.sae])} · ` : "") + row.feature.id) },
    ...(comparable ? [
      { key: "author", title: "Marks", help: "the author with the largest z",
        value: row => row.best < 0 ? null : authors[row.best].name.toLowerCase(),
        fill: row => row.best < 0 ? "–" : h("span", { class: "name" }, bdi(authors[row.best].name)) },
      numberColumn("there", "Rate there", row => row.there, percent, "share of that author’s tokens at which it fires"),
      numberColumn("elsewhere", "Rate elsewhere", row => row.elsewhere, percent, "share of all other authors’ tokens"),
      numberColumn("logOdds", "Log-odds", row => row.logOdds, to(2), "log odds ratio of firing, that author against all others"),
      numberColumn("z", "z", row => row.z, to(1), "log-odds divided by its standard error, as if tokens were independent"),
      { key: "documentsThere", title: "Documents there", help: "that author’s documents in which it fires", number: true,
        value: row => row.best < 0 ? null : row.feature.documents[row.best],
        fill: row => row.best < 0 ? "–" : `${integer(row.feature.documents[row.best])} of ${integer(authors[row.best].documents)}` },
    ] : [
      numberColumn("rate", "Rate", row => ratio(row.total, allTokens), percent, "share of tokens at which it fires"),
    ]),
    numberColumn("documents", "Documents", row => row.documents, integer, "documents of all authors in which it fires"),
    numberColumn("total", "Tokens", row => row.total, integer, "tokens of all authors at which it fires"),
    { key: "tokens", title: "Fires at, in its contexts", class: "tokens",
      fill: row => firingTokens(row.feature).slice(0, 4).map(token => h("bdi", { dir: "auto" }, tokenNodes(shorten(token, 18)))) },
  ];
  const table = makeTable({
    id: "features-table", label: "Features", columns, rows: [], keyOf: row => row.key, limit: 100, low: true, choose });

  body.append(
    comparable
      ? h("p", { class: "lede" },
        "Log-odds compare the odds that a feature fires at an author’s token with those at all other authors’ tokens ",
        "(natural logarithm; 0: no difference). ",
        "z is log-odds divided by its standard error, as if tokens were independent. Tokens of one document are not independent, so ",
        h("strong", {}, "z overstates how certain a difference is"),
        ". Look also at the number of documents in which a feature fires. ",
        "The features shown are the best of each SAE, chosen on this same text.")
      : h("p", { class: "warning", role: "note" },
        "Log-odds and z compare authors, and need at least two authors with tokens. This run has fewer, so only rates are shown."),
    comparable ? overview : "",
    h("h3", {}, "Features of an SAE"),
    h("div", { class: "controls" },
      h("label", {}, "SAE", saeSelect),
      comparable ? h("div", { class: "field" }, h("span", {}, "Colour shows"), measures) : "",
      comparable ? h("label", {}, "Marks author", authorSelect) : "",
      h("label", {}, "Feature number", typed("by-number", "number", { inputmode: "numeric", placeholder: "begins with", class: "short" })),
      h("label", {}, "Text", typed("by-text", "text", { placeholder: "in its contexts" })),
      h("label", { class: "check" },
        h("input", { id: "firing", type: "checkbox", checked: view.firing,
          onchange: event => { view.firing = event.target.checked; refresh(); } }),
        "only tokens that fire")),
    heat.node, status, empty, ...table.nodes);

  let rows = [];
  function refresh() {
    rows = filtered();
    saeSelect.value = String(view.sae);
    for (const button of measures.children) button.setAttribute("aria-pressed", String(button.dataset.measure === view.measure));
    const available = entriesOf(view.sae).length;
    const none = rows.length === 0;
    empty.hidden = !none;
    empty.textContent = available ? "No feature matches these filters."
      : comparable ? "No feature of this SAE tells the authors apart, so none is in the data." : "No feature of this SAE is in the data.";
    for (const node of [heat.node, ...table.nodes]) node.hidden = none;
    status.hidden = none;
    status.textContent = `${integer(rows.length)} of ${count(available, "feature", "features")}` +
      (rows.length > HEAT_MOST ? `; the heat map shows the ${HEAT_MOST} that come first in the data` : "");
    table.update(rows);
    heat.update(rows.slice(0, HEAT_MOST));
    select();
  }
  function select() {
    table.select(view.chosen);
    heat.draw();
    for (const td of overview.querySelectorAll("td[data-feature]")) td.classList.toggle("chosen", td.dataset.feature === view.chosen);
  }
  contrast = { refresh, select, order: () => table.sorted() };
  const drawOverview = () => { overview.replaceChildren(...overviewNodes()); select(); };
  if (comparable) { drawOverview(); onTheme.push(drawOverview); }
  onTheme.push(() => heat.update(rows.slice(0, HEAT_MOST)));
}

function filtered() {
  const number = view.number.trim(), text = view.text.toLowerCase();
  return entriesOf(view.sae).filter(entry =>
    (view.author === "" || entry.best === Number(view.author)) &&
    (number === "" || String(entry.feature.id).startsWith(number)) &&
    (text === "" || searchText(entry.feature)[view.firing ? "firing" : "all"].includes(text)));
}

/** Makes the overview: for each author and each SAE, the feature with the largest z. */
function overviewNodes() {
  const best = saes.map((_, index) => authors.map((_, author) => {
    let found = null;
    for (const entry of entriesOf(index)) {
      const z = zOf(entry.feature, author);
      if (z > 0 && (!found || z > found.feature.z[author])) found = entry;
    }
    return found;
  }));
  const values = best.flatMap(column => column.map((entry, author) => entry ? entry.feature.log_odds[author] : 0));
  const reach = Math.max(1, Math.ceil(Math.max(...values)));
  return [
    h("h3", {}, "Best feature of each author in every SAE"),
    scaleStrip("numbers: the feature with the largest z; colour: its log-odds", diverging, 0,
      ["0", fixed(reach / 2, reach % 2), String(reach)]),
    authorMatrix("best-table", "Best feature of each author in every SAE", (author, index) => {
      const entry = best[index][author];
      if (!entry) return h("td", { class: "quiet" }, h("span", {}, "–"));
      const value = entry.feature.log_odds[author];
      const td = h("td", { "data-feature": entry.key, style: painted(diverging(value / reach)) },
        h("a", { href: `#${entry.key}` }, String(entry.feature.id)));
      return withTip(td, () => `${saeLabel(saes[index])}, feature ${entry.feature.id}\n${sentence(entry, author)}\ntokens: ${fewTokens(entry, 4)}`);
    }),
  ];
}

function sentence(entry, author) {
  const { feature } = entry, tokens = authors[author].tokens;
  if (!(tokens > 0)) return `${authorName(author)} has no tokens`;
  const here = `${authorName(author)}: fires at ${percent(feature.counts[author] / tokens)} of ${count(tokens, "token", "tokens")}`;
  if (!comparable) return here;
  return `${here} (elsewhere ${percent(ratio(entry.total - feature.counts[author], allTokens - tokens))}), ` +
    `in ${integer(feature.documents[author])} of ${count(authors[author].documents, "document", "documents")}; ` +
    `log-odds ${fixed(feature.log_odds[author], 2)}, z ${fixed(feature.z[author], 1)}`;
}

/** Makes the heat map of authors by features. It is a canvas, because thousands of elements would make the filters slow. */
function makeHeat() {
  const names = h("ol", { "aria-hidden": "true" }, authors.map(author => h("li", {}, bdi(author.name))));
  const canvas = h("canvas", { id: "heat", tabindex: "0", role: "img",
    "aria-label": "Heat map of authors by features. Arrow keys move, Enter chooses the feature; the line below describes the cell." });
  const across = h("div", { class: "across" }, canvas);
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const legend = h("div");
  const node = h("div", {}, legend, h("div", { class: "heat" }, names, across), readout);
  const high = authors.length > 24 ? 14 : 19;
  let columns = [], places = [], width = 10, cursor = null, colourOf = () => null;
  for (const name of names.children) { name.style.height = `${high}px`; name.style.lineHeight = `${high}px`; }

  function update(rows) {
    // Sorts the features so that those that mark the same author are adjacent.
    columns = rows.map((entry, order) => ({ entry, order }))
      .sort((a, b) => (a.entry.best < 0) - (b.entry.best < 0) || a.entry.best - b.entry.best
        || compare(b.entry.z, a.entry.z) || a.order - b.order).map(each => each.entry);
    move(null);
    scale();
    layOut();
  }

  function scale() {
    const measure = MEASURES[view.measure];
    if (view.measure === "rate") {
      const values = columns.flatMap(entry => authors.map((_, author) => measure.of(entry.feature, author)));
      // Rates differ by up to a factor of 10,000, so the colour follows their logarithm. A rate of 0 has no colour.
      const some = values.filter(value => value > 0);
      const from = Math.log10(Math.min(...some)), to = Math.log10(Math.max(...some));
      colourOf = value => value > 0 ? sequential(to > from ? (Math.log10(value) - from) / (to - from) : 1) : null;
      const middle = 10 ** ((from + to) / 2);
      legend.replaceChildren(scaleStrip("share of an author’s tokens, logarithmic; blank: never", sequential, 0,
        some.length ? [10 ** from, middle, 10 ** to].map(value => `${Number((100 * value).toPrecision(2))}\u00a0%`) : []));
      return;
    }
    // The scale ends at the 90th percentile of the features' largest absolute values. Otherwise a few extreme
    // features would make all others pale.
    const sizes = columns.map(entry => Math.max(0, ...authors.map((_, author) => Math.abs(measure.of(entry.feature, author) || 0))))
      .sort((a, b) => a - b);
    const wanted = sizes[Math.floor(0.9 * (sizes.length - 1))] || 1;
    const reach = niceTicks(0, wanted * 1.999, 1).find(tick => tick >= wanted) || wanted;
    const limit = wanted > 10 ? Math.ceil(wanted / 5) * 5 : wanted > 1 ? Math.ceil(wanted * 2) / 2 : reach;
    colourOf = value => known(value) ? diverging(value / limit) : null;
    const text = String(Number(limit.toPrecision(3)));
    legend.replaceChildren(scaleStrip(
      `${measure.title}; blue: fires less often than at others’ tokens, orange: more often`, diverging, -1,
      [`\u2264\u00a0\u2212${text}`, "0", `\u2265\u00a0${text}`]));
  }

  function layOut() {
    const room = across.clientWidth || 900;
    const groups = new Set(columns.map(entry => entry.best)).size;
    const gap = comparable && groups > 1 ? groups > 20 ? 1 : 4 : 0;
    width = Math.max(5, Math.min(26, Math.floor((room - gap * (groups - 1)) / Math.max(1, columns.length))));
    let x = 0;
    places = columns.map((entry, index) => {
      if (index && entry.best !== columns[index - 1].best) x += gap;
      const place = x;
      x += width;
      return place;
    });
    const total = Math.max(1, x), dots = devicePixelRatio || 1;
    canvas.width = Math.round(total * dots);
    canvas.height = Math.round(authors.length * high * dots);
    canvas.style.width = `${total}px`;
    canvas.style.height = `${authors.length * high}px`;
    draw();
  }

  function draw() {
    const context = canvas.getContext("2d"), dots = devicePixelRatio || 1, measure = MEASURES[view.measure];
    const style = getComputedStyle(document.documentElement);
    context.setTransform(dots, 0, 0, dots, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const seam = width > 7 ? 1 : 0;
    columns.forEach((entry, column) => authors.forEach((_, author) => {
      const colour = colourOf(measure.of(entry.feature, author));
      if (!colour) return;
      context.fillStyle = css(colour);
      context.fillRect(places[column], author * high, width - seam, high - 1);
    }));
    context.lineWidth = 2;
    context.strokeStyle = style.getPropertyValue("--ink");
    const chosen = columns.findIndex(entry => entry.key === view.chosen);
    if (chosen >= 0) context.strokeRect(places[chosen] + 0.5, 1, width - seam - 1, authors.length * high - 3);
    if (cursor) context.strokeRect(places[cursor.column] + 0.5, cursor.author * high + 0.5, width - seam - 1, high - 2);
    for (const [index, name] of [...names.children].entries()) name.classList.toggle("here", cursor?.author === index);
  }

  function move(to) {
    cursor = to;
    draw();
    if (!to) {
      readout.replaceChildren(h("span", { class: "quiet" },
        "Point at a cell to read it, or use the arrow keys; a click or Enter chooses the feature."));
      return;
    }
    const entry = columns[to.column];
    readout.textContent = `${saeLabel(saes[entry.sae])}, feature ${entry.feature.id}. ${sentence(entry, to.author)}. ` +
      `Tokens: ${fewTokens(entry, 3)}`;
  }
  function at(event) {
    const box = canvas.getBoundingClientRect();
    const x = event.clientX - box.left, author = Math.floor((event.clientY - box.top) / high);
    const column = places.findIndex(place => x >= place && x < place + width);
    return column >= 0 && author >= 0 && author < authors.length ? { column, author } : null;
  }
  canvas.addEventListener("focus", () => {
    if (!cursor && columns.length && canvas.matches(":focus-visible")) move({ column: 0, author: 0 });
  });
  canvas.addEventListener("pointermove", event => { const to = at(event); if (to) move(to); });
  canvas.addEventListener("pointerleave", () => { if (document.activeElement !== canvas) move(null); });
  canvas.addEventListener("click", event => { const to = at(event); if (to) { move(to); choose(columns[to.column].key); } });
  canvas.addEventListener("blur", () => move(null));
  canvas.addEventListener("keydown", event => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter" && cursor) { choose(columns[cursor.column].key); event.preventDefault(); }
    if (!steps || !columns.length) return;
    event.preventDefault();
    const from = cursor || { column: 0, author: 0 };
    const to = cursor ? { column: from.column + steps[0], author: from.author + steps[1] } : from;
    move({ column: Math.min(columns.length - 1, Math.max(0, to.column)), author: Math.min(authors.length - 1, Math.max(0, to.author)) });
    across.scrollLeft = Math.min(places[cursor.column], Math.max(across.scrollLeft, places[cursor.column] + width - across.clientWidth));
  });
  let room = 0;
  new ResizeObserver(() => { if (across.clientWidth !== room) { room = across.clientWidth; layOut(); } }).observe(across);
  return { node, update, draw };
}

// ---- A feature --------------------------------------------------------------------------------------------------------------------

let stepping = false;
const panel = {};

/** Shows a feature by changing the page's address. So a feature can be linked, and the back button shows the previous feature. */
function choose(key) {
  if (location.hash === `#${key}`) arrive(true);
  else location.hash = key;
}

function startFeature() {
  const step = by => () => {
    const order = contrast ? contrast.order() : [];
    const next = order[order.findIndex(entry => entry.key === view.chosen) + by];
    if (!next) return;
    stepping = true;
    location.replace(`#${next.key}`);               // no history entry: the back button skips all steps
  };
  panel.previous = h("button", { type: "button", id: "previous", onclick: step(-1) }, "← Previous");
  panel.next = h("button", { type: "button", id: "next", onclick: step(1) }, "Next →");
  panel.about = h("p", { id: "feature-about" });
  panel.body = h("div");
  byId("feature-body").append(
    h("div", { class: "feature-head" }, panel.about, h("div", { class: "steps" }, panel.previous, panel.next)), panel.body);
  addEventListener("hashchange", () => arrive(false));
  arrive(false, true);
}

function arrive(again, first) {
  const match = /^#([a-z]+)-(\d+)-(\d+)$/.exec(location.hash);
  if (!match) {
    // The address names no feature: the shown feature stays. When the page is opened, the first feature is shown.
    if (!view.chosen && first) show(view.sae, saes.length ? entriesOf(view.sae)[0]?.feature.id : undefined);
    return;
  }
  const index = saes.findIndex(sae => sae.site === match[1] && String(sae.layer) === match[2]);
  show(index, Number(match[3]));
  const stay = stepping && !again;
  stepping = false;
  if (stay) return;
  byId("feature").scrollIntoView();
  if (!first) byId("feature-title").focus({ preventScroll: true });
}

function show(index, id) {
  const sae = saes[index];
  const entry = sae && entriesOf(index).find(each => each.feature.id === id);
  view.chosen = entry ? entry.key : null;
  if (sae && contrast) {
    if (view.sae !== ALL && view.sae !== index) { view.sae = index; contrast.refresh(); } else contrast.select();
    const order = contrast.order(), place = order.findIndex(each => each.key === view.chosen);
    panel.previous.disabled = place <= 0;
    panel.next.disabled = place < 0 || place + 1 >= order.length;
  }
  byId("feature-title").textContent = sae && known(id) ? `Feature ${id}` : "A feature";
  panel.about.replaceChildren(...aboutNodes(sae, id));
  if (entry) panel.body.replaceChildren(...featureNodes(entry));
  else if (!sae && known(id)) panel.body.replaceChildren(h("p", { class: "empty" }, "This run has no SAE for this site and layer."));
  else if (known(id)) panel.body.replaceChildren(h("p", { class: "empty" },
    "This feature is not in the report, which has only the features that tell authors apart best."));
  else panel.body.replaceChildren(h("p", { class: "empty" }, "The data have no feature."));
}

function aboutNodes(sae, id) {
  if (!sae || !known(id)) return [];
  const nodes = [`${sae.hook}, `, h("bdi", {}, sae.sae_name)];
  if (sae.neuronpedia) {
    const path = sae.neuronpedia.split("/").map(encodeURIComponent).join("/");
    const address = `https://www.neuronpedia.org/${path}/${id}`;
    nodes.push(" · ", h("a", { id: "neuronpedia", href: address, target: "_blank", rel: "noopener noreferrer" }, "Neuronpedia"));
  } else if (sae.neuronpedia_note) {
    nodes.push(" · ", h("span", { class: "quiet", id: "neuronpedia-note" }, `Neuronpedia: ${sae.neuronpedia_note}`));
  }
  return nodes;
}

function featureNodes(entry) {
  const { feature } = entry;
  const words = [`Fires at ${percent(ratio(entry.total, allTokens))} of all tokens (${integer(entry.total)}), ` +
    `in ${count(entry.documents, "document", "documents")}.`];
  if (entry.best >= 0) words.push(` It marks `, h("strong", {}, bdi(authors[entry.best].name)), ` most.`);
  const rows = authors.map((author, index) => ({ index, name: author.name, rate: ratio(feature.counts[index], author.tokens) }));
  const most = Math.max(...rows.map(row => row.rate || 0), 1e-12);
  const columns = [
    { key: "name", title: "Author", first: true, value: row => row.name.toLowerCase(), fill: row => bdi(row.name) },
    { key: "bar", title: "", class: "bar",
      fill: row => row.rate > 0 ? h("div", { style: { width: `${(100 * row.rate / most).toFixed(2)}%` } }) : "" },
    numberColumn("rate", "Rate", row => row.rate, percent, "share of the author’s tokens at which it fires"),
    numberColumn("counts", "Tokens", row => feature.counts[row.index], integer, "tokens at which it fires"),
    { key: "documents", title: "Documents", help: "documents in which it fires, of all that the author has", number: true,
      value: row => feature.documents[row.index],
      fill: row => `${integer(feature.documents[row.index])} of ${integer(authors[row.index].documents)}` },
    ...(comparable ? [
      numberColumn("logOdds", "Log-odds", row => logOddsOf(feature, row.index), to(2)),
      numberColumn("z", "z", row => zOf(feature, row.index), to(1)),
    ] : []),
  ];
  const table = makeTable({ id: "counts-table", label: "Firing by author", columns, rows, keyOf: row => row.index, sort: ["rate", -1],
    rowClass: row => row.index === entry.best ? "marked" : null });
  const contexts = feature.contexts || [];
  const strongest = Math.max(...contexts.flatMap(context => context.fires.map(fire => fire[1] || 0)), 1e-12);
  return [
    h("p", {}, words),
    h("div", { class: "halves" },
      h("div", {}, h("h3", {}, "By author"), ...table.nodes),
      h("div", {},
        h("h3", {}, raw ? "Contexts where it is strongest" : "Contexts where it fires"),
        h("p", { class: "quiet" }, raw
          ? `The feature fires at underlined tokens. A deeper colour is a larger activation (up to ${fixed(strongest, 1)}).`
          : "The feature fires at underlined tokens. The run’s files do not record activations."),
        contexts.length ? h("ol", { class: "contexts" }, contexts.map(context => contextNode(context, strongest)))
          : h("p", { class: "empty" }, "No contexts are in the data."))),
  ];
}

function contextNode(context, strongest) {
  const values = new Map(context.fires);
  const last = context.start + context.tokens.length - 1;
  const top = Math.max(...values.values());
  const text = h("p", { class: "context", dir: "auto" });
  if (context.start > 0) text.append("…");
  context.tokens.forEach((token, index) => {
    const value = values.get(index);
    if (value === undefined) { text.append(...tokenNodes(token)); return; }
    const strength = raw ? (0.08 + 0.62 * value / strongest).toFixed(3) : "0.35";
    const mark = h("mark", { "data-index": index, style: { "--strength": strength } }, tokenNodes(token));
    withTip(mark, () => `${raw ? fixed(value, 2) : "fires"} at ${JSON.stringify(token)}, position ${context.start + index}`);
    text.append(mark);
  });
  return h("li", {},
    h("p", { class: "where" }, h("bdi", { dir: "auto" }, authors[context.author]?.name ?? "?"),
      h("span", {}, `document ${context.document}`),
      h("span", {}, `positions ${context.start}–${last}`), raw && values.size ? h("span", {}, `up to ${fixed(top, 1)}`) : ""),
    text);
}

// ---- Start ------------------------------------------------------------------------------------------------------------------------

/** Marks the link of the section that is in view. */
function startNavigation() {
  const links = [...document.querySelectorAll("nav a")];
  const mark = () => {
    const line = innerHeight * 0.3;
    let here = links[0];
    for (const link of links) if (byId(link.hash.slice(1)).getBoundingClientRect().top < line) here = link;
    for (const link of links) if (link === here) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  };
  let waiting = false;
  addEventListener("scroll", () => {
    hideTip();
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  }, { passive: true, capture: true });
  mark();
}

startTheme();
renderRun();
renderAuthors();
renderSparsity();
renderContrast();
if (contrast) contrast.refresh();
startFeature();
startNavigation();
performance.mark("rendered");
document.documentElement.dataset.rendered = "true";

})();
