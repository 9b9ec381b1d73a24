// What a canvas needs of the style sheets: the colours as they are now, and the tile that gaps are hatched with.

const COLOURS = ["line", "accent", "fill", "muted", "text", "hatch", "filled", "warning", "critical", "info", "trial", "panel", "band", "select", "accent-ink"];

// A canvas takes no variables and no light-dark(): let the browser work out what they are now.
export function colours(parent) {
  const probe = document.createElement("span");
  parent.append(probe);
  const found = {};
  for (const name of COLOURS) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

let hatch = null;

/** A tile of thin diagonals. */
export function hatching(colour) {
  const side = Math.round(7 * devicePixelRatio);
  if (hatch?.colour === colour && hatch.tile.width === side) return hatch.tile;
  const tile = document.createElement("canvas");
  tile.width = tile.height = side;
  const ctx = tile.getContext("2d");
  ctx.strokeStyle = colour;
  ctx.lineWidth = devicePixelRatio;
  for (const shift of [-side, 0, side]) {
    ctx.moveTo(shift - 1, side + 1);
    ctx.lineTo(shift + side + 1, -1);
  }
  ctx.stroke();
  hatch = { colour, tile };
  return tile;
}
