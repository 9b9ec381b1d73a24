// The feed of breaches, the newest first; new ones come in at the top and are announced.

import { byId, make, setText } from "./dom.js";
import { brief, compared, measureOf, sentence, subject } from "./evidence.js";
import { clock, dayClock, plural } from "./format.js";
import { now } from "./now.js";
import { paced } from "./pacing.js";
import { setUnseen } from "./title.js";

const STEP = 200;
const DAY = 86_400_000;

export class Feed {
  #breaches;
  #onChoose;
  #metric = null;
  #limit = STEP;
  #fresh = new Set();
  #rows = new Map();
  #draw = paced(150, () => this.#paint());
  #announce = paced(5_000, () => this.#speak());
  #unspoken = [];
  #unseen = 0;

  /** `onChoose(event)` is called for the event that somebody wants to see on the chart. */
  constructor(breaches, { onChoose }) {
    this.#breaches = breaches;
    this.#onChoose = onChoose;
    breaches.addEventListener("change", ({ detail: fresh }) => {
      for (const { id } of fresh) this.#fresh.add(id);
      this.#unspoken.push(...fresh);
      if (fresh.length) this.#announce();
      if (document.hidden) this.#count(this.#unseen + fresh.filter(({ kind }) => kind === "breach").length);
      this.#draw();
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#count(0);
    });
    for (const id of ["feed-kind", "feed-own"]) byId(id).addEventListener("change", () => this.#draw());
    byId("feed-more").addEventListener("click", async () => {
      this.#limit += STEP;
      if (this.#limit > this.#breaches.all.length && this.#breaches.hasOlder) await this.#breaches.loadOlder();
      this.#draw();
    });
    byId("feed").addEventListener("keydown", (event) => {
      const row = event.target.closest("li");
      const next = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling }[event.key]?.firstElementChild;
      if (!next) return;
      event.preventDefault();
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    byId("feed").addEventListener("click", (event) => {
      const row = event.target.closest("li");
      const chosen = row && this.#breaches.all.find(({ id }) => id === row.dataset.id);
      if (chosen) this.#onChoose(chosen);
    });
  }

  /** The metric whose chart is shown. */
  follow(metric) {
    this.#metric = metric;
    if (byId("feed-own").checked) this.#draw();
  }

  #passes(event) {
    if (byId("feed-own").checked && event.metric !== this.#metric) return false;
    const wanted = byId("feed-kind").value;
    const isBreach = event.kind === "breach";
    return wanted === "all" || (wanted === "breach" ? isBreach : event.opening || !isBreach);
  }

  #paint() {
    const passing = this.#breaches.all.filter((event) => this.#passes(event));
    const shown = passing.slice(0, this.#limit);
    const rows = new Map(shown.map((event) => [event.id, this.#rows.get(event.id) ?? makeRow(event, this.#fresh.has(event.id))]));
    for (const event of shown) setText(rows.get(event.id).querySelector("time"), when(event));
    reorder(byId("feed"), [...rows.values()]);
    this.#rows = rows;
    this.#fresh.clear();
    // One stop for Tab, arrows within.
    const focused = document.activeElement?.closest("#feed li");
    for (const row of this.#rows.values()) row.firstElementChild.tabIndex = row === focused ? 0 : -1;
    if (!focused && shown.length) this.#rows.get(shown[0].id).firstElementChild.tabIndex = 0;
    const { evaluated } = this.#breaches;
    setText(byId("feed-asof"), evaluated ? `evaluated up to ${clock(evaluated)} UTC` : "");
    const open = this.#breaches.open.size;
    byId("open-count").hidden = open === 0;
    byId("open-count").title = `${plural(open, "episode")} not yet resolved`;
    setText(byId("open-count"), `${open} open`);
    byId("feed-more").hidden = passing.length <= shown.length && !this.#breaches.hasOlder;
    const empty = byId("feed-empty");
    empty.hidden = shown.length > 0;
    setText(empty, this.#emptiness());
  }

  #emptiness() {
    if (!this.#breaches.loaded) return "Reading the log of breaches…";
    if (byId("feed-own").checked && this.#breaches.all.length) return "Nothing of this metric.";
    if (byId("feed-kind").value === "episode") return "No episode: no rule has been broken.";
    return "No breach: no rule has been broken by the points that have come.";
  }

  #speak() {
    const [first] = this.#unspoken;
    if (first) {
      const more = this.#unspoken.length - 1;
      setText(byId("announcer"), `${sentence(first)}${more ? `, and ${plural(more, "more event", "more events")}` : ""}`);
    }
    this.#unspoken = [];
  }

  #count(unseen) {
    this.#unseen = unseen;
    setUnseen(unseen);
  }
}

// A page is left open for days: what was of today becomes of yesterday.
const when = ({ time }) => (now() - time > DAY ? dayClock(time) : clock(time));

function makeRow(event, fresh) {
  const marks = [event.kind === "breach" && event.opening && "opens", event.late && "late", event.silenced && "silenced"].filter(Boolean);
  const button = make("button", { type: "button", title: event.message ?? "" },
    make("time", { dateTime: new Date(event.time).toISOString() }),
    make("span", { className: "feed-what" },
      make("span", { className: "feed-name", textContent: subject(event) }), " ",
      make("span", { className: "feed-measure", textContent: measureOf(event) })),
    make("span", { className: "feed-brief", textContent: brief(event) }),
    make("span", { className: "feed-rule" },
      make("span", { className: `severity ${event.severity}`, textContent: event.severity }),
      " ", make("span", { className: "feed-rule-name", textContent: event.rule }), " ", make("span", { className: "feed-marks", textContent: marks.map((mark) => `· ${mark}`).join(" ") })),
    make("span", { className: "feed-value", textContent: compared(event) }));
  const row = make("li", { className: `feed-row ${event.kind}${fresh ? " fresh" : ""}` }, button);
  row.dataset.id = event.id;
  return row;
}

/** Give a list these children in this order, moving as few as possible, so that focus and scrolling stay. */
function reorder(list, children) {
  const wanted = new Set(children);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  let place = list.firstElementChild;
  for (const child of children) {
    if (child === place) place = place.nextElementSibling;
    else list.insertBefore(child, place);
  }
}
