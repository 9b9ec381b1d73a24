// The bearer token that the services may ask for: had from a person, kept for this tab alone, sent with every request.
// Knows nothing of the page.

const PLACE = "token";

/** Events: "refused" (detail: the error) where somebody has to sign in, "admitted" where that is over. */
class Access extends EventTarget {
  #token = "";
  refused = false;

  constructor() {
    super();
    try {
      this.#token = sessionStorage.getItem(PLACE) ?? "";
    } catch {
      // Forbidden storage: the token holds for this page.
    }
  }

  get token() {
    return this.#token;
  }

  /** Return the headers of a request. */
  headers(others = {}) {
    return this.#token ? { ...others, Authorization: `Bearer ${this.#token}` } : others;
  }

  /** Take note of how a request was answered that had been sent with this token; one of earlier says nothing of now. */
  answered(status, token, error) {
    if (token !== this.#token) return;
    if (status === 401 || status === 403) {
      this.refused = true;
      this.dispatchEvent(new CustomEvent("refused", { detail: error }));
    } else if (this.refused && status < 400) {
      this.refused = false;
      this.dispatchEvent(new CustomEvent("admitted"));
    }
  }

  signIn(token) {
    this.#token = token;
    try {
      sessionStorage.setItem(PLACE, token);
    } catch {
      // As above.
    }
  }

  signOut() {
    this.#token = "";
    try {
      sessionStorage.removeItem(PLACE);
    } catch {
      // As above.
    }
  }
}

export const access = new Access();
