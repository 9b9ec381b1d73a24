// What stands along the axes of the chart: the range of the values, and labels.

import { clock, inMeasure, monthDay, percent, unitOf } from "./format.js";

const HALF_LABEL = 16;
const CHARACTER = 6.4; // a digit of a label in pixels, and of the tag
const BOLD = 6.9;

/** The range of the values' axis. */
export function padded(low, high, fromZero) {
  if (low === null || high === null || low === undefined || high === undefined) return [0, 1];
  if (fromZero) return [0, high * 1.08 || 1];
  const margin = (high - low) * 0.08 || Math.abs(high) * 0.01 || 1;
  return [low - margin, high + margin];
}

/** The labels of the time axis; one that would stick out on the left is left out: the panel ends there. */
export function timeLabels(plot, splits) {
  return splits.map((seconds) => (plot.valToPos(seconds, "x") < HALF_LABEL ? "" : timeLabel(seconds)));
}

function timeLabel(seconds) {
  const date = new Date(seconds * 1000);
  const midnight = date.getUTCHours() === 0 && date.getUTCMinutes() === 0;
  return midnight ? monthDay(seconds * 1000) : clock(seconds * 1000);
}

/** The labels of the values' axis, all with the decimals that their distance has, volumes in thousands or millions. */
export function valueLabels(measure, splits) {
  const volumes = measure === "volume" || measure === "volume_1m";
  const [size, letter] = volumes ? unitOf(Math.max(...splits.map(Math.abs))) : [1, ""];
  const step = splits.length > 1 ? Math.abs(splits[1] - splits[0]) : size;
  const places = placesOf(step / size);
  const signed = measure.startsWith("change") ? "exceptZero" : "negative";
  const unit = measure === "change_percentage" ? " %" : letter && ` ${letter}`;
  const format = { minimumFractionDigits: places, maximumFractionDigits: places, signDisplay: signed };
  return splits.map((value) => (volumes && value === 0 ? "0" : `${(value / size).toLocaleString("en-US", format).replace("-", "−")}${unit}`));
}

/** How wide the values' axis is, in pixels: as its labels and the newest value's tag need. */
export function valuesWidth(labels, tag) {
  const longest = (labels ?? []).reduce((most, label) => Math.max(most, label?.length ?? 0), 0);
  return Math.ceil(Math.max(68, CHARACTER * longest + 14, BOLD * tag.length + 16));
}

// As many decimals as the step has: 0 for 20, 1 for 2.5, 3 for 0.005.
function placesOf(step) {
  for (let places = 0; places < 12; places += 1) {
    const scaled = step * 10 ** places;
    if (Math.abs(scaled - Math.round(scaled)) < 1e-6 * scaled) return places;
  }
  return 12;
}

/** The newest value, as its tag has it. */
export const tagText = (measure, value) => (measure === "change_percentage" ? `${percent(value)} %` : inMeasure(measure, value));
