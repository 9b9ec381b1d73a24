// The chart of one series: uPlot draws it, and this module what uPlot does not know: gaps, breaches and their evidence,
// and a keyboard. Times are in milliseconds outside and in seconds inside uPlot.

/* global uPlot */

import { padded, tagText, timeLabels, valueLabels, valuesWidth } from "./axes.js";
import { byId, make, setText } from "./dom.js";
import { fillCard, isPresent, sentence } from "./evidence.js";
import { MINUTE, clock, dayClock, inMeasure } from "./format.js";
import { colours, hatching } from "./paint.js";
import { Range } from "./range.js";

const NEAR = 12; // pixels between the pointer and a mark
const MARK = 4.5;
const TAG = 14; // pixels between the middle of the newest value's tag and that of a label beside it

export class Chart {
  #box = byId("chart");
  #canvas = byId("canvas");
  #cursor = byId("cursor");
  #marks = byId("marks");
  #card = byId("evidence");
  #readout = byId("readout");
  #plot = null;
  #series = null;
  #events = [];
  #trial = [];
  #shown = null; // the event whose evidence is shown
  #place = null; // the slot under the keyboard's cursor
  #range = new Range();
  #onRange;
  #began = 0;
  #colours = {};

  /** The rules by version, as `Breaches` has them. */
  rules = new Map();

  /** `onRange({span, zoom})` is called whenever another part of the day is shown than before. */
  constructor({ onRange }) {
    this.#onRange = onRange;
    new ResizeObserver(() => this.#resize()).observe(this.#canvas);
    this.#keys();
  }

  /** Which part of the day is shown, and zoomed to. */
  get range() {
    const { span, zoom } = this.#range;
    return { span, zoom };
  }

  /** Draw this series, or nothing for null. The part of the day that is shown stays, as one compares. */
  show(series) {
    this.#series = series;
    this.#place = null;
    this.#hide();
    this.#build();
  }

  /** The series has changed. */
  refresh() {
    if (!this.#plot || !this.#series) return;
    this.#plot.setData(this.#data(), false);
    // What the day has left behind is no longer on the chart.
    [this.#events, this.#trial] = [this.#events, this.#trial].map((events) => this.#drawable(events));
    this.#scale();
    this.#describe();
  }

  /** Mark these events: those that happened, or those of a try-out. */
  mark(events) {
    this.#events = this.#drawable(events);
    this.#marked();
  }

  markTrial(events) {
    this.#trial = this.#drawable(events);
    this.#marked();
  }

  /** Bring an event into view and show its evidence; of one that is older than the day only that. */
  reveal(event) {
    if (!this.#plot) return;
    this.#range.reach(event.time, this.#series);
    this.#ranged();
    this.#explain(this.#events.find(({ id }) => id === event.id) ?? event);
  }

  /** How much of the day is in sight, in milliseconds. */
  span(milliseconds) {
    this.#range.show(milliseconds);
    this.#ranged();
    this.#hide();
  }

  /** Zoom to [start, end). */
  zoom([start, end]) {
    this.#range.zoomTo(start, end);
    this.#ranged();
  }

  /** Take the colours of the theme anew. */
  recolour() {
    this.#build();
  }

  // ---- drawing

  #data() {
    return [this.#series.times, this.#series.values];
  }

  #drawable(events) {
    const start = this.#series?.start ?? 0;
    return events.filter(({ kind, time }) => kind === "breach" && isPresent(time) && time >= start).sort((a, b) => a.time - b.time);
  }

  #ranged() {
    this.#scale();
    this.#onRange(this.range);
  }

  #scale() {
    if (!this.#plot || !this.#series) return;
    const before = this.#range.zoom;
    const [start, end] = this.#range.of(this.#series);
    this.#plot.setScale("x", { min: start / 1000, max: end / 1000 });
    if (before && !this.#range.zoom) this.#onRange(this.range);
  }

  #build() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#canvas.replaceChildren();
    if (!this.#series) {
      this.#describe();
      return;
    }
    this.#began = performance.now();
    this.#colours = colours(this.#box);
    const font = `11px ${getComputedStyle(this.#box).fontFamily}`;
    const bars = this.#series.measure === "volume_1m";
    const axis = { stroke: this.#colours.muted, font, ticks: { show: false }, grid: { stroke: this.#colours.line, width: 1 } };
    this.#plot = new uPlot({
      width: Math.max(200, this.#canvas.clientWidth),
      height: Math.max(140, this.#canvas.clientHeight),
      padding: [18, 8, 0, 8],
      legend: { show: false },
      cursor: { y: false, points: { size: 7, width: 1.5, fill: this.#colours.panel }, drag: { x: true, y: false, dist: 8, setScale: false } },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: { x: { time: true }, y: { range: (_plot, low, high) => padded(low, high, bars) } },
      axes: [
        { ...axis, size: 26, gap: 6, space: 72, grid: { ...axis.grid, dash: [1, 3] }, values: timeLabels },
        { ...axis, side: 1, size: (_plot, labels) => valuesWidth(labels, this.#newestText()), gap: 8, space: 34, values: (plot, splits) => (plot === this.#plot ? this.#valueLabels(plot, splits) : []) },
      ],
      series: [{}, {
        stroke: this.#colours.accent,
        width: bars ? 0 : 1.35,
        fill: bars ? this.#colours.accent : this.#colours.fill,
        spanGaps: false,
        points: { show: false },
        paths: bars ? uPlot.paths.bars({ size: [0.72, 14, 1], align: 1 }) : undefined,
      }],
      hooks: {
        // One that was given up may still have a drawing to come.
        drawClear: [(plot) => plot === this.#plot && this.#drawBehind(plot)],
        draw: [(plot) => plot === this.#plot && this.#drawMarks(plot)],
        setCursor: [(plot) => plot === this.#plot && this.#pointed(plot)],
        setSelect: [(plot) => this.#selected(plot)],
      },
    }, this.#data(), this.#canvas);
    this.#plot.over.addEventListener("dblclick", () => this.span(this.#range.span));
    this.#plot.over.addEventListener("mouseleave", () => this.#hide());
    for (const type of ["pointerdown", "pointermove"]) this.#plot.over.addEventListener(type, (event) => this.#touched(event));
    this.#scale();
    this.#resize();
    this.#describe();
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!this.#plot || width < 50 || height < 50) return;
    if (this.#plot.width !== width || this.#plot.height !== height) this.#plot.setSize({ width, height });
  }

  // The sliders lie over the plot, so that their focus ring surrounds it.
  #cover({ left, top, width, height }) {
    for (const slider of [this.#cursor, this.#marks]) {
      slider.style.left = `${left / devicePixelRatio}px`;
      slider.style.top = `${top / devicePixelRatio}px`;
      slider.style.width = `${width / devicePixelRatio}px`;
      slider.style.height = `${height / devicePixelRatio}px`;
    }
  }

  // Gaps are hatched over the full height, what was filled in later has a line along the bottom; the window that a
  // breach was compared with is shaded.
  #drawBehind(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    const across = ([first, last], paint) => {
      const left = plot.valToPos((this.#series.start + first * MINUTE) / 1000, "x", true);
      const right = plot.valToPos((this.#series.start + last * MINUTE) / 1000, "x", true);
      if (right >= bbox.left && left <= bbox.left + bbox.width) paint(left, Math.max(right - left, 2));
    };
    const pattern = ctx.createPattern(hatching(this.#colours.hatch), "repeat");
    for (const run of this.#series.gaps) {
      across(run, (left, width) => {
        ctx.fillStyle = pattern;
        ctx.fillRect(left, bbox.top, width, bbox.height);
      });
    }
    if (this.#shown) {
      const end = (this.#shown.time - this.#series.start) / MINUTE;
      ctx.fillStyle = this.#colours.select;
      across([end - this.#window(this.#shown) / MINUTE, end], (left, width) => ctx.fillRect(left, bbox.top, width, bbox.height));
    }
    ctx.fillStyle = this.#colours.filled;
    const thick = 3 * devicePixelRatio;
    for (const run of this.#series.fillings) across(run, (left, width) => ctx.fillRect(left, bbox.top + bbox.height - thick, width, thick));
    ctx.restore();
  }

  #drawMarks(plot) {
    const { ctx, bbox } = plot;
    this.#cover(bbox);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, 0, bbox.width, bbox.top + bbox.height);
    ctx.clip();
    if (this.#shown) this.#drawEvidence(plot, this.#shown);
    for (const event of this.#trial) this.#drawMark(plot, event, true);
    for (const event of this.#events) this.#drawMark(plot, event, false);
    ctx.restore();
    this.#drawNewest(plot);
    if (this.#began) {
      performance.clearMeasures("tickwatch-chart");
      performance.measure("tickwatch-chart", { start: this.#began, end: performance.now() });
      this.#began = 0;
    }
  }

  // Without those that the tag of the newest value would cover.
  #valueLabels(plot, splits) {
    const newest = this.#series.values.findLast(isPresent);
    const tag = isPresent(newest) ? plot.valToPos(newest, "y") : -Infinity;
    const labels = valueLabels(this.#series.measure, splits);
    return splits.map((value, place) => (Math.abs(plot.valToPos(value, "y") - tag) < TAG ? "" : labels[place]));
  }

  #newestText() {
    const value = this.#series?.values.findLast(isPresent);
    return isPresent(value) ? tagText(this.#series.measure, value) : "";
  }

  // The newest value as a tag on the axis, where a trader's eye goes first.
  #drawNewest(plot) {
    const { ctx, bbox } = plot;
    const value = this.#series.values.findLast(isPresent);
    if (!isPresent(value)) return;
    const y = plot.valToPos(value, "y", true);
    if (y < bbox.top || y > bbox.top + bbox.height) return;
    const ratio = devicePixelRatio;
    const edge = bbox.left + bbox.width;
    ctx.save();
    // Not in the colour of the series: it crosses gaps.
    ctx.strokeStyle = this.#colours.muted;
    ctx.globalAlpha = 0.5;
    ctx.lineWidth = ratio;
    ctx.setLineDash([ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, Math.round(y) + 0.5);
    ctx.lineTo(edge, Math.round(y) + 0.5);
    ctx.stroke();
    ctx.globalAlpha = 1;
    ctx.font = `600 ${11 * ratio}px ${getComputedStyle(this.#box).fontFamily}`;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    const words = this.#newestText();
    ctx.fillStyle = this.#colours.accent;
    ctx.beginPath();
    ctx.roundRect(edge + 2 * ratio, y - 8 * ratio, ctx.measureText(words).width + 12 * ratio, 16 * ratio, 2 * ratio);
    ctx.fill();
    ctx.fillStyle = this.#colours["accent-ink"];
    ctx.fillText(words, edge + 8 * ratio, y + 0.5 * ratio);
    ctx.restore();
  }

  #position(plot, event, scaled) {
    const x = plot.valToPos(this.#middle(event.time) / 1000, "x", scaled);
    const value = event.value ?? this.#series.at(event.time);
    const bottom = scaled ? plot.bbox.top + plot.bbox.height : plot.over.clientHeight;
    const y = isPresent(value) ? plot.valToPos(value, "y", scaled) : bottom;
    return [x, y];
  }

  // Bars stand between their slot and the next, lines on their slot.
  #middle(time) {
    return this.#series.measure === "volume_1m" ? time + MINUTE / 2 : time;
  }

  #drawMark(plot, event, trial) {
    const { ctx } = plot;
    const [x, y] = this.#position(plot, event, true);
    const size = MARK * devicePixelRatio * (event === this.#shown ? 1.5 : 1);
    const tip = y - (trial ? 2 : 3) * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x, tip);
    ctx.lineTo(x - size * 0.8, tip - size * 1.35);
    ctx.lineTo(x + size * 0.8, tip - size * 1.35);
    ctx.closePath();
    if (trial) {
      ctx.strokeStyle = this.#colours.trial;
      ctx.lineWidth = 1.25 * devicePixelRatio;
      ctx.stroke();
    } else {
      ctx.fillStyle = this.#colours[event.severity] ?? this.#colours.warning;
      ctx.fill();
    }
  }

  // Of a rule that was changed since, the points that were averaged tell how long its window was, but for gaps.
  #window({ rule_version: version, point_count: count }) {
    return this.rules.get(version)?.window ?? (count ?? 0) * MINUTE;
  }

  // What a breach was compared with: the mean over its window, and what it had to exceed.
  #drawEvidence(plot, event) {
    const { ctx, bbox } = plot;
    const x = plot.valToPos(this.#middle(event.time) / 1000, "x", true);
    const begin = plot.valToPos((event.time - this.#window(event)) / 1000, "x", true);
    const level = (value, dash, colour) => {
      if (!isPresent(value)) return;
      const y = Math.round(plot.valToPos(value, "y", true)) + 0.5;
      if (y < bbox.top || y > bbox.top + bbox.height) return;
      ctx.setLineDash(dash.map((length) => length * devicePixelRatio));
      ctx.strokeStyle = colour;
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(Math.max(bbox.left, begin), y);
      ctx.lineTo(Math.min(bbox.left + bbox.width, x + 6 * devicePixelRatio), y);
      ctx.stroke();
    };
    level(event.baseline, [], this.#colours.text);
    level(event.threshold, [4, 3], this.#colours[event.severity] ?? this.#colours.warning);
    ctx.setLineDash([]);
    ctx.fillStyle = this.#colours.band;
    ctx.fillRect(x - devicePixelRatio / 2, bbox.top, devicePixelRatio, bbox.height);
  }

  // ---- evidence and reading

  #marked() {
    // The same event may have come anew, as another object.
    const same = this.#shown && this.#all.find(({ id }) => id === this.#shown.id);
    if (same) this.#shown = same;
    else if (!this.#isOld(this.#shown)) this.#hide();
    this.#describe();
    this.#plot?.redraw(false);
  }

  // From before the day that is shown: it has evidence, and no mark.
  #isOld(event) {
    return Boolean(event && this.#series && event.time < this.#series.start);
  }

  get #all() {
    return [...this.#events, ...this.#trial];
  }

  #explain(event) {
    this.#shown = event;
    this.#cardFor(event);
    const place = this.#events.indexOf(event);
    if (place >= 0) this.#marks.setAttribute("aria-valuenow", String(place + 1));
    this.#describe();
    this.#plot.redraw(false);
  }

  #cardFor(event) {
    const rule = this.rules.get(event.rule_version);
    fillCard(this.#card, event, { trial: this.#trial.includes(event), ownWords: !rule?.window || rule.message !== "" });
    this.#card.hidden = false;
    const [x, y] = this.#position(this.#plot, event, false);
    const { offsetLeft: left, offsetTop: top, offsetWidth: width, offsetHeight: height } = this.#cursor;
    const { offsetWidth: wide, offsetHeight: tall } = this.#card;
    const beside = x + wide + 24 < width ? x + 16 : x - wide - 16;
    this.#card.style.left = `${left + Math.max(0, Math.min(width - wide, beside))}px`;
    this.#card.style.top = `${top + Math.max(4, Math.min(height - tall - 4, y - tall / 2))}px`;
  }

  #hide() {
    this.#card.hidden = true;
    if (!this.#shown) return;
    this.#shown = null;
    this.#plot?.redraw(false);
  }

  #pointed(plot) {
    const { left, top, idx } = plot.cursor;
    if (left < 0 || !isPresent(idx)) {
      this.#say(null);
      return;
    }
    this.#say(idx);
    let nearest = null;
    let least = NEAR;
    for (const event of this.#all) {
      const [x, y] = this.#position(plot, event, false);
      const distance = Math.hypot(x - left, y - MARK - top);
      if (distance < least) [nearest, least] = [event, distance];
    }
    if (nearest === this.#shown) return;
    if (nearest) this.#explain(nearest);
    else if (document.activeElement !== this.#marks) this.#hide();
  }

  // uPlot follows a mouse; a finger reads the chart likewise, and scrolls the page up and down.
  #touched({ pointerType, clientX, clientY }) {
    if (pointerType === "mouse") return;
    const { left, top } = this.#plot.over.getBoundingClientRect();
    this.#plot.setCursor({ left: clientX - left, top: clientY - top });
  }

  #selected(plot) {
    const { left, width } = plot.select;
    if (width < 8) return;
    const ends = [left, left + width].map((x) => plot.posToVal(x, "x") * 1000);
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.#hide();
    this.zoom(ends);
  }

  // The line above the chart: the point under the cursor, else the newest.
  #say(place) {
    const series = this.#series;
    if (!series) {
      setText(this.#readout, "");
      return;
    }
    const at = place ?? series.values.findLastIndex(isPresent);
    const value = series.values[at] ?? null;
    const time = series.times[at];
    const words = value === null ? "no point" : inMeasure(series.measure, value);
    if (time === undefined) setText(this.#readout, "");
    else this.#readout.replaceChildren(words, make("span", { className: "when", textContent: `${dayClock(time * 1000)} UTC` }));
  }

  #describe() {
    const series = this.#series;
    this.#cursor.hidden = !series;
    if (!series) {
      this.#marks.hidden = true;
      this.#say(null);
      return;
    }
    const place = this.#place ?? series.values.findLastIndex(isPresent);
    const value = series.values[place] ?? null;
    set(this.#cursor, {
      "aria-valuemin": 0,
      "aria-valuemax": series.values.length - 1,
      "aria-valuenow": Math.max(0, place),
      "aria-valuetext": place < 0 ? "no point in the last 24 hours"
        : `${clock(series.times[place] * 1000)} UTC, ${value === null ? "no point" : inMeasure(series.measure, value)}`,
    });
    this.#marks.hidden = this.#events.length === 0;
    if (this.#events.length) {
      const shown = Math.max(0, this.#events.indexOf(this.#shown));
      const event = this.#shown && this.#events.includes(this.#shown) ? this.#shown : this.#events.at(-1);
      set(this.#marks, {
        "aria-valuemin": 1,
        "aria-valuemax": this.#events.length,
        "aria-valuenow": this.#shown ? shown + 1 : this.#events.length,
        "aria-valuetext": `${this.#events.indexOf(event) + 1} of ${this.#events.length}: ${sentence(event)}`,
      });
    }
    if (this.#place === null && this.#plot && (this.#plot.cursor.left ?? -1) < 0) this.#say(null);
  }

  #keys() {
    this.#cursor.addEventListener("keydown", (event) => {
      const { length } = this.#series?.values ?? [];
      const step = event.shiftKey ? 10 : 1;
      const now = this.#place ?? length - 1;
      const target = {
        ArrowLeft: now - step, ArrowDown: now - step, ArrowRight: now + step, ArrowUp: now + step,
        PageUp: now - 60, PageDown: now + 60, Home: 0, End: length - 1,
      }[event.key];
      if (target === undefined || !length || !this.#plot) return;
      event.preventDefault();
      this.#moveTo(Math.max(0, Math.min(length - 1, target)));
    });
    this.#cursor.addEventListener("blur", () => {
      this.#place = null;
      this.#plot?.setCursor({ left: -10, top: -10 });
      this.#describe();
    });
    this.#marks.addEventListener("focus", () => {
      if (this.#events.length) this.reveal(this.#events.includes(this.#shown) ? this.#shown : this.#inSight());
    });
    this.#marks.addEventListener("blur", () => this.#hide());
    this.#marks.addEventListener("keydown", (event) => {
      const last = this.#events.length - 1;
      const now = this.#events.indexOf(this.#shown);
      const target = {
        ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, Home: 0, End: last,
      }[event.key];
      if (target === undefined || last < 0) return;
      event.preventDefault();
      const one = this.#events[Math.max(0, Math.min(last, target))];
      this.reveal(one);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#hide();
    });
  }

  #inSight() {
    const [start, end] = this.#range.of(this.#series);
    return this.#events.findLast(({ time }) => time >= start && time < end) ?? this.#events.at(-1);
  }

  #moveTo(place) {
    this.#place = place;
    const time = this.#series.times[place];
    this.#range.reach(time * 1000, this.#series);
    this.#ranged();
    const value = this.#series.values[place];
    const left = this.#plot.valToPos(time, "x");
    this.#plot.setCursor({ left, top: isPresent(value) ? this.#plot.valToPos(value, "y") : 0 });
    this.#say(place);
    this.#describe();
  }
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
  }
}
