// The page put together: two streams, what they feed, and who tells whom. Every other module knows only its own part.

import { access } from "./access.js";
import * as address from "./address.js";
import { getHistoryCsv, readPoints } from "./api.js";
import { Breaches } from "./breaches.js";
import { Chart } from "./chart.js";
import { byId, make, radios, setPairs, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { DAY_SLOTS, HOUR, MEASURES, MINUTE, NOTHING, clock, clockSeconds, compact, inMeasure, percent, plural, span } from "./format.js";
import { Freshness } from "./freshness.js";
import { Market } from "./market.js";
import { now } from "./now.js";
import { paced } from "./pacing.js";
import { RankingTable } from "./ranking.js";
import { Series } from "./series.js";
import { Signing } from "./signing.js";
import { Stream } from "./stream.js";
import { setDrawn } from "./title.js";
import { Trial } from "./trial.js";

const HIDDEN_FOR = 30_000;

const market = new Market();
const breaches = new Breaches();
const chart = new Chart({ onRange: ranged });
const freshness = new Freshness(market);
const trial = new Trial(chart);
const ranking = new RankingTable(market, {
  onChoose: (metric) => draw(metric, shown.measure).then(() => view("series")),
  openOf: (metric) => breaches.openOf(metric),
});
const feed = new Feed(breaches, { onChoose: showBreach });

// `absent` is the series that the address asked for and nobody has.
const shown = { metric: null, measure: "price", series: null, loading: null, absent: null };

// ---- the series that is shown

async function draw(metric, measure) {
  shown.loading?.abort();
  const { signal } = (shown.loading = new AbortController());
  const other = metric !== shown.metric || measure !== shown.measure;
  Object.assign(shown, { metric, measure });
  byId("series-title").replaceChildren(...title(metric));
  chooseMeasure(measure);
  countBreaches();
  ranking.choose(metric);
  feed.follow(metric);
  trial.follow(metric, measure);
  address.write({ metric, measure, ...chart.range });
  if (other) {
    shown.absent = null;
    shown.series = null;
    chart.show(null);
    chart.markTrial([]);
    setPairs(byId("figures"), []);
    setText(byId("coverage"), "");
    byId("save").hidden = true;
  }
  note(other ? "Reading 24 hours…" : "");
  try {
    const series = await Series.load(metric, measure, signal);
    if (signal.aborted) return;
    shown.series = series;
    note(series.coverage === 0 ? "No point of this series in the last 24 hours." : "");
    chart.show(series);
    chart.mark(breaches.of(metric, measure));
    figures();
    await breaches.loadMetric(metric, signal);
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    if (!shown.series) note(`${told(error)} It is tried again until it works.`);
    trouble(error);
    retrySoon();
  }
}

const title = (metric) => {
  const [exchange, pair] = metric.split(":");
  return [make("span", { className: "title-exchange", textContent: exchange }), make("span", { textContent: pair })];
};

function note(text) {
  byId("chart-note").hidden = text === "";
  setText(byId("chart-note"), text);
}

function figures() {
  const { series, metric, measure } = shown;
  if (!series) return;
  const values = series.values.filter((value) => value !== null);
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const pairs = [["24 h low", inMeasure(measure, low)], ["24 h high", inMeasure(measure, high)]];
  if (measure === "price") {
    const change = market.last(metric, "change_percentage");
    pairs.push(["24 h change", change === null ? NOTHING : `${percent(change)} %`]);
    pairs.push(["24 h volume", compact(market.last(metric, "volume"))]);
  } else {
    pairs.push(["Price", inMeasure("price", market.last(metric, "price"))]);
  }
  setPairs(byId("figures"), values.length ? pairs : []);
  setDrawn(`${inMeasure(measure, values.at(-1))} ${metric.split(":")[1]}`);
  setText(byId("coverage"), `${values.length.toLocaleString("en-US")} of ${series.values.length.toLocaleString("en-US")} minutes`);
  byId("save").hidden = false;
}

byId("save").addEventListener("click", async () => {
  const { metric, measure } = shown;
  try {
    const file = make("a", { href: URL.createObjectURL(await getHistoryCsv(metric, measure)), download: `${metric.replace(":", "-")}-${measure}.csv` });
    file.click();
    URL.revokeObjectURL(file.href);
  } catch (error) {
    trouble(error);
    retrySoon();
  }
});

// On which measures of this metric there is something to see.
function countBreaches() {
  const since = now() - DAY_SLOTS * MINUTE;
  for (const button of byId("measures").children) {
    const own = breaches.of(shown.metric, button.value).filter(({ kind, time }) => kind === "breach" && time >= since);
    button.dataset.count = own.length || "";
    button.title = own.length ? `${plural(own.length, "breach", "breaches")} in 24 hours` : "";
  }
}

async function showBreach(event) {
  if (!event.metric) return;
  view("series");
  if (event.metric !== shown.metric || event.measure !== shown.measure) await draw(event.metric, event.measure);
  chart.reveal(event);
}

const chooseMeasure = radios(byId("measures"), MEASURES, (measure) => {
  if (shown.metric) draw(shown.metric, measure);
});
const chooseSpan = radios(byId("spans"), [["1", "1 h"], ["6", "6 h"], ["24", "24 h"]], (hours) => chart.span(hours * HOUR));
chooseMeasure(shown.measure);
chooseSpan("24");
byId("zoom-reset").addEventListener("click", () => {
  chart.span(chart.range.span);
  byId("spans").querySelector("[tabindex='0']").focus();
});

// Another part of the day is shown.
function ranged({ span, zoom }) {
  chooseSpan(zoom ? "" : String(span / HOUR));
  const [from, to] = (zoom ?? []).map(clock);
  const button = byId("zoom-reset");
  button.hidden = !zoom;
  setText(button, zoom ? `${from} – ${to} ✕` : "");
  button.setAttribute("aria-label", zoom ? `Zoomed to ${from} to ${to} UTC; zoom out` : "");
  if (shown.metric) address.write({ ...shown, span, zoom });
}

const isKnown = (asked) => market.metrics.has(asked?.metric) && MEASURES.some(([name]) => name === asked.measure);

// Draw what the address asks for; without one the first of the ranking, which has to be known.
function start() {
  const asked = address.read();
  if (isKnown(asked)) {
    chart.span([HOUR, 6 * HOUR].includes(asked.span) ? asked.span : 24 * HOUR);
    if (asked.zoom) chart.zoom(asked.zoom);
    draw(asked.metric, asked.measure);
  } else if (market.rankings.size) {
    draw(ranking.first ?? market.metrics.keys().next().value, "price");
    shown.absent = asked;
  }
  notice();
}

// Not where the page's own link past the bar was followed.
addEventListener("hashchange", () => {
  if (market.metrics.size && address.read()) start();
});

for (const type of ["metrics", "rankings"]) {
  market.addEventListener(type, () => {
    if (shown.metric || !market.loaded) return;
    if (market.metrics.size) requestAnimationFrame(() => shown.metric ?? start());
    else note("No points yet. They will appear here by themselves.");
  });
}
// While a day is being filled in, points come by the thousand: they are taken at once and drawn a few times a second.
const redraw = paced(120, () => {
  if (shown.series) chart.refresh();
  figures();
});
market.addEventListener("values", ({ detail: points }) => {
  if (!shown.series) return;
  if (shown.series.take(points)) note("");
  shown.series.extendTo(Math.max(...points.map(({ time }) => time)));
  redraw();
});
breaches.addEventListener("change", () => {
  chart.rules = breaches.rules;
  if (shown.series) chart.mark(breaches.of(shown.metric, shown.measure));
  countBreaches();
  ranking.update();
});

// ---- streams

const rankAnew = paced(4_000, () => market.loadRankings());
const reload = paced(2_000, () => {
  market.loadMetrics();
  market.loadRankings();
  breaches.load();
  if (shown.metric) draw(shown.metric, shown.measure);
});
// Where a token is demanded only a token helps, or the streams, which go on asking.
const retrySoon = paced(5_000, () => setTimeout(() => access.refused || reload(), 3_000));

const links = { points: "connecting", breaches: "connecting" };

function stream(name, address, message) {
  return new Stream(address, {
    message,
    state: (state, error) => {
      links[name] = state;
      if (error) trouble(error);
      link();
    },
    open: (resumed) => {
      // Opened first and read then, nothing falls between the two.
      if (!resumed || troubled) reload();
      calm();
    },
  });
}

const points = stream("points", "/v1/points/stream", (event, document) => {
  if (!document.slot_time) return;
  market.take(readPoints(document));
  rankAnew();
});
const events = stream("breaches", "/v1/breaches/stream?include_late=true", (event, document) => {
  breaches.take(event, document);
});

let hiding = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) {
    // A browser gives a host six connections, whatever the number of tabs.
    hiding = setTimeout(() => points.pause(), HIDDEN_FOR);
  } else {
    points.resume();
    events.resume();
  }
});
addEventListener("online", refresh);

function refresh() {
  points.refresh();
  events.refresh();
}

new Signing({ onToken: refresh });

// ---- what is wrong, said once

let troubled = null;

// As a sentence; what it would have a person do, the page does.
function told({ message, problem = message }) {
  const words = problem.endsWith(".") ? problem : `${problem}.`;
  return words[0].toUpperCase() + words.slice(1);
}

function trouble(error) {
  troubled = error;
  notice();
}

function calm() {
  if (Object.values(links).every((state) => state === "live")) troubled = null;
  notice();
}

for (const source of [market, breaches]) {
  source.addEventListener("error", ({ detail: error }) => {
    trouble(error);
    retrySoon();
  });
}
market.addEventListener("rankings", () => calm());

function notice() {
  const words = [];
  if (troubled && !navigator.onLine) words.push("This machine is offline. What is shown is what was known; the page goes on by itself.");
  else if (access.refused) words.push("Who reads here has to sign in, with a token that the services know.");
  else if (troubled) words.push(`${told(troubled)} What is shown is what was known; it is tried again until it works.`);
  if (shown.absent) words.push(`${shown.absent.metric} has no ${shown.absent.measure} in the last 24 hours; what is shown instead moved most.`);
  for (const { exchange, age } of freshness.silent) {
    words.push(`${exchange} has been silent for ${span(age)}: no point has come from it, and gaps on its charts are real.`);
  }
  byId("notice").hidden = words.length === 0;
  setText(byId("notice"), words.join(" "));
}

function link() {
  const states = Object.values(links);
  const state = states.includes("down") ? "down" : states.includes("connecting") ? "connecting" : "live";
  const element = byId("link");
  element.dataset.state = state;
  setText(element, { down: access.refused ? "Not signed in" : "Reconnecting", connecting: "Connecting", live: "Live" }[state]);
}

// ---- the page around it

function view(name) {
  document.querySelector(".desk").dataset.view = name;
  for (const button of document.querySelectorAll("[data-show]")) button.setAttribute("aria-pressed", String(button.dataset.show === name));
}

for (const button of document.querySelectorAll("[data-show]")) button.addEventListener("click", () => view(button.dataset.show));

const THEMES = ["system", "dark", "light"];
const SIGNS = { system: "◐", dark: "☾", light: "☀" };

function theme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("theme", name);
  } catch {
    // Forbidden storage: the choice holds for this page.
  }
  const button = byId("theme");
  button.textContent = SIGNS[name];
  button.setAttribute("aria-label", `Theme: ${name}`);
  button.title = `Theme: ${name}`;
  chart.recolour();
}

byId("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "system";
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart.recolour());
theme(document.documentElement.dataset.theme ?? "system");

byId("help").addEventListener("click", () => byId("keys").showModal());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea") || document.querySelector("dialog[open]")) return;
  if (event.key === "/") {
    event.preventDefault();
    view("ranking");
    byId("search").focus();
  } else if (event.key === "?") {
    byId("keys").showModal();
  }
});

setInterval(() => {
  const time = now();
  setText(byId("clock"), `${clockSeconds(time)} UTC`);
  if (Math.floor(time / 1000) % 5 === 0) notice();
  // A minute without any point is a gap as soon as the next is over.
  if (shown.series?.extendTo(Math.floor(time / MINUTE - 3) * MINUTE)) chart.refresh();
}, 1_000);
