// The address names what is shown, so that it can be sent to somebody: #KRAKEN:BTCUSD/price, of less than the day with
// /6h, or of a part of it with /2026-11-25T10:00Z..2026-11-25T11:30Z. Knows nothing of the page.

import { HOUR, MINUTE } from "./format.js";
import { DAY } from "./range.js";

const PLACE = /^#([^/]+)\/(\w+)(?:\/(?:(\d+)h|([^/]+)\.\.([^/]+)))?$/;

/** What the address asks for: {metric, measure, span, zoom}, or null where it asks for nothing that can be read. */
export function read() {
  let text;
  try {
    text = decodeURIComponent(location.hash);
  } catch {
    return null;
  }
  const found = PLACE.exec(text);
  if (!found) return null;
  const [, metric, measure, hours, start, end] = found;
  const zoom = [Date.parse(start), Date.parse(end)];
  return { metric, measure, span: hours ? Number(hours) * HOUR : DAY, zoom: zoom[1] - zoom[0] >= MINUTE ? zoom : null };
}

/** Name what is shown; going back leads to where one came from, not through every look. */
export function write({ metric, measure, span, zoom }) {
  const part = zoom ? `/${zoom.map(minute).join("..")}` : span === DAY ? "" : `/${span / HOUR}h`;
  history.replaceState(null, "", `#${metric}/${measure}${part}`);
}

const minute = (time) => new Date(time).toISOString().replace(":00.000Z", "Z");
