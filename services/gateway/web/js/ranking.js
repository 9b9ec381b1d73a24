// The ranking as a grid of any length: only the rows in sight exist, and they are reused as one scrolls.

import { byId, make, nameParts, setText } from "./dom.js";
import { MEASURES, NOTHING, clock, figure, inColumn, percent, plural } from "./format.js";
import { STATISTICS } from "./market.js";

const OVERSCAN = 6;
const WINDOWS = [["15m", "15 min"], ["1h", "1 h"], ["6h", "6 h"], ["24h", "24 h"]];

const statisticColumn = (id, label, title, write) => ({
  id, label, title, number: true, from: (row) => row[id]?.value ?? null, write,
});
const hundredths = (value) => figure(value === null ? null : value * 100);

const COLUMNS = [
  { id: "rank", label: "#", title: "Rank by the statistic that the table was last sorted by; equal values share a rank",
    number: true, ascending: true, from: (row) => row.rank, write: (value) => value ?? NOTHING },
  { id: "name", label: "Metric", title: "Exchange and pair", ascending: true, from: (row) => row.name },
  { id: "last", label: "Last", title: "The newest value of the measure", number: true, live: true,
    from: (row) => row.last, write: (value, measure) => inColumn(measure, value) },
  { id: "change", label: "24 h %", title: "Price against the price 24 hours earlier", number: true, signed: true,
    from: (row) => row.change, write: (value) => percent(value) },
  statisticColumn("stddev", "Stddev", "Standard deviation (n − 1), in the measure's unit",
    figure),
  statisticColumn("coefficient_of_variation", "CV %", "Coefficient of variation: standard deviation over the mean's magnitude, percent",
    hundredths),
  statisticColumn("log_return_stddev", "Log ret %", "Standard deviation of logarithmic returns, from minute to minute, percent",
    hundredths),
  { id: "coverage", label: "Points", title: "Share of the window's minutes that have a point", number: true,
    from: (row) => row.coverage, write: (value) => (value === null ? NOTHING : `${Math.floor(value * 100)}%`) },
  { id: "open", label: "Open", title: "Episodes that are open now: a rule was broken, and points are not yet back in line",
    number: true, from: (row) => row.open, write: (value) => (value ? String(value) : "") },
];

export class RankingTable {
  #market;
  #onChoose;
  #openOf;
  #grid = byId("grid");
  #scroll;
  #spacer;
  #message;
  #heads = new Map();
  #pool = [];
  #rows = [];
  #sort = { column: "stddev", descending: true };
  #statistic = "stddev";
  #filter = "";
  #active = null;
  #chosen = null;
  #scheduled = false;

  /** `onChoose(metric)` is called for the metric that somebody wants drawn; `openOf(metric)` counts its open episodes. */
  constructor(market, { onChoose, openOf }) {
    this.#market = market;
    this.#onChoose = onChoose;
    this.#openOf = openOf;
    this.#build();
    for (const type of ["metrics", "values", "rankings"]) market.addEventListener(type, () => this.update());
  }

  /** The name of the first metric as sorted, or null. */
  get first() {
    return this.#rows[0]?.name ?? null;
  }

  choose(metric) {
    this.#chosen = metric;
    this.#active ??= metric;
    this.#paintSoon();
  }

  /** Compute the rows anew at the next frame. */
  update() {
    this.stale = true;
    this.#paintSoon();
  }

  #build() {
    const head = make("div", { className: "grid-row grid-head", role: "row" });
    head.setAttribute("aria-rowindex", "1");
    for (const column of COLUMNS) {
      const button = make("button", { type: "button", tabIndex: -1, title: column.title, textContent: column.label });
      const cell = make("div", { className: `cell ${column.id}${column.number ? " number" : ""}`, role: "columnheader" }, button);
      button.tabIndex = 0;
      button.addEventListener("click", () => this.#sortBy(column));
      this.#heads.set(column.id, cell);
      head.append(cell);
    }
    this.#spacer = make("div", { className: "grid-space", role: "rowgroup" });
    this.#message = make("p", { className: "empty", hidden: true });
    this.#scroll = make("div", { className: "grid-scroll", role: "presentation" }, this.#spacer, this.#message);
    this.#grid.append(make("div", { role: "rowgroup" }, head), this.#scroll);
    this.#grid.setAttribute("aria-colcount", String(COLUMNS.length));
    this.#scroll.addEventListener("scroll", () => this.#paintSoon(), { passive: true });
    new ResizeObserver(() => this.#paintSoon()).observe(this.#scroll);
    this.#spacer.addEventListener("click", (event) => {
      const row = event.target.closest(".grid-row");
      if (row) this.#choose(row.dataset.metric);
    });
    this.#grid.addEventListener("keydown", (event) => this.#key(event));
    this.#grid.addEventListener("focus", () => this.#paintSoon());

    const measure = byId("ranking-measure");
    measure.append(...MEASURES.map(([value, label]) => make("option", { value, textContent: label })));
    const window = byId("ranking-window");
    window.append(...WINDOWS.map(([value, label]) => make("option", { value, textContent: label })));
    window.value = this.#market.window;
    for (const select of [measure, window]) {
      select.addEventListener("change", () => this.#market.rankBy(measure.value, window.value));
    }
    const search = byId("search");
    search.addEventListener("input", () => {
      this.#filter = search.value.trim().toUpperCase();
      this.#scroll.scrollTop = 0;
      this.update();
    });
    search.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && search.value) {
        search.value = "";
        search.dispatchEvent(new Event("input"));
        event.preventDefault();
      } else if (event.key === "Enter" && this.#rows.length) {
        this.#choose(this.#rows[0].name);
      } else if (event.key === "ArrowDown") {
        event.preventDefault();
        this.#grid.focus();
        this.#move(0);
      }
    });
  }

  #sortBy(column) {
    const same = this.#sort.column === column.id;
    this.#sort = { column: column.id, descending: same ? !this.#sort.descending : !column.ascending };
    if (STATISTICS.includes(column.id)) this.#statistic = column.id;
    this.#scroll.scrollTop = 0;
    this.update();
  }

  #choose(metric) {
    this.#active = metric;
    this.choose(metric);
    this.#onChoose(metric);
  }

  #key(event) {
    if (event.target !== this.#grid) return;
    const page = Math.max(1, Math.floor(this.#scroll.clientHeight / this.#rowHeight) - 1);
    const place = this.#rows.findIndex((row) => row.name === this.#active);
    const target = {
      ArrowDown: place + 1, ArrowUp: place - 1, PageDown: place + page, PageUp: place - page, Home: 0, End: this.#rows.length,
    }[event.key];
    if (target !== undefined) {
      event.preventDefault();
      this.#move(target);
    } else if ((event.key === "Enter" || event.key === " ") && place >= 0) {
      event.preventDefault();
      this.#choose(this.#active);
    }
  }

  #move(target) {
    if (!this.#rows.length) return;
    const place = Math.max(0, Math.min(this.#rows.length - 1, target));
    this.#active = this.#rows[place].name;
    const top = place * this.#rowHeight;
    const view = this.#scroll;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + this.#rowHeight > view.scrollTop + view.clientHeight) {
      view.scrollTop = top + this.#rowHeight - view.clientHeight;
    }
    this.#paint();
  }

  get #rowHeight() {
    return Number.parseFloat(getComputedStyle(this.#grid).getPropertyValue("--row")) || 26;
  }

  #paintSoon() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      this.#paint();
    });
  }

  #compute() {
    const { measure, rankings } = this.#market;
    const ranked = rankings.get(this.#statistic);
    const rows = [];
    for (const { name, measures } of this.#market.metrics.values()) {
      if (!measures.has(measure) || (this.#filter && !name.includes(this.#filter))) continue;
      const row = {
        name,
        last: measures.get(measure).value,
        change: measures.get("change_percentage")?.value ?? null,
        rank: ranked?.get(name)?.rank ?? null,
        coverage: rankings.get("stddev")?.get(name)?.coverage ?? null,
        open: this.#openOf(name),
      };
      for (const statistic of STATISTICS) row[statistic] = rankings.get(statistic)?.get(name) ?? null;
      rows.push(row);
    }
    const { from } = COLUMNS.find(({ id }) => id === this.#sort.column);
    const direction = this.#sort.descending ? -1 : 1;
    rows.sort((one, other) => {
      const [a, b] = [from(one), from(other)];
      // What has no value stands last, whichever way one sorts.
      if (a === null || b === null) return (a === null) - (b === null) || (one.name < other.name ? -1 : 1);
      return a === b ? (one.name < other.name ? -1 : 1) : (a < b ? -1 : 1) * direction;
    });
    this.#rows = rows;
  }

  #paint() {
    if (this.stale) {
      this.stale = false;
      this.#compute();
    }
    const height = this.#rowHeight;
    const { scrollTop, clientHeight } = this.#scroll;
    const first = Math.max(0, Math.floor(scrollTop / height) - OVERSCAN);
    const last = Math.min(this.#rows.length, Math.ceil((scrollTop + clientHeight) / height) + OVERSCAN);
    this.#spacer.style.height = `${this.#rows.length * height}px`;
    while (this.#pool.length < last - first) this.#pool.push(this.#makeRow());
    this.#pool.forEach((element, place) => {
      const index = first + place;
      element.root.hidden = index >= last;
      if (index < last) this.#fill(element, this.#rows[index], index, height);
    });
    this.#finish();
  }

  #makeRow() {
    const cells = COLUMNS.map((column) =>
      make("div", { className: `cell ${column.id}${column.number ? " number" : ""}`, role: "gridcell" }));
    const root = make("div", { className: "grid-row", role: "row" }, ...cells);
    this.#spacer.append(root);
    return { root, cells, metric: null, last: null };
  }

  #fill(element, row, index, height) {
    const { root, cells } = element;
    root.style.transform = `translateY(${index * height}px)`;
    root.id = `row-${index}`;
    root.dataset.metric = row.name;
    root.setAttribute("aria-rowindex", String(index + 2));
    root.setAttribute("aria-selected", String(row.name === this.#chosen));
    root.classList.toggle("active", row.name === this.#active);
    COLUMNS.forEach((column, place) => {
      const value = column.from(row);
      if (column.write) setText(cells[place], String(column.write(value, this.#market.measure)));
      else if (element.metric !== value) {
        cells[place].replaceChildren(...nameParts(value));
        cells[place].title = value;
      }
      if (column.signed) cells[place].dataset.sign = String(Math.sign(value ?? 0));
    });
    const moved = element.metric === row.name && element.measure === this.#market.measure ? row.last - element.last : 0;
    if (moved) flash(cells[2], moved > 0);
    Object.assign(element, { metric: row.name, last: row.last, measure: this.#market.measure });
  }

  #finish() {
    for (const [id, cell] of this.#heads) {
      const order = id === this.#sort.column ? (this.#sort.descending ? "descending" : "ascending") : "none";
      if (cell.getAttribute("aria-sort") !== order) cell.setAttribute("aria-sort", order);
    }
    this.#grid.setAttribute("aria-rowcount", String(this.#rows.length + 1));
    const place = this.#rows.findIndex((row) => row.name === this.#active);
    const shown = place >= 0 && byId(`row-${place}`);
    if (shown && !shown.hidden) this.#grid.setAttribute("aria-activedescendant", shown.id);
    else this.#grid.removeAttribute("aria-activedescendant");
    const total = this.#market.metrics.size;
    const words = this.#filter ? `${this.#rows.length.toLocaleString("en-US")} of ${plural(total, "metric")}` : plural(total, "metric");
    setText(byId("ranking-count"), this.#market.loaded ? words : "");
    const { rankingEnd } = this.#market;
    setText(byId("ranking-asof"), rankingEnd && total ? `ranked up to ${clock(rankingEnd)} UTC` : "");
    this.#message.hidden = this.#rows.length > 0;
    setText(this.#message, this.#emptiness(total));
  }

  #emptiness(total) {
    if (!this.#market.loaded) return "Reading the metrics…";
    if (!total) return "No points yet. The collector writes the first ones at the end of a minute; this page will show them by itself.";
    if (this.#filter) return `No metric is named like “${this.#filter}”.`;
    return "No metric has this measure in the last 24 hours.";
  }
}

function flash(cell, up) {
  cell.classList.remove("up", "down");
  void cell.offsetWidth; // restarts the animation
  cell.classList.add(up ? "up" : "down");
}
