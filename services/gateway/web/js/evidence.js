// What an event says, in words: for the feed, the chart's card and screen readers.

import { make, setPairs } from "./dom.js";
import { clock, dayClock, inMeasure, measureLabel, plural, significant } from "./format.js";

const KINDS = { breach: "breach", resolved: "resolved", stale: "no data", withdrawn: "withdrawn" };
const REASONS = {
  calm: "points are back in line",
  rebased: "the new level is the average now",
  data_returned: "data came back",
  removed: "the rule or series is no more",
};

export const isPresent = (value) => value !== null && value !== undefined;

/** The series' name, or the exchange's where all of it is concerned. */
export const subject = (event) => event.metric || event.exchange;

export const measureOf = (event) => (event.measure ? measureLabel(event.measure) : "all series");

/** What is left of it in a few characters: ×15.2, > 70,000, 7 slots. */
export function brief(event) {
  if (event.kind !== "breach") return KINDS[event.kind] ?? event.kind;
  if (isPresent(event.ratio)) return `×${significant(event.ratio, event.ratio < 100 ? 3 : 4)}`;
  if (isPresent(event.value)) return inMeasure(event.measure, event.value);
  return plural(event.point_count, "slot");
}

/** What a ratio was made of, value and mean; nothing for other rules, whose brief says it all. */
export const compared = (event) => (event.kind === "breach" && isPresent(event.ratio)
  ? `${inMeasure(event.measure, event.value)} / ${inMeasure(event.measure, event.baseline)}` : "");

/** One line for whoever cannot see the chart. */
export function sentence(event) {
  return `${clock(event.time)} UTC, ${subject(event)} ${measureOf(event)}: ${event.message || brief(event)}`;
}

function pairs(event) {
  const { measure } = event;
  const list = [["Minute", `${dayClock(event.time)} UTC`]];
  if (isPresent(event.value)) list.push(["Value", inMeasure(measure, event.value)]);
  if (isPresent(event.baseline)) {
    const of = event.point_count ? ` of ${plural(event.point_count, "point")}` : " of points";
    list.push([isPresent(event.ratio) ? `Mean${of}` : "Compared with", inMeasure(measure, event.baseline)]);
  }
  if (isPresent(event.threshold)) list.push(["Threshold", inMeasure(measure, event.threshold)]);
  if (isPresent(event.ratio)) list.push(["Ratio", `×${significant(event.ratio, 4)}`]);
  if (!isPresent(event.value) && event.point_count) list.push(["In a row", plural(event.point_count, "slot")]);
  if (event.kind === "resolved") list.push(["Resolved", REASONS[event.resolved_reason] ?? ""]);
  if (!event.opening && event.opened && event.opened !== event.time) list.push(["Open since", clock(event.opened)]);
  const marks = [event.late && "found late", event.silenced && "silenced"].filter(Boolean);
  if (marks.length) list.push(["Note", marks.join(", ")]);
  return list;
}

/** Fill the card with an event's evidence; its message only where that says more than the pairs: `ownWords`. */
export function fillCard(card, event, { trial = false, ownWords = true } = {}) {
  const list = make("dl", { className: "evidence-pairs" });
  setPairs(list, pairs(event));
  card.replaceChildren(
    make("p", { className: "evidence-head" },
      make("strong", { textContent: trial ? "Would breach" : event.rule }),
      make("span", { className: `severity ${event.severity}`, textContent: trial ? "try-out" : event.severity })),
    list,
  );
  if (event.message && !trial && ownWords) card.append(make("p", { className: "evidence-text", textContent: event.message }));
}
