// What all plots share: elements, scales, axes, the tip, colours and the choice of policies.
const DATA = JSON.parse(document.getElementById('data').textContent);
const tip = document.getElementById('tip');
const NS = 'http://www.w3.org/2000/svg';
const DASHES = ['', '7 3', '2 3', '9 3 2 3'];

function svgElement(name, attributes = {}, parent = null, text = null) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function htmlElement(name, attributes = {}, parent = null, text = null) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

// A drawing surface in a box, which is measured so that letters keep their size on narrow screens.
function surface(canvas, height, label) {
  const width = Math.max(280, Math.round(canvas.clientWidth || 600));
  const svg = svgElement('svg', { viewBox: `0 0 ${width} ${height}`, role: 'group', 'aria-label': label });
  canvas.replaceChildren(svg);
  return { svg, width, height };
}

const signed = (value, digits = 2) => (value > 0 ? '+' : value < 0 ? '−' : '') + Math.abs(value).toFixed(digits);
const decimals = (value) => {
  const size = Math.abs(value);
  return size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2;
};
const plain = (value, digits = decimals(value)) => value.toFixed(digits).replace('-', '−');
// The numbers of an axis, all with as many digits as the one that needs most.
const alike = (values) => values.map((value) => plain(value, Math.max(...values.map((other) => (String(other).split('.')[1] || '').length))));

// Values to places; logarithmic if asked for.
function scale([from, to], [start, end], logarithmic = false) {
  const map = logarithmic ? Math.log : (value) => value;
  const low = map(from), span = map(to) - map(from) || 1;
  return (value) => start + ((map(value) - low) / span) * (end - start);
}

function ticks(from, to, count = 5) {
  const raw = (to - from) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= raw);
  const found = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to + step * 1e-9; k++) found.push(+(k * step).toPrecision(12));
  return found;
}

function logTicks(from, to) {
  const found = [];
  for (let power = Math.floor(Math.log10(from)); power <= Math.log10(to); power++) {
    for (const factor of [1, 2, 5]) {
      const value = factor * 10 ** power;
      if (value >= from * 0.999 && value <= to * 1.001) found.push(value);
    }
  }
  return found.length > 1 ? found : ticks(from, to, 4);
}

function padded(values, share = 0.06) {
  const low = Math.min(...values), high = Math.max(...values);
  const margin = (high - low || Math.abs(high) * 0.02 || 1) * share;
  return [low - margin, high + margin];
}

// Axes with a grid; returns the scales of x and y.
function axes(place, box, { x, y, xLabel, yLabel, log = false }) {
  const { svg, width, height } = place;
  const toX = scale(x, [box.left, width - box.right], log);
  const toY = scale(y, [height - box.bottom, box.top]);
  const levels = ticks(y[0], y[1]);
  levels.forEach((value, k) => {
    svgElement('line', { class: 'grid', x1: box.left, x2: width - box.right, y1: toY(value), y2: toY(value) }, svg);
    svgElement('text', { x: box.left - 8, y: toY(value) + 4, 'text-anchor': 'end' }, svg, alike(levels)[k]);
  });
  const places = log ? logTicks(x[0], x[1]) : ticks(x[0], x[1], width < 420 ? 4 : 6);
  places.forEach((value, k) => {
    svgElement('line', { class: 'grid', x1: toX(value), x2: toX(value), y1: box.top, y2: height - box.bottom }, svg);
    svgElement('text', { x: toX(value), y: height - box.bottom + 17, 'text-anchor': 'middle' }, svg, log ? plain(value) : alike(places)[k]);
  });
  const floor = height - box.bottom;
  svgElement('line', { class: 'axis', x1: box.left, x2: width - box.right, y1: floor, y2: floor }, svg);
  svgElement('text', { x: width - box.right, y: height - 4, 'text-anchor': 'end' }, svg, xLabel);
  svgElement('text', { x: 0, y: 12 }, svg, yLabel);
  return { toX, toY };
}

function showTip(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(6, Math.min(x + 14, innerWidth - width - 6))}px`;
  tip.style.top = `${y + 18 + height > innerHeight ? y - height - 12 : y + 18}px`;
}

// A mark that tells what it is to the mouse, to the keyboard and to a screen reader.
function explain(element, text) {
  element.classList.add('point');
  element.setAttribute('tabindex', '0');
  element.setAttribute('role', 'img');
  element.setAttribute('aria-label', text.replaceAll('\n', ', '));
  element.addEventListener('pointermove', (event) => showTip(text, event.clientX, event.clientY));
  element.addEventListener('focus', () => {
    const box = element.getBoundingClientRect();
    if (element.matches(':focus-visible')) showTip(text, box.right, box.top);
  });
  for (const end of ['pointerleave', 'blur']) element.addEventListener(end, () => { tip.hidden = true; });
}

// Colour and dashes of the k-th chosen policy: eight colours that the colour-blind tell apart, then dashes.
function lineStyle(policy, place) {
  if (policy === 'vanilla') return { stroke: 'var(--ink)', 'stroke-dasharray': '4 3' };
  return { stroke: `var(--c${place % 7})`, 'stroke-dasharray': DASHES[Math.floor(place / 7) % DASHES.length] };
}

// Check boxes for policies; a colour stays with its policy until it is given back.
function choice(canvas, legend, policies, first, changed) {
  const places = new Map();
  const box = htmlElement('fieldset', { class: 'choice' });
  htmlElement('legend', {}, box, legend);
  canvas.before(box);
  const free = () => { let k = 0; while ([...places.values()].includes(k)) k++; return k; };
  const paint = (policy, swatch) => {
    swatch.style.background = places.has(policy) ? lineStyle(policy, places.get(policy)).stroke : '';
  };
  for (const policy of policies) {
    const label = htmlElement('label', {}, box);
    const input = htmlElement('input', { type: 'checkbox', value: policy }, label);
    const swatch = htmlElement('span', { class: 'swatch' }, label);
    label.append(policy);
    if (first.includes(policy)) { input.checked = true; places.set(policy, policy === 'vanilla' ? -1 : free()); }
    paint(policy, swatch);
    input.addEventListener('change', () => {
      if (input.checked) places.set(policy, policy === 'vanilla' ? -1 : free());
      else places.delete(policy);
      paint(policy, swatch);
      changed();
    });
  }
  return places;
}

// Names at the ends of lines, moved apart so that none covers another.
function endLabels(svg, labels, x, top, bottom) {
  const size = 14;
  labels.sort((one, other) => one.y - other.y);
  let previous = top - size;
  for (const label of labels) { label.at = Math.max(label.y, previous + size); previous = label.at; }
  let next = bottom + size;
  for (const label of [...labels].reverse()) { label.at = Math.min(label.at, next - size); next = label.at; }
  for (const label of labels) {
    svgElement('text', { x, y: label.at + 4, style: `fill:${label.colour}` }, svg, label.text);
  }
}
