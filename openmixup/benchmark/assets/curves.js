// Training curves of chosen policies: mean over the seeds and the band between lowest and highest.
const SERIES = { top1: 'top-1 on the test set, %', mae: 'mean absolute error on the test set', loss: 'training loss', agreement: 'agreement with the mixed labels' };

function drawCurves(canvas, board) {
  const policies = board.standings.map((standing) => standing.policy).filter((policy) => board.curves[policy]);
  const known = Object.keys(SERIES).filter((name) => policies.some((policy) => board.curves[policy][name]));
  const spans = Object.fromEntries(known.map((name) => [name, Math.max(...policies.map((policy) => board.curves[policy][name]?.epoch.length ?? 0))]));
  let series = known.reduce((one, other) => (spans[other] > spans[one] ? other : one), known[0]);
  const first = [...policies.filter((policy) => policy !== 'vanilla').slice(0, 4), 'vanilla'];
  const draw = () => drawLines(canvas, board, series, places);
  const places = choice(canvas, 'Policies, best first', policies, first, draw);
  const box = htmlElement('div', { class: 'series', role: 'radiogroup', 'aria-label': 'What is drawn' });
  canvas.before(box);
  for (const name of known) {
    const label = htmlElement('label', {}, box);
    const input = htmlElement('input', { type: 'radio', name: `series-${board.name}`, value: name }, label);
    input.checked = name === series;
    input.addEventListener('change', () => { series = name; draw(); });
    label.append(SERIES[name]);
  }
  draw();
  return draw;
}

function drawLines(canvas, board, series, places) {
  const lines = [...places.keys()].filter((policy) => board.curves[policy][series]).map((policy) => ({ policy, ...board.curves[policy][series] }));
  if (!lines.length) {
    canvas.textContent = 'Choose a policy that has this curve.';
    return;
  }
  const place = surface(canvas, 400, SERIES[series]);
  const right = 14 + 7 * Math.max(...lines.map((line) => line.policy.length));
  const box = { left: 48, right, top: 26, bottom: 40 };
  const epochs = lines.flatMap((line) => line.epoch);
  const x = [Math.min(...epochs), Math.max(...epochs)];
  const y = padded(lines.flatMap((line) => [...line.low, ...line.high]), 0.04);
  const { toX, toY } = axes(place, box, { x: x[0] < x[1] ? x : [x[0] - 1, x[1] + 1], y, xLabel: 'epoch', yLabel: SERIES[series] });
  const labels = [];
  for (const line of lines) {
    const style = lineStyle(line.policy, places.get(line.policy));
    const points = line.epoch.map((epoch, k) => [toX(epoch), toY(line.mean[k])]);
    if (line.n > 1) {
      const upper = line.epoch.map((epoch, k) => `${toX(epoch)},${toY(line.high[k])}`);
      const lower = line.epoch.map((epoch, k) => `${toX(epoch)},${toY(line.low[k])}`).reverse();
      svgElement('path', { class: 'band', d: `M${[...upper, ...lower].join('L')}z`, style: `fill:${style.stroke};opacity:.14` }, place.svg);
    }
    svgElement('path', { class: 'line', 'data-policy': line.policy, d: `M${points.map((point) => point.join(',')).join('L')}`, fill: 'none', 'stroke-width': 1.8, 'stroke-linejoin': 'round', ...style }, place.svg);
    const [, y] = points[points.length - 1];
    labels.push({ text: line.policy, y, colour: style.stroke });
  }
  endLabels(place.svg, labels, place.width - right + 8, box.top, place.height - box.bottom);
  follow(place, lines, toX, box, ['mae', 'loss'].includes(series) ? -1 : 1);
}

// The values at the epoch under the mouse, best first: the largest, or with sign -1 the smallest.
function follow({ svg, width, height }, lines, toX, box, sign) {
  const rule = svgElement('line', { class: 'zero', y1: box.top, y2: height - box.bottom, visibility: 'hidden' }, svg);
  const area = svgElement('rect', { x: box.left, y: box.top, width: width - box.left - box.right, height: height - box.top - box.bottom, fill: 'transparent' }, svg);
  const epochs = [...new Set(lines.flatMap((line) => line.epoch))];
  area.addEventListener('pointermove', (event) => {
    const frame = svg.getBoundingClientRect();
    const at = ((event.clientX - frame.left) / frame.width) * width;
    const epoch = epochs.reduce((one, other) => (Math.abs(toX(other) - at) < Math.abs(toX(one) - at) ? other : one));
    for (const end of ['x1', 'x2']) rule.setAttribute(end, toX(epoch));
    rule.setAttribute('visibility', 'visible');
    const values = lines.map((line) => [line.policy, line.mean[line.epoch.indexOf(epoch)], line.n]).filter((entry) => entry[1] !== undefined);
    values.sort((one, other) => sign * (other[1] - one[1]));
    showTip(`epoch ${epoch}\n${values.map(([policy, value, n]) => `${policy} ${value.toPrecision(4)} (n ${n})`).join('\n')}`, event.clientX, event.clientY);
  });
  area.addEventListener('pointerleave', () => { rule.setAttribute('visibility', 'hidden'); tip.hidden = true; });
}
