// Signing in: asks for a token when one is demanded, and not again once that was declined; the button in the bar does.

import { access } from "./access.js";
import { byId, setText } from "./dom.js";

const TOKEN = /^[!-~]+$/;

export class Signing {
  #onToken;
  #declined = false;

  /** `onToken()` is called when there is a token to try. */
  constructor({ onToken }) {
    this.#onToken = onToken;
    const dialog = byId("sign-in");
    byId("sign-in-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    byId("sign-in-cancel").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      this.#declined = access.refused;
      byId("token").value = "";
    });
    byId("session").addEventListener("click", () => {
      if (access.refused) this.#ask();
      else {
        access.signOut();
        // What was shown was for who has left.
        location.reload();
      }
    });
    access.addEventListener("refused", ({ detail: error }) => {
      this.#problem(access.token ? `This token is not admitted: ${error.message}` : "");
      if (!this.#declined) this.#ask();
      this.#show();
    });
    access.addEventListener("admitted", () => {
      this.#declined = false;
      dialog.close();
      this.#show();
    });
    this.#show();
  }

  #ask() {
    if (!byId("sign-in").open) byId("sign-in").showModal();
  }

  #submit() {
    const token = byId("token").value.trim();
    if (!TOKEN.test(token)) {
      this.#problem("A token is one word of letters, digits and signs, without blanks.");
      return;
    }
    this.#problem("");
    access.signIn(token);
    this.#onToken();
  }

  #problem(text) {
    byId("token").setAttribute("aria-invalid", String(text !== ""));
    setText(byId("sign-in-problem"), text);
  }

  // Who has never been asked, and has shown nothing, has nothing to leave.
  #show() {
    const button = byId("session");
    button.hidden = !access.refused && !access.token;
    setText(button, access.refused ? "Sign in" : "Sign out");
  }
}
