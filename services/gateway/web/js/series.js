// One series over the last 24 hours: what it was, and what it becomes as points arrive. Knows nothing of the page.

import * as api from "./api.js";
import { DAY_SLOTS, MINUTE } from "./format.js";

/** 1440 slots ending with the newest; `times` in seconds, as uPlot wants them, `values` with null where there is no point. */
export class Series {
  constructor(metric, measure, history) {
    this.metric = metric;
    this.measure = measure;
    this.start = history.start;
    this.values = history.values;
    this.filled = new Set();
    for (const [start, end] of history.backfilled) for (let slot = start; slot < end; slot += MINUTE) this.filled.add(slot);
    this.#number();
  }

  static async load(metric, measure, signal) {
    return new Series(metric, measure, await api.getHistory(metric, measure, signal));
  }

  /** Take points of this series from the stream; returns whether there were any. */
  take(points) {
    const own = points.filter((point) => point.metric === this.metric && point.measure === this.measure);
    for (const { time, value, backfilled } of own) {
      this.#extend(time);
      const place = this.#place(time);
      if (place < 0) continue;
      this.values[place] = value;
      if (backfilled) this.filled.add(time);
      else this.filled.delete(time);
    }
    return own.length > 0;
  }

  /** Let the day end with this slot: what has not come by then is a gap. Returns whether that changed anything. */
  extendTo(slot) {
    const before = this.start;
    this.#extend(slot);
    return this.start !== before;
  }

  at(time) {
    return this.values[this.#place(time)] ?? null;
  }

  /** The slots without a point, or those filled in later, as ranges [first, last) of places. */
  get gaps() {
    return runs(this.values.length, (place) => this.values[place] === null);
  }

  get fillings() {
    return runs(this.values.length, (place) => this.filled.has(this.start + place * MINUTE));
  }

  get coverage() {
    return this.values.reduce((sum, value) => sum + (value !== null), 0) / this.values.length;
  }

  #place(time) {
    return Math.round((time - this.start) / MINUTE);
  }

  #extend(slot) {
    const beyond = Math.min(DAY_SLOTS, this.#place(slot) - this.values.length + 1);
    if (beyond <= 0) return;
    this.values.splice(0, beyond);
    for (let count = 0; count < beyond; count += 1) this.values.push(null);
    this.start = slot - (this.values.length - 1) * MINUTE;
    this.#number();
  }

  #number() {
    this.times = Array.from(this.values, (_, place) => (this.start + place * MINUTE) / 1000);
  }
}

function runs(length, holds) {
  const found = [];
  for (let place = 0; place < length; place += 1) {
    if (!holds(place)) continue;
    const first = place;
    while (place < length && holds(place)) place += 1;
    found.push([first, place]);
  }
  return found;
}
