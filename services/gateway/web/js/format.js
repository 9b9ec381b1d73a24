// How numbers and times are written. Times are UTC everywhere, as slots are.

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY_SLOTS = 1440;
export const NOTHING = "–";

export const MEASURES = [
  ["price", "Price", "Last trade price in the minute"],
  ["volume", "Vol 24 h", "Base units traded in the 24 hours up to the minute's end"],
  ["change_absolute", "Change", "Price minus the price 24 hours earlier"],
  ["change_percentage", "Change %", "That change against the price 24 hours earlier"],
  ["volume_1m", "Vol 1 min", "Base units traded within the minute"],
];

export const measureLabel = (measure) => MEASURES.find(([name]) => name === measure)?.[1] ?? measure;

const formats = new Map();

function decimals(count, signed) {
  const key = `${count}${signed}`;
  if (!formats.has(key)) {
    formats.set(key, new Intl.NumberFormat("en-US", {
      minimumFractionDigits: count,
      maximumFractionDigits: count,
      signDisplay: signed ? "exceptZero" : "negative",
    }));
  }
  return formats.get(key);
}

/** So many significant digits, trailing zeros kept so that a column's figures do not jump. */
export function significant(value, digits = 6, signed = false) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NOTHING;
  const magnitude = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)));
  if (magnitude < -7) return minus(value.toExponential(digits - 1));
  return minus(decimals(Math.max(0, Math.min(12, digits - 1 - magnitude)), signed).format(value));
}

const UNITS = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]];

// 1.23e−6, 1.2e−12
const powers = (value) => minus(value.toExponential(Math.abs(value) < 1e-9 ? 1 : 2));

/** In seven characters or so: four digits, three below one. */
export function figure(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NOTHING;
  if (value !== 0 && Math.abs(value) < 0.001) return powers(value);
  return compact(value, Math.abs(value) < 1 ? 3 : 4);
}

/** As `significant`, thousands as k, M, B. */
export function compact(value, digits = 4, signed = false) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NOTHING;
  const [size, unit] = unitOf(value);
  return `${significant(value / size, digits, signed)}${unit && ` ${unit}`}`;
}

/** What a value is counted in: [1e6, "M"] for three millions. */
export const unitOf = (value) => UNITS.find(([size]) => Math.abs(value) >= size) ?? [1, ""];

export const percent = (value, places = 2) =>
  value === null || value === undefined || !Number.isFinite(value) ? NOTHING : minus(decimals(places, true).format(value));

/** A value in the way of its measure. */
export function inMeasure(measure, value) {
  if (measure === "price") return significant(value, 6);
  if (measure === "change_absolute") return significant(value, 5, true);
  if (measure === "change_percentage") return value === null || value === undefined ? NOTHING : `${percent(value, 3)} %`;
  return compact(value, 4);
}

const WIDE = 8;

/** As `inMeasure`, in eight characters: of a number that has more, fewer digits are shown rather than a part. */
export function inColumn(measure, value) {
  const text = inMeasure(measure, value);
  if (text.length <= WIDE || !Number.isFinite(value)) return text;
  if (measure === "change_percentage") return `${percent(value, Math.abs(value) < 100 ? 2 : 0)} %`;
  const signed = measure === "change_absolute";
  const size = Math.abs(value);
  if (size >= 1e6) return compact(value, 4, signed);
  if (size >= 1) return significant(value, 5, signed);
  return size < 1e-3 ? powers(value) : minus(decimals(signed ? 5 : 6, signed).format(value));
}

const minus = (text) => text.replaceAll("-", "−");
const two = (number) => String(number).padStart(2, "0");

/** 14:03 */
export function clock(time) {
  const date = new Date(time);
  return `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
}

/** 14:03:09 */
export const clockSeconds = (time) => `${clock(time)}:${two(new Date(time).getUTCSeconds())}`;

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** 24 Nov */
export function monthDay(time) {
  const date = new Date(time);
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
}

/** 24 Nov 14:03 */
export const dayClock = (time) => `${monthDay(time)} ${clock(time)}`;

/** 40 s, 7 min, 3 h 10 min, 2 d */
export function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.round(hours / 24)} d`;
}

export const plural = (count, noun, nouns = `${noun}s`) => `${count.toLocaleString("en-US")} ${count === 1 ? noun : nouns}`;
