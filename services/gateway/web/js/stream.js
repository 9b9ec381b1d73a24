// Server-sent events that survive what a laptop does: sleep, lost networks, restarted servers.
//
// EventSource would do for a page that never sleeps and needs no token. It cannot send Last-Event-ID on a connection that
// we open anew, nor Authorization on any, does not say why it was refused, and waits for ever on a connection that died
// in silence; so the body is read here.

import { access } from "./access.js";
import { ApiError, errorIn, refusal, unreachable } from "./api.js";
import { heard } from "./now.js";

const SILENCE = 40_000; // the services send something at least every 15 s
const CHECK = 5_000;
const SHORTEST = 500;
const LONGEST = 15_000;

/**
 * A stream that goes on until it is closed.
 *
 * handlers.message(event, data): one message, its data parsed. handlers.open(resumed): it runs; `resumed` is false
 * where what came before may have been missed. handlers.state(state, error): "connecting", "live" or "down".
 */
export class Stream {
  #address;
  #handlers;
  #cursor = "";
  #heard = 0;
  #ticked = Date.now();
  #failures = 0;
  #retry = null;
  #abort = null;
  #paused = false;
  #interrupted = false;
  #watch;

  constructor(address, handlers) {
    this.#address = address;
    this.#handlers = handlers;
    this.#watch = setInterval(() => this.#look(), CHECK);
    this.#connect();
  }

  /** Drop the connection and keep the place. */
  pause() {
    this.#paused = true;
    this.#drop();
  }

  /** Go on from the place, at once. */
  resume() {
    this.#paused = false;
    if (!this.#abort || Date.now() - this.#heard > SILENCE / 2) this.#again();
  }

  /** After the network has come back: whatever is there is not to be trusted. */
  refresh() {
    if (!this.#paused) this.#again();
  }

  close() {
    clearInterval(this.#watch);
    this.pause();
  }

  #drop() {
    clearTimeout(this.#retry);
    this.#retry = null;
    this.#abort?.abort();
    this.#abort = null;
  }

  #again() {
    this.#drop();
    this.#failures = 0;
    this.#connect();
  }

  // A tick that comes far too late means that the machine slept; a connection that is silent for too long is dead.
  #look() {
    const now = Date.now();
    const slept = now - this.#ticked > 4 * CHECK;
    this.#ticked = now;
    if (this.#paused) return;
    if (this.#abort && (slept || now - this.#heard > SILENCE)) this.#again();
  }

  async #connect() {
    const abort = new AbortController();
    this.#abort = abort;
    this.#interrupted = false;
    this.#heard = Date.now();
    this.#handlers.state?.("connecting");
    let failure = null;
    try {
      const { token } = access;
      const headers = access.headers({ Accept: "text/event-stream" });
      if (this.#cursor) headers["Last-Event-ID"] = this.#cursor;
      const resumed = this.#cursor !== "";
      const response = await fetch(this.#address, { headers, signal: abort.signal, cache: "no-store" }).catch(unreachable);
      const error = response.ok ? null : await refusal(response);
      access.answered(response.status, token, error);
      heard(response);
      if (error) throw error;
      this.#handlers.state?.("live");
      this.#handlers.open?.(resumed);
      await this.#read(response.body, abort.signal);
    } catch (error) {
      failure = error;
    }
    if (abort.signal.aborted) return;
    this.#abort = null;
    this.#later(failure);
  }

  #later(failure) {
    if (failure instanceof ApiError && ["CURSOR_EXPIRED", "INVALID_CURSOR"].includes(failure.reason)) this.#cursor = "";
    const wait = failure === null ? SHORTEST : Math.min(LONGEST, SHORTEST * 2 ** this.#failures);
    this.#failures = failure === null ? 0 : this.#failures + 1;
    if (failure !== null) this.#handlers.state?.("down", failure);
    this.#retry = setTimeout(() => this.#connect(), wait * (0.75 + Math.random() / 2));
  }

  async #read(body, signal) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read().catch(unreachable);
      if (done || signal.aborted) return;
      this.#heard = Date.now();
      this.#failures = 0;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.#take(block);
    }
  }

  #take(block) {
    let event = "message";
    let id = null;
    const data = [];
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      if (colon <= 0) continue; // a comment, or a field without a value
      const field = line.slice(0, colon);
      const value = line.slice(colon + 1).replace(/^ /, "");
      if (field === "data") data.push(value);
      else if (field === "event") event = value;
      else if (field === "id") id = value;
    }
    if (data.length) this.#handle(event, JSON.parse(data.join("\n")));
    // Only after the message has been handled: what was not seen is asked for again.
    if (id !== null) this.#cursor = id;
  }

  // The gateway tells what happens to its own streams: `interrupted` while it waits for a service, `reset` where it
  // cannot go on from the cursor, `ended` as the last word.
  #handle(event, document) {
    if (event === "ended") throw errorIn(document);
    if (event === "interrupted") {
      this.#interrupted = true;
      this.#handlers.state?.("down", errorIn(document));
      return;
    }
    if (event === "reset") this.#handlers.open?.(false);
    else this.#handlers.message(event, document);
    if (this.#interrupted) {
      this.#interrupted = false;
      this.#handlers.state?.("live");
      this.#handlers.open?.(true);
    }
  }
}

