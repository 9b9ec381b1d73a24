// The page's title, which is all that a tab in the background shows: breaches that nobody has seen, and what is drawn.
// Knows nothing of the page.

let unseen = 0;
let drawn = "";

const tell = () => {
  document.title = `${unseen ? `(${unseen}) ` : ""}${drawn ? `${drawn} · ` : ""}Tickwatch`;
};

export function setUnseen(count) {
  unseen = count;
  tell();
}

export function setDrawn(text) {
  drawn = text;
  tell();
}
