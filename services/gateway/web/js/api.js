// The gateway's REST interface: addresses in, plain objects out, times as milliseconds since the epoch.
// Knows nothing of the page.

import { access } from "./access.js";

/**
 * What the gateway, or the lack of one, said. `reason` is the contract's (METRIC_NOT_FOUND, …) or empty, `problem` the
 * message without what a person might do about it.
 */
export class ApiError extends Error {
  constructor(message, { status = 0, reason = "", field = "", problem = message } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.reason = reason;
    this.field = field;
    this.problem = problem;
  }
}

/** Read the JSON that tells an error. */
export function errorIn({ error }, status = 0) {
  const details = error?.details ?? [];
  const { reason, metadata } = details.find((detail) => detail.reason) ?? {};
  return new ApiError(error?.message ?? `The gateway answered ${status}.`, {
    status: error?.code ?? status,
    reason,
    field: details.find((detail) => detail.fieldViolations)?.fieldViolations[0]?.field,
    problem: metadata?.problem && [metadata.field, metadata.problem].filter(Boolean).join(": "),
  });
}

/** Turn an error response into an ApiError. */
export async function refusal(response) {
  try {
    return errorIn(await response.json(), response.status);
  } catch {
    return new ApiError(`The gateway answered ${response.status}.`, { status: response.status });
  }
}

/** Throw what there is to say where nothing answers. */
export function unreachable() {
  throw new ApiError("The gateway cannot be reached.");
}

async function call(address, options) {
  const response = await ask(address, options);
  return response.json();
}

async function ask(address, options = {}) {
  let response;
  const { token } = access;
  try {
    response = await fetch(address, { ...options, headers: access.headers(options.headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    unreachable();
  }
  if (!response.ok) {
    const error = await refusal(response);
    access.answered(response.status, token, error);
    throw error;
  }
  access.answered(response.status, token);
  return response;
}

function query(parameters) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null && one !== "") search.append(name, one);
  }
  const text = search.toString();
  return text ? `?${text}` : "";
}

const time = (text) => (text ? Date.parse(text) : null);
const iso = (milliseconds) => new Date(milliseconds).toISOString().replace(".000Z", "Z");

export async function listMetrics() {
  const { metrics } = await call("/v1/metrics");
  return metrics.map((metric) => ({
    name: metric.name,
    exchange: metric.exchange,
    pair: metric.pair,
    measures: new Map(metric.measures.map((one) => [
      one.measure,
      { time: time(one.last_time), value: one.last_value, count: one.point_count, coverage: one.coverage },
    ])),
  }));
}

/** 24 hours of one series: {start, values, missing, backfilled}, a value a minute, null where there is none. */
export async function getHistory(metric, measure, signal) {
  const document = await call(`/v1/metrics/${encodeURIComponent(metric)}/${measure}/history`, { signal });
  return {
    start: time(document.start_time),
    values: document.values,
    backfilled: document.backfilled.map((range) => [time(range.start_time), time(range.end_time)]),
  };
}

/** The same as CSV, in a Blob. */
export async function getHistoryCsv(metric, measure) {
  const response = await ask(`/v1/metrics/${encodeURIComponent(metric)}/${measure}/history`, { headers: { Accept: "text/csv" } });
  return response.blob();
}

export async function rankMetrics(measure, statistic, window, signal) {
  const document = await call(`/v1/rankings/${measure}${query({ statistic, window })}`, { signal });
  return {
    end: time(document.window.end_time),
    places: new Map(document.rankings.map((one) => [
      one.metric, { rank: one.rank, value: one.value, count: one.point_count, coverage: one.coverage },
    ])),
    unranked: document.unranked.length,
  };
}

/** A page of events, the newest first: {events, next}. */
export async function listBreaches({ metric, start, page, size = 200 } = {}, signal) {
  const document = await call(`/v1/breaches${query({
    metrics: metric, start_time: start && iso(start), page_token: page, page_size: size,
  })}`, { signal });
  return { events: document.events.map(readEvent), next: document.next_page_token };
}

/** The rules that hold now, by version: the window of their means in milliseconds (null without one), and their own message. */
export async function listRules() {
  const { rules } = await call("/v1/rules");
  return new Map(rules.map(({ rule }) => [
    rule.version, { window: rule.ratio ? Number.parseFloat(rule.ratio.window) * 1000 : null, message: rule.message },
  ]));
}

/** What a ratio rule would have fired in the last 24 hours. */
export async function tryRule({ factor, window, selector }, signal) {
  const rule = { name: "trial", selector, ratio: { factor, window: `${window}m`, min_points: Math.min(10, window) } };
  const document = await call("/v1/rules:test", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ rule, max_events: 10_000 }),
    signal,
  });
  return {
    events: document.events.map(readEvent),
    breaches: Number(document.breach_count),
    episodes: Number(document.episode_count),
    points: Number(document.point_count),
    series: document.series_count,
    start: time(document.window.start_time),
    end: time(document.window.end_time),
  };
}

/** An event of the contract with its times as numbers. */
export function readEvent(event) {
  return { ...event, time: time(event.slot_time), opened: time(event.opened_time) };
}

/** The points of one message of the stream: [{metric, measure, time, value, backfilled}]. */
export function readPoints(document) {
  const slot = time(document.slot_time);
  return document.metrics.map((metric, place) => ({
    metric,
    measure: document.measures[place],
    time: slot,
    value: document.values[place],
    backfilled: document.backfilled[place],
  }));
}
