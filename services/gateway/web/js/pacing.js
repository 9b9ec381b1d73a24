// How often something is done that many things ask for.

/** Call once, at most every so many milliseconds, and never more than that late. */
export function paced(milliseconds, action) {
  let timer = null;
  let last = -Infinity;
  return () => {
    if (timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      last = performance.now();
      action();
    }, Math.max(0, last + milliseconds - performance.now()));
  };
}
