// Accuracy against a cost, with the Pareto front of each kind of hardware.
const SHAPES = [
  (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0z`,
  (r) => `M${-r},${-r}H${r}V${r}H${-r}z`,
  (r) => `M0,${-1.2 * r}L${1.2 * r},${r}H${-1.2 * r}z`,
  (r) => `M0,${-1.3 * r}L${1.3 * r},0L0,${1.3 * r}L${-1.3 * r},0z`,
];

function drawScatter(canvas, board, kind) {
  const points = board.costs[kind];
  if (!points.length) {
    canvas.textContent = 'No row tells.';
    return;
  }
  const unit = kind === 'seconds' ? 'seconds of training' : 'MB';
  const place = surface(canvas, 380, `${board.headline.label} against ${unit}`);
  const costs = points.map((point) => point.cost);
  const log = Math.min(...costs) > 0 && Math.max(...costs) > 3 * Math.min(...costs);
  const x = log ? [Math.min(...costs) * 0.92, Math.max(...costs) * 1.1] : padded(costs, 0.08);
  const y = padded(points.map((point) => point.score), 0.08);
  const box = { left: 44, right: 14, top: 26, bottom: 40 };
  const { toX, toY } = axes(place, box, { x, y, xLabel: unit + (log ? ', logarithmic' : ''), yLabel: board.headline.unit ? `${board.headline.label},${board.headline.unit}` : `${board.headline.label}, lower is better`, log });
  const kinds = [...new Set(points.map((point) => point.hardware))].sort();
  for (const hardware of kinds) {
    const front = points.filter((point) => point.hardware === hardware && point.front).sort((a, b) => a.cost - b.cost);
    const path = front.map((point, k) => {
      const before = front[k - 1];
      return k ? `H${toX(point.cost)}V${toY(point.score)}` : `M${toX(point.cost)},${toY(point.score)}`;
    }).join('');
    const style = `fill:none;stroke:var(--c${hardware % 7});stroke-width:1.5;opacity:.55`;
    svgElement('path', { class: 'front', d: path, style }, place.svg);
  }
  const marks = points.map((point) => {
    const colour = `var(--c${point.hardware % 7})`;
    const mark = svgElement('path', {
      d: SHAPES[point.hardware % SHAPES.length](point.front ? 5.5 : 4.5),
      transform: `translate(${toX(point.cost)},${toY(point.score)})`,
      style: `fill:${colour};fill-opacity:${point.front ? 0.95 : 0.4};stroke:${point.front ? 'var(--ink)' : colour};stroke-width:1.2`,
      'data-policy': point.policy,
    }, place.svg);
    explain(mark, `${point.policy}\n${board.headline.label} ${point.score.toFixed(board.headline.digits)}${board.headline.unit}\n${plain(point.cost)} ${unit}` +
      `\n${point.n} run${point.n > 1 ? 's' : ''} on hardware ${DATA.hardware[point.hardware]}` +
      (point.front ? '\non the Pareto front' : ''));
    return mark;
  });
  nameMarks(place, points.filter((point) => point.front || point.policy === 'vanilla'), points, toX, toY, box);
  if (kinds.length > 1) legendOfHardware(place, kinds);
}

// A name beside its mark, at the first of some places where it covers neither a mark nor another name.
function nameMarks(place, named, points, toX, toY, box) {
  const taken = points.map((point) => [toX(point.cost) - 5, toY(point.score) - 5, toX(point.cost) + 5, toY(point.score) + 5]);
  for (const point of named) {
    const x = toX(point.cost), y = toY(point.score), width = 6.7 * point.policy.length;
    const places = [[x + 9, y + 4], [x - 9 - width, y + 4], [x - width / 2, y - 10], [x - width / 2, y + 19], [x + 7, y - 8], [x + 7, y + 16],
      [x - 7 - width, y - 8], [x - 7 - width, y + 16]];
    const found = places.map(([left, base]) => [left, base - 10, left + width, base + 3]).find((area) =>
      area[0] >= box.left - 20 && area[2] <= place.width && area[1] >= 14 && area[3] <= place.height - box.bottom + 4 &&
      !taken.some((other) => area[0] < other[2] && other[0] < area[2] && area[1] < other[3] && other[1] < area[3]));
    if (!found) continue;
    taken.push(found);
    const kind = point.policy === 'vanilla' ? 'strong halo' : 'name halo';
    svgElement('text', { class: kind, x: found[0], y: found[1] + 10 }, place.svg, point.policy);
  }
}

function legendOfHardware(place, kinds) {
  let x = place.width - 14;
  for (const hardware of [...kinds].reverse()) {
    const text = svgElement('text', { x, y: 12, 'text-anchor': 'end' }, place.svg, `hardware ${DATA.hardware[hardware]}`);
    x -= 82;
    svgElement('path', { d: SHAPES[hardware % SHAPES.length](4.5), transform: `translate(${x},8)`, style: `fill:var(--c${hardware % 7})` }, place.svg);
    x -= 14;
  }
}
