// The rule try-out: edit factor and window, see what would have fired in the last 24 hours.

import * as api from "./api.js";
import { byId, make, setPairs, setText } from "./dom.js";
import { HOUR, clock, measureLabel, plural } from "./format.js";

const PAUSE = 350;

export class Trial {
  #chart;
  #series = null;
  #running = null;
  #timer = null;
  #answer = null;

  constructor(chart) {
    this.#chart = chart;
    byId("trial-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#run();
    });
    for (const name of ["factor", "window"]) {
      const [number, range] = [byId(name), byId(`${name}-range`)];
      number.addEventListener("input", () => {
        range.value = number.value;
        this.#soon();
      });
      range.addEventListener("input", () => {
        number.value = range.value;
        this.#soon();
      });
    }
    byId("trial-scope").addEventListener("change", () => this.#run());
  }

  /** The series that is shown: what the first choice of `On` means. A try-out that was made is made again for it. */
  follow(metric, measure) {
    this.#series = { metric, measure };
    const [own, all] = byId("trial-scope").options;
    setText(own, `${metric}, ${measureLabel(measure)}`);
    setText(all, `${measureLabel(measure)} of all metrics`);
    if (this.#answer) this.#run();
  }

  // Only once somebody has asked: it costs the server a day of history.
  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#run(), PAUSE);
  }

  #selector() {
    const scope = byId("trial-scope").value;
    if (scope === "all" || !this.#series) return {};
    return scope === "series"
      ? { metrics: [this.#series.metric], measures: [this.#series.measure] }
      : { measures: [this.#series.measure] };
  }

  #problem(factor, window) {
    if (!(factor > 0)) return ["factor", "The factor must be a number above 0, such as 3."];
    if (!Number.isInteger(window) || window < 2 || window > 1440) return ["window", "The window must be whole minutes from 2 to 1440."];
    return null;
  }

  async #run() {
    clearTimeout(this.#timer);
    this.#running?.abort();
    const [factor, window] = [byId("factor").valueAsNumber, byId("window").valueAsNumber];
    const problem = this.#problem(factor, window);
    for (const name of ["factor", "window"]) byId(name).setAttribute("aria-invalid", String(problem?.[0] === name));
    setText(byId("trial-problem"), problem?.[1] ?? "");
    if (problem) return;
    const { signal } = (this.#running = new AbortController());
    byId("trial").classList.add("busy");
    try {
      const answer = await api.tryRule({ factor, window, selector: this.#selector() }, signal);
      if (signal.aborted) return;
      this.#answer = answer;
      this.#show();
    } catch (error) {
      if (error.name === "AbortError") return;
      setText(byId("trial-problem"), error.message);
    } finally {
      if (!signal.aborted) byId("trial").classList.remove("busy");
    }
  }

  #show() {
    const { breaches, episodes, series, points, events, start, end } = this.#answer;
    setPairs(byId("trial-figures"), [
      ["would breach", breaches.toLocaleString("en-US")],
      ["episodes", episodes.toLocaleString("en-US")],
      ["series", series.toLocaleString("en-US")],
      ["points", points.toLocaleString("en-US")],
    ]);
    this.#chart.markTrial(events.filter((event) => event.metric === this.#series?.metric && event.measure === this.#series.measure));
    byId("trial-hint").hidden = events.length > 0;
    setText(byId("trial-hint"), "Nothing would have fired in the last 24 hours.");
    byId("key-trial").hidden = false;
    this.#hours(events, start, end);
  }

  // Breaches by the hour, as columns.
  #hours(events, start, end) {
    const counts = new Array(Math.max(1, Math.ceil((end - start) / HOUR))).fill(0);
    for (const { kind, time } of events) if (kind === "breach") counts[Math.min(counts.length - 1, Math.floor((time - start) / HOUR))] += 1;
    const most = Math.max(1, ...counts);
    const box = byId("trial-hours");
    byId("trial-by-hour").hidden = events.length === 0;
    if (!events.length) return;
    box.setAttribute("aria-label", `Breaches by the hour, ${Math.max(...counts)} at most`);
    box.replaceChildren(...counts.map((count, place) => {
      const bar = make("span", { className: "hour", title: `${clock(start + place * HOUR)} UTC: ${count}` });
      bar.style.height = `${(100 * count) / most}%`;
      bar.classList.toggle("none", count === 0);
      return bar;
    }));
  }
}
