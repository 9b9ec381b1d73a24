// What time it is by the gateway's clock. A laptop's own may be minutes off, and would call fresh points silence.

const NEAR = 3_000; // an answer tells the time in whole seconds, and is under way for a while

let ahead = 0;

/** Milliseconds since the epoch. */
export const now = () => Date.now() - ahead;

/** Take note of when a response that no cache can have had was sent. */
export function heard(response) {
  const difference = Date.now() - Date.parse(response.headers.get("Date"));
  if (Number.isFinite(difference)) ahead = Math.abs(difference) > NEAR ? difference : 0;
}
