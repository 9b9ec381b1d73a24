// How old the newest point of each exchange is. A minute is complete after its end and written some seconds later, so
// an exchange is fresh for two minutes, late for five, and silent after that.

import { byId, make, setText } from "./dom.js";
import { MINUTE, clock, plural, span } from "./format.js";
import { now } from "./now.js";

const LATE = 2 * MINUTE + 30_000;
const SILENT = 5 * MINUTE;

export class Freshness {
  #market;
  #chips = new Map();

  constructor(market) {
    this.#market = market;
    for (const type of ["metrics", "values"]) market.addEventListener(type, () => this.update());
    setInterval(() => this.update(), 1_000);
  }

  /** The exchanges that have been silent for too long, with the age of their newest point. */
  get silent() {
    const time = now();
    return [...this.#market.freshness()].filter(([, { end }]) => time - end > SILENT)
      .map(([exchange, { end }]) => ({ exchange, age: time - end }));
  }

  update() {
    const time = now();
    const list = byId("freshness");
    const exchanges = this.#market.freshness();
    for (const name of [...this.#chips.keys()]) {
      if (!exchanges.has(name)) {
        this.#chips.get(name).chip.remove();
        this.#chips.delete(name);
      }
    }
    for (const [name, { end, count }] of exchanges) {
      if (!this.#chips.has(name)) {
        const age = make("span", { className: "chip-age" });
        const chip = make("li", { className: "chip" }, make("span", { className: "chip-name", textContent: name }), age);
        this.#chips.set(name, { chip, age });
        list.append(chip);
      }
      const { chip, age } = this.#chips.get(name);
      const old = time - end;
      chip.dataset.state = old > SILENT ? "silent" : old > LATE ? "late" : "fresh";
      chip.title = `${name}: ${plural(count, "metric")}, newest point ends ${clock(end)} UTC`;
      setText(age, chip.dataset.state === "silent" ? `silent ${span(old)}` : span(old));
    }
  }
}
