// <lp-chart>: lines over a common axis, as SVG, with a legend and a sentence for those who do not see it.
import { h, number, short } from "./dom.js";

const WIDTH = 640, HEIGHT = 220, LEFT = 52, BOTTOM = 24, TOP = 8, RIGHT = 8;

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function ticks(low, high) {
  const step = 10 ** Math.floor(Math.log10((high - low) / 3 || 1));
  const wide = [1, 2, 5, 10].map((n) => n * step).find((n) => (high - low) / n <= 5) ?? step * 10;
  const found = [];
  for (let value = Math.ceil(low / wide) * wide; value <= high + wide / 1e6; value += wide) found.push(value);
  return found;
}

class Chart extends HTMLElement {
  // lines: [{name, points: [[x, y]]}], y null where it is not known; label: what is drawn; x: how a value of the x axis is written, if not as a number.
  show({ label, lines, x = null, zero = false }) {
    const drawn = lines.filter((line) => line.points.some((point) => point[1] !== null));
    const points = drawn.flatMap((line) => line.points).filter((point) => point[1] !== null);
    this.replaceChildren(h("h3", {}, label));
    if (new Set(points.map((point) => point[0])).size < 2) {
      this.append(h("p", { class: "facts" }, "Too little to draw yet."));
      return;
    }
    const [xs, ys] = [points.map((point) => point[0]), points.map((point) => point[1])];
    const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    let [y0, y1] = [zero ? 0 : Math.min(...ys), Math.max(...ys)];
    if (y1 === y0) y1 = y0 + 1;
    const px = (value) => LEFT + ((value - x0) / (x1 - x0 || 1)) * (WIDTH - LEFT - RIGHT);
    const py = (value) => HEIGHT - BOTTOM - ((value - y0) / (y1 - y0)) * (HEIGHT - BOTTOM - TOP);
    const ends = drawn.map((line) => ({ ...line, points: line.points.filter((point) => point[1] !== null) })).map((line) => `${line.name} from ${short(line.points[0][1])} to ${short(line.points.at(-1)[1])}`);
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": `${label}: ${ends.join("; ")}` });
    for (const value of ticks(y0, y1)) {
      picture.append(svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: py(value), y2: py(value) }));
      picture.append(svg("text", { x: LEFT - 6, y: py(value) + 4, "text-anchor": "end" }, short(value)));
    }
    const across = x ? [0, 1, 2, 3, 4].map((place) => x0 + ((x1 - x0) * place) / 4) : ticks(x0, x1);
    for (const value of across) {
      const anchor = px(value) < LEFT + 20 ? "start" : px(value) > WIDTH - RIGHT - 20 ? "end" : "middle";
      picture.append(svg("text", { x: px(value), y: HEIGHT - 6, "text-anchor": anchor }, x ? x(value) : number(value, 3)));
    }
    drawn.forEach((line, place) => {
      let begins = true;  // a value that is not known parts the line
      const path = line.points.map(([a, b]) => {
        if (b === null) { begins = true; return ""; }
        const step = `${begins ? "M" : "L"}${px(a).toFixed(1)} ${py(b).toFixed(1)}`;
        begins = false;
        return step;
      }).join("");
      picture.append(svg("path", { class: `line c${place % 4}`, d: path }));
    });
    const legend = h("div", { class: "legend" }, drawn.map((line, place) => h("span", {}, h("i", { class: `c${place % 4}` }), line.name)));
    this.append(picture, legend);
  }
}
customElements.define("lp-chart", Chart);

export function chart(what) {
  const element = document.createElement("lp-chart");
  element.show(what);
  return element;
}
