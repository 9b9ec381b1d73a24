// Which part of the day the chart shows: a span that ends with the newest point, or what somebody zoomed to.
// Knows neither the chart nor the page.

import { HOUR, MINUTE } from "./format.js";

export const DAY = 24 * HOUR;

/** `span` in milliseconds; `zoom` as [start, end) on whole minutes, or null. */
export class Range {
  span = DAY;
  zoom = null;

  /** What is shown of a series, as [start, end). A zoom that the day has left behind is given up. */
  of(series) {
    const end = series.start + series.values.length * MINUTE;
    if (this.zoom && (this.zoom[1] <= series.start || this.zoom[0] >= end)) this.zoom = null;
    return this.zoom ?? [end - this.span, end];
  }

  show(span) {
    this.span = span;
    this.zoom = null;
  }

  zoomTo(start, end) {
    this.zoom = [Math.floor(start / MINUTE) * MINUTE, Math.ceil(end / MINUTE) * MINUTE];
  }

  /** Have a time in sight, with as little change as does it. */
  reach(time, series) {
    const holds = ([start, end]) => time >= start && time < end;
    if (holds(this.of(series))) return;
    this.zoom = null;
    if (!holds(this.of(series))) this.span = DAY;
  }
}
