// What is known of the market: metrics with their newest values, and the three rankings. Tells with events what changed.
// Knows the API, not the page.

import * as api from "./api.js";
import { MINUTE } from "./format.js";
import { paced } from "./pacing.js";

export const STATISTICS = ["stddev", "coefficient_of_variation", "log_return_stddev"];

/** Events: "metrics" (which metrics there are), "values" (detail: the points), "rankings", "error" (detail). */
export class Market extends EventTarget {
  metrics = new Map();
  rankings = new Map();
  rankingEnd = null;
  loaded = false;
  measure = "price";
  window = "24h";
  #ranking = null;
  #relist = paced(1_000, () => this.loadMetrics());

  async loadMetrics() {
    let listed;
    try {
      listed = await api.listMetrics();
    } catch (error) {
      this.#tell("error", error);
      return;
    }
    this.loaded = true;
    this.metrics = new Map(listed.map((metric) => [metric.name, metric]));
    this.#tell("metrics");
  }

  /** Rank anew by every statistic; an older call that is still under way is dropped. */
  async loadRankings() {
    this.#ranking?.abort();
    const { signal } = (this.#ranking = new AbortController());
    const { measure, window } = this;
    try {
      const answers = await Promise.all(STATISTICS.map((one) => api.rankMetrics(measure, one, window, signal)));
      if (signal.aborted) return;
      this.rankings = new Map(STATISTICS.map((statistic, place) => [statistic, answers[place].places]));
      this.rankingEnd = answers[0].end;
      this.#tell("rankings");
    } catch (error) {
      if (error.name !== "AbortError") this.#tell("error", error);
    }
  }

  rankBy(measure, window) {
    if (measure !== this.measure) this.rankings = new Map();
    this.measure = measure;
    this.window = window;
    this.#tell("rankings");
    this.loadRankings();
  }

  /** Take points from the stream. */
  take(points) {
    let unknown = false;
    for (const { metric, measure, time, value } of points) {
      const known = this.metrics.get(metric);
      const summary = known?.measures.get(measure);
      if (!summary) unknown = true;
      else if (time >= summary.time) Object.assign(summary, { time, value });
    }
    this.#tell("values", points);
    if (unknown) this.#relist();
  }

  last(metric, measure) {
    return this.metrics.get(metric)?.measures.get(measure)?.value ?? null;
  }

  /** The end of the newest slot of each exchange: Map of name to {end, count}. */
  freshness() {
    const newest = new Map();
    for (const { exchange, measures } of this.metrics.values()) {
      const place = newest.get(exchange) ?? { end: 0, count: 0 };
      place.count += 1;
      for (const { time } of measures.values()) place.end = Math.max(place.end, time + MINUTE);
      newest.set(exchange, place);
    }
    return newest;
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
