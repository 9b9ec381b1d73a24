// The few lines that stand in for a framework: find, make and change elements. Text is always set as text.

export const byId = (id) => document.getElementById(id);

/** Make an element; `attributes` are properties where the element has them (className, textContent), else attributes. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Set text only where it changes, so that screen readers and layout are left alone otherwise. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A metric's name, its exchange set back: of twenty metrics it is the pair that one looks for. */
export function nameParts(metric) {
  const [exchange, pair] = metric.split(":");
  return [
    make("span", { className: "name-exchange", textContent: exchange }),
    make("span", { className: "name-pair" }, make("span", { className: "name-colon", textContent: ":" }), pair),
  ];
}

/** Fill a `dl` with pairs of term and description. */
export function setPairs(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([term, description]) => [
    make("dt", { textContent: term }),
    make("dd", { textContent: description }),
  ]));
}

/**
 * Make a group of radio buttons that look like tabs; returns a function that chooses one, or none, without telling.
 * `choices` are pairs of value and label.
 */
export function radios(group, choices, onChoice) {
  const buttons = choices.map(([value, label, title]) =>
    make("button", { type: "button", role: "radio", value, textContent: label, title: title ?? "" }));
  const choose = (value) => {
    for (const button of buttons) {
      const chosen = button.value === value;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    // Where none is chosen, Tab still finds the group.
    if (!buttons.some(({ value: one }) => one === value)) buttons.at(-1).tabIndex = 0;
  };
  const take = (button) => {
    choose(button.value);
    button.focus();
    onChoice(button.value);
  };
  for (const button of buttons) button.addEventListener("click", () => take(button));
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const place = buttons.indexOf(document.activeElement);
    if (!step || place < 0) return;
    event.preventDefault();
    take(buttons[(place + step + buttons.length) % buttons.length]);
  });
  group.replaceChildren(...buttons);
  return choose;
}
