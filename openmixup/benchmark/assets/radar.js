// Over several tables: a radar of means, and mean ranks.
function drawRadar(canvas) {
  const { boards, means, ranges, headlines } = DATA.ranking;
  const policies = Object.keys(means).sort((one, other) => means[other].filter((v) => v !== null).length - means[one].filter((v) => v !== null).length);
  if (boards.length < 3 || !policies.length) {
    canvas.textContent = boards.length < 3 ? 'A radar needs three tables or more.' : 'No policy has results in two of these tables.';
    return null;
  }
  const first = [...policies.filter((policy) => policy !== 'vanilla').slice(0, 4), 'vanilla'];
  const draw = () => drawWeb(canvas, boards, means, ranges, headlines, places);
  const places = choice(canvas, 'Policies with results in two tables or more', policies, first, draw);
  draw();
  return draw;
}

function drawWeb(canvas, boards, means, ranges, headlines, places) {
  const place = surface(canvas, 400, `Means on ${boards.join(', ')}`);
  const { svg, width } = place;
  const middle = [width / 2, 205], inner = 26, outer = Math.min(132, width / 2 - 70);
  const direction = (k) => [Math.sin((2 * Math.PI * k) / boards.length), -Math.cos((2 * Math.PI * k) / boards.length)];
  const at = (k, share) => {
    const length = inner + share * (outer - inner);
    return direction(k).map((part, axis) => middle[axis] + part * length);
  };
  for (const share of [0, 0.5, 1]) {
    svgElement('path', { class: 'axis', fill: 'none', d: `M${boards.map((_, k) => at(k, share).join(',')).join('L')}z` }, svg);
  }
  boards.forEach((name, k) => {
    const [x, y] = at(k, 1), [dx, dy] = direction(k);
    svgElement('line', { class: 'axis', x1: middle[0], y1: middle[1], x2: x, y2: y }, svg);
    if (!ranges[k].length) return;
    const { unit, digits } = headlines[k];
    const anchor = Math.abs(dx) < 0.2 ? 'middle' : dx > 0 ? 'start' : 'end';
    const [tx, ty] = [x + dx * 12, y + dy * 12 + (dy < -0.5 ? -14 : dy > 0.5 ? 12 : 0)];
    const short = name.length > 18 && width < 560 ? `${name.slice(0, 16)}…` : name;
    svgElement('text', { class: 'name', x: tx, y: ty, 'text-anchor': anchor }, svg, short);
    svgElement('text', { x: tx, y: ty + 14, 'text-anchor': anchor }, svg, `${ranges[k][0].toFixed(digits - 1)} to ${ranges[k][1].toFixed(digits - 1)}${unit}`);
  });
  for (const [policy, k] of places) drawPolygon(svg, boards, ranges, headlines, policy, means[policy], lineStyle(policy, k), at);
}

function drawPolygon(svg, boards, ranges, headlines, policy, values, style, at) {
  const point = (k) => at(k, ranges[k][1] !== ranges[k][0] ? (values[k] - ranges[k][0]) / (ranges[k][1] - ranges[k][0]) : 1);
  const parts = boards.map((_, k) => {
    const next = (k + 1) % boards.length;
    return values[k] === null || values[next] === null ? '' : `M${point(k).join(',')}L${point(next).join(',')}`;
  });
  svgElement('path', { class: 'line', 'data-policy': policy, d: parts.join('') || 'M0,0', fill: 'none', 'stroke-width': 1.8, ...style }, svg);
  boards.forEach((name, k) => {
    if (values[k] === null) return;
    const [cx, cy] = point(k);
    explain(svgElement('circle', { cx, cy, r: 4, style: `fill:${style.stroke}` }, svg), `${policy}\n${name}: ${values[k].toFixed(headlines[k].digits)}${headlines[k].unit}`);
  });
}

function drawRanks(canvas) {
  const { boards, ranked, groups } = DATA.ranking;
  const rowHeight = 22, top = 30;
  const place = surface(canvas, top + rowHeight * ranked.length + 34, `Mean ranks over ${boards.length} tables`);
  const { svg, width } = place;
  const left = 12 + 7.2 * Math.max(...ranked.map((one) => one.policy.length)), right = 44 + 8 * groups.length;
  const worst = Math.max(2, ...ranked.flatMap((one) => one.ranks));
  const toX = scale([1, worst], [left + 8, width - right - 8]);
  const floor = top + rowHeight * ranked.length;
  for (const value of ticks(1, worst, 6).filter(Number.isInteger)) {
    svgElement('line', { class: 'grid', x1: toX(value), x2: toX(value), y1: top - 6, y2: floor }, svg);
    svgElement('text', { x: toX(value), y: floor + 17, 'text-anchor': 'middle' }, svg, value);
  }
  svgElement('text', { x: left, y: 12 }, svg, 'mean rank; 1 is best');
  const rows = ranked.map((one, k) => {
    const y = top + rowHeight * (k + 0.5), kind = one.policy === 'vanilla' ? 'strong' : 'name';
    svgElement('text', { class: kind, x: left - 8, y: y + 4, 'text-anchor': 'end' }, svg, one.policy);
    const group = svgElement('g', {}, svg);
    for (const rank of one.ranks) svgElement('circle', { cx: toX(rank), cy: y, r: 3, style: 'fill:none;stroke:var(--faint)' }, group);
    svgElement('circle', { cx: toX(one.mean), cy: y, r: 5, style: 'fill:var(--c0)' }, group);
    svgElement('text', { x: width - right + 6, y: y + 4 }, svg, one.mean.toFixed(2));
    explain(group, `${one.policy}: mean rank ${one.mean.toFixed(2)}\n${one.ranks.map((rank, b) => `${boards[b]}: ${rank}`).join('\n')}`);
    return y;
  });
  groups.forEach(([from, to], k) => {
    const x = width - 6 - 8 * k;
    svgElement('line', { x1: x, x2: x, y1: rows[from], y2: rows[to], style: 'stroke:var(--c0);stroke-width:3;stroke-linecap:round' }, svg);
  });
}
