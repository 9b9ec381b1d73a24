// The events that are known: what the log had when the page was opened, and what the stream has brought since.
// Knows the API, not the page.

import * as api from "./api.js";
import { MINUTE, DAY_SLOTS } from "./format.js";
import { now } from "./now.js";

const KINDS = new Set(["breach", "resolved", "stale", "withdrawn"]);
const MOST = 4_000;
const PAGE = 500;

/** Events: "change" (detail: the new events), "error" (detail). */
export class Breaches extends EventTarget {
  #byId = new Map();
  #openByMetric = new Map();
  #next = "";
  rules = new Map(); // those that hold now, by version
  open = new Map(); // episodes, by id, with the event that opened each
  evaluated = null;
  loaded = false;

  /** The newest first. */
  get all() {
    return this.#sorted ??= [...this.#byId.values()].sort((a, b) => b.time - a.time || (a.id < b.id ? -1 : 1));
  }
  #sorted = null;

  get hasOlder() {
    return this.#next !== "";
  }

  /** How many episodes of a metric are open. */
  openOf(metric) {
    return this.#openByMetric.get(metric) ?? 0;
  }

  /** Read the newest page, and what was missed. */
  async load() {
    try {
      const [{ events, next }, rules] = await Promise.all([api.listBreaches({ size: PAGE }), api.listRules()]);
      this.rules = rules;
      if (!this.loaded) this.#next = next;
      this.loaded = true;
      this.#add(events, []);
    } catch (error) {
      this.#tell("error", error);
    }
  }

  /** Read the page before the oldest. */
  async loadOlder() {
    try {
      const { events, next } = await api.listBreaches({ size: PAGE, page: this.#next });
      this.#next = next;
      this.#add(events, []);
    } catch (error) {
      this.#tell("error", error);
    }
  }

  /** Read a whole day of one metric, for its chart. */
  async loadMetric(metric, signal) {
    let page = "";
    for (let pages = 0; pages < 4; pages += 1) {
      const start = Math.floor(now() / MINUTE - DAY_SLOTS) * MINUTE;
      const { events, next } = await api.listBreaches({ metric, start, page, size: 1000 }, signal);
      this.#add(events, []);
      if (!next) return;
      page = next;
    }
  }

  /** Take a message of the stream. */
  take(kind, document) {
    if (kind === "snapshot") {
      this.open = new Map(document.episodes.map((one) => [one.id, api.readEvent(one.opening)]));
      this.evaluated = Date.parse(document.evaluated_time);
      this.#tell("change", []);
    } else if (KINDS.has(kind)) {
      const event = api.readEvent(document);
      const isNew = !this.#byId.has(event.id);
      if (event.kind === "resolved") this.open.delete(event.episode_id);
      else if (event.opening) this.open.set(event.episode_id, event);
      this.#add([event], isNew ? [event] : []);
    } else if (kind === "bookmark") {
      this.evaluated = Date.parse(document.evaluated_time);
      this.#tell("change", []);
    }
  }

  /** The events of one series, in no order. */
  of(metric, measure) {
    const withdrawn = new Set();
    const own = [];
    for (const event of this.#byId.values()) {
      if (event.metric !== metric || event.measure !== measure) continue;
      if (event.kind === "withdrawn") withdrawn.add(event.withdrawn_id);
      else own.push(event);
    }
    return own.filter(({ id }) => !withdrawn.has(id));
  }

  #add(events, fresh) {
    for (const event of events) this.#byId.set(event.id, event);
    this.#sorted = null;
    if (this.#byId.size > MOST) {
      for (const { id } of this.all.slice(MOST)) this.#byId.delete(id);
      this.#sorted = null;
    }
    this.#tell("change", fresh);
  }

  #tell(type, detail) {
    this.#openByMetric = new Map();
    for (const { metric } of this.open.values()) this.#openByMetric.set(metric, (this.#openByMetric.get(metric) ?? 0) + 1);
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
