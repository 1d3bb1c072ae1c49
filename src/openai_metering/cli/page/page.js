"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const whole = (value) => BigInt(value).toLocaleString("en-US");
const shown = (value) => (value === null || value === undefined ? "–" : Array.isArray(value) ? value[1] : whole(value));
const exact = (value) => (Array.isArray(value) ? value[0] : value === null || value === undefined ? null : String(value));
const size = (value) => (exact(value) === null ? -Infinity : Number(exact(value)));

/* What it is about */
$("about").textContent = data.about;
for (const card of data.cards) $("summary").append(make("div", { class: card.warn ? "card warn" : "card", "data-card": card.key, "data-exact": exact(card.value) }, make("span", { class: "soft" }, card.label), make("b", {}, shown(card.value)), make("span", { class: "soft" }, card.more || "")));
for (const note of data.notes) $("notes").append(make("li", {}, note));

/* Light and dark */
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
let chosen = null;
const theme = () => {
  const isDark = chosen ?? dark.matches;
  root.dataset.theme = isDark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", String(isDark));
  draw();
};

/* Charts */
const charts = [];
let measure = data.measures[0].key;
const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const own = { others: "--rest", unattributed: "--nobody", "usage unknown": "--unknown", "not billed": "--refused" };
for (const { key, label } of data.measures) {
  const button = make("button", { type: "button", "data-measure": key, "aria-pressed": String(key === measure) }, label);
  button.addEventListener("click", () => {
    measure = key;
    for (const other of $("measures").children) other.setAttribute("aria-pressed", String(other === button));
    draw();
  });
  $("measures").append(button);
}
for (const [number, chart] of data.charts.entries()) {
  const canvas = make("canvas", { role: "img" });
  const table = make("table");
  const title = `By ${chart.by}, each ${chart.unit}`;
  const details = make("details", {}, make("summary", {}, "The same as a table"), make("div", { class: "data" }, table));
  $("charts").append(make("figure", { id: `chart-${number}` }, make("figcaption", {}, title), make("div", { class: "canvas" }, canvas), details));
  charts.push({ chart, canvas, table, title, drawn: null });
}
function draw() {
  const palette = css("--series").split(/\s+/);
  const label = data.measures.find((one) => one.key === measure).label;
  Chart.defaults.color = css("--soft");
  Chart.defaults.borderColor = css("--line");
  for (const one of charts) {
    let next = 0;
    const sets = one.chart.sets.map((set) => ({ label: set.label, exact: set[measure], data: set[measure].map(Number), backgroundColor: own[set.label] ? css(own[set.label]) : palette[next++ % palette.length] })).filter((set) => set.data.some((value) => value !== 0));
    if (one.drawn) one.drawn.destroy();
    one.canvas.setAttribute("aria-label", `${one.title}: ${label}, stacked. The table below the chart has its numbers.`);
    one.drawn = new Chart(one.canvas, {
      type: "bar",
      data: { labels: one.chart.labels, datasets: sets },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, interaction: { mode: "index", intersect: false },
        scales: { x: { stacked: true, grid: { display: false }, ticks: { maxRotation: 0, autoSkipPadding: 12 } }, y: { stacked: true, beginAtZero: true, title: { display: true, text: label } } },
        plugins: { legend: { position: "bottom", labels: { boxWidth: 12 } }, tooltip: { filter: (item) => item.parsed.y !== 0, callbacks: { label: (item) => `${item.dataset.label}: ${measure === "money" ? item.dataset.exact[item.dataIndex] : whole(item.dataset.exact[item.dataIndex])}` } } },
      },
    });
    const head = make("tr", {}, make("th", { scope: "col" }, one.chart.unit), ...sets.map((set) => make("th", { scope: "col" }, set.label)));
    const lines = one.chart.labels.map((text, index) => make("tr", {}, make("th", { scope: "row" }, text), ...sets.map((set) => make("td", {}, measure === "money" ? set.exact[index] : whole(set.exact[index])))));
    one.table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...lines));
  }
}
$("theme").addEventListener("click", () => { chosen = root.dataset.theme !== "dark"; theme(); });
dark.addEventListener("change", theme);
let before = null;
addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; draw(); for (const one of charts) one.drawn.resize(); });
addEventListener("afterprint", () => { root.dataset.theme = before; draw(); });

/* The table */
const PAGE = 200;
let sort = { column: data.sorted, down: true };
let query = "";
let limit = PAGE;
const opened = new Set();
const link = (node, parent, place) => { node.id = parent === null ? `${place}` : `${parent.id}.${place}`; node.level = parent === null ? 1 : parent.level + 1; (node.c || []).forEach((child, index) => link(child, node, index)); };
data.tree.forEach((node, index) => link(node, null, index));
const matches = (node) => node.n.toLowerCase().includes(query);
const within = (node) => matches(node) || (node.c || []).some(within);
const ordered = (nodes) => {
  const sign = sort.down ? -1 : 1;
  const compare = sort.column < 0 ? (one, other) => one.n.localeCompare(other.n) : (one, other) => size(one.v[sort.column]) - size(other.v[sort.column]) || 0;
  return [...nodes].sort((one, other) => sign * compare(one, other) || one.n.localeCompare(other.n));
};
const name = (text) => {
  const place = query ? text.toLowerCase().indexOf(query) : -1;
  return place < 0 ? [text] : [text.slice(0, place), make("mark", {}, text.slice(place, place + query.length)), text.slice(place + query.length)];
};
const cells = (values) => values.map((value, index) => make("td", { "data-column": data.columns[index].key, "data-exact": exact(value), title: Array.isArray(value) ? value[0] : null }, shown(value)));
function rows(nodes, inside, found) {
  for (const node of ordered(nodes)) {
    const visible = !query || inside || within(node);
    if (!visible) continue;
    const children = node.c || [];
    const isOpen = children.length > 0 && (opened.has(node.id) || (query !== "" && !matches(node) && children.some(within)));
    found.push({ node, isOpen });
    if (isOpen) rows(children, inside || (query !== "" && matches(node)), found);
  }
  return found;
}
function show() {
  const found = rows(data.tree, false, []);
  const body = document.createDocumentFragment();
  for (const { node, isOpen } of found.slice(0, limit)) {
    const lead = make("th", { scope: "row", title: node.n });
    lead.style.paddingLeft = `${0.7 + 1.1 * (node.level - 1)}rem`;
    if (node.c && node.c.length) {
      const toggle = make("button", { type: "button", class: "toggle", "aria-expanded": String(isOpen), "aria-label": `${isOpen ? "Close" : "Open"} ${node.n}`, "data-node": node.id }, isOpen ? "▾" : "▸");
      toggle.addEventListener("click", () => { if (isOpen) opened.delete(node.id); else opened.add(node.id); show(); document.querySelector(`[data-node="${node.id}"]`).focus(); });
      lead.append(toggle);
    } else lead.append(make("span", { class: "leaf" }));
    lead.append(...name(node.n));
    if (node.e) lead.append(make("span", { class: "soft" }, ` (${whole(node.e)} estimated)`));
    body.append(make("tr", { "aria-level": node.level, "data-level": data.levels[node.level - 1] }, lead, ...cells(node.v)));
  }
  const special = query ? data.specials.filter((row) => row.n.includes(query)) : data.specials;
  if (found.length <= limit) for (const row of special) {
    const reasons = Object.entries(row.r || {}).map(([reason, count]) => `${reason} ${whole(count)}`).join(", ");
    body.append(make("tr", { class: "special", "data-kind": row.n }, make("th", { scope: "row", title: reasons || null }, make("span", { class: "leaf" }), row.n), ...cells(row.v)));
  }
  document.querySelector("#table tbody").replaceChildren(body);
  $("more").hidden = found.length <= limit;
  $("found").textContent = query ? `${whole(found.filter(({ node }) => matches(node)).length)} found` : data.levels.length > 1 ? `Open ${/^[aeiou]/.test(data.levels[0]) ? "an" : "a"} ${data.levels[0]} to see its ${data.levels[1]}s.` : "";
  for (const th of document.querySelectorAll("#table thead th")) {
    const column = Number(th.dataset.index);
    if (column === sort.column) th.setAttribute("aria-sort", sort.down ? "descending" : "ascending"); else th.removeAttribute("aria-sort");
  }
}
const heads = [{ key: "name", label: data.levels.join(" › ") }, ...data.columns].map(({ key, label }, place) => {
  const button = make("button", { type: "button", "data-sort": key }, label);
  button.addEventListener("click", () => { const column = place - 1; sort = { column, down: sort.column === column ? !sort.down : column >= 0 }; show(); });
  return make("th", { scope: "col", "data-index": place - 1 }, button);
});
document.querySelector("#table thead").append(make("tr", {}, ...heads));
document.querySelector("#table tfoot").append(make("tr", {}, make("th", { scope: "row" }, "total"), ...cells(data.total)));
$("search").addEventListener("input", () => { query = $("search").value.trim().toLowerCase(); limit = PAGE; show(); });
$("more").addEventListener("click", () => { limit += PAGE; show(); });
const all = (nodes) => nodes.forEach((node) => { if (node.c) { opened.add(node.id); all(node.c); } });
$("open").addEventListener("click", () => { all(data.tree); show(); });
$("close").addEventListener("click", () => { opened.clear(); show(); });
show();
theme();
