// Elements out of names, attributes and children. Text is always text: nothing here parses HTML.
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked" || key === "disabled" || key === "selected") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let counter = 0;
// A label with its field; `make` gets the id that ties both together.
export function field(text, make) {
  const id = `f${++counter}`;
  return [h("label", { for: id }, text), make(id)];
}

export function table(heads, rows, caption) {
  const cell = (value, head, tag) =>
    h(tag, { class: head.number ? "number" : null, scope: tag === "th" ? "col" : null }, value);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("thead", {}, h("tr", {}, heads.map((head) => cell(head.text, head, "th")))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value, place) => cell(value, heads[place], "td")))))));
}

export const number = (value, digits = 0) =>
  value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits });

// A number of three digits that mean something, however small it is.
export const short = (value) => value.toLocaleString("en", { maximumSignificantDigits: 3 });

export const when = (text) => (text ? new Date(text).toLocaleString([], { dateStyle: "short", timeStyle: "short" }) : "–");

export function tile(value, text) {
  return h("div", { class: "tile" }, h("b", {}, value), h("span", {}, text));
}

// Runs an act of a button: no second one meanwhile, and what went wrong is shown where it was asked for.
export async function act(button, problem, work) {
  button.disabled = true;
  problem.textContent = "";
  try {
    await work();
  } catch (error) {
    problem.textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

// Asks again and again until its page is left, also after a failure, which is shown.
export function repeat(work, problem, milliseconds) {
  let left = false, timer = null;
  const turn = async () => {
    let again = true;
    try {
      again = (await work()) !== false;
      problem.textContent = "";
    } catch (error) {
      if (!left) problem.textContent = error.message;
    }
    if (!left && again) timer = setTimeout(turn, milliseconds);
  };
  timer = setTimeout(turn, milliseconds);
  return () => { left = true; clearTimeout(timer); };
}
