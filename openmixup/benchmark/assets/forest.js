// Gains over vanilla, best first, with the groups of policies that are not told apart.
function drawForest(canvas, board) {
  const shown = board.standings.filter((standing) => standing.gain !== null);
  const rowHeight = 20, top = 30;
  const left = 12 + 7.2 * Math.max(...shown.map((standing) => standing.policy.length));
  const right = 96 + 8 * board.groups.length;
  const place = surface(canvas, top + rowHeight * shown.length + 34, `Gains over vanilla in ${board.headline.step}`);
  const { svg, width } = place;
  const ends = shown.flatMap((standing) => [standing.gain, ...standing.gains]);
  const [low, high] = padded([...ends, 0], 0.05);
  const floor = top + rowHeight * shown.length;
  const toX = scale([low, high], [left, width - right]);
  const cut = (value) => Math.max(left, Math.min(width - right, toX(value)));
  const steps = ticks(low, high, width < 500 ? 4 : 8);
  const digits = Math.max(...steps.map((value) => (String(value).split('.')[1] || '').length));
  for (const value of steps) {
    svgElement('line', { class: value === 0 ? 'zero' : 'grid', x1: toX(value), x2: toX(value), y1: top - 6, y2: floor }, svg);
    svgElement('text', { x: toX(value), y: floor + 17, 'text-anchor': 'middle' }, svg, signed(value, digits));
  }
  svgElement('text', { x: left, y: 12 }, svg, `gain in ${board.headline.step}`);
  svgElement('text', { x: width - right + 12, y: 12 }, svg, 'gain');
  const rowOf = new Map();
  shown.forEach((standing, k) => {
    const y = top + rowHeight * (k + 0.5);
    rowOf.set(standing.policy, y);
    drawGain(svg, standing, y, board.headline, { left, toX, cut, end: width - right + 12 });
  });
  drawGroups(svg, board, rowOf, width);
}

function drawGain(svg, standing, y, { step, digits }, { left, toX, cut, end }) {
  const reference = standing.policy === 'vanilla';
  const colour = { better: 'var(--good)', worse: 'var(--bad)' }[standing.verdict] || 'var(--soft)';
  svgElement('text', { class: reference ? 'strong' : 'name', x: left - 10, y: y + 4, 'text-anchor': 'end' }, svg, standing.policy);
  const group = svgElement('g', {}, svg);
  svgElement('rect', { x: left, y: y - 9, width: end - left, height: 18, fill: 'transparent' }, group);
  if (standing.low !== null) {
    const line = { y1: y, y2: y, style: `stroke:${colour};stroke-width:1.6` };
    svgElement('line', { x1: cut(standing.low), x2: cut(standing.high), ...line }, group);
    for (const [bound, way] of [[standing.low, 1], [standing.high, -1]]) {
      const x = cut(bound), inside = Math.abs(x - toX(bound)) < 0.5;
      const d = inside ? `M${x},${y - 4}V${y + 4}` : `M${x + 5 * way},${y - 4}L${x},${y}L${x + 5 * way},${y + 4}`;  // an arrow: it goes on
      svgElement('path', { d, style: `fill:none;stroke:${colour};stroke-width:1.6` }, group);
    }
  }
  if (!reference && standing.gains.length > 1) {
    for (const value of standing.gains) {
      svgElement('line', { x1: toX(value), x2: toX(value), y1: y - 5, y2: y + 5, style: 'stroke:var(--faint);stroke-width:1;opacity:.8' }, group);
    }
  }
  const hollow = standing.gains.length < 2 && !reference;
  svgElement('circle', {
    cx: toX(standing.gain), cy: y, r: 4.5,
    style: `fill:${hollow ? 'var(--card)' : reference ? 'var(--ink)' : colour};stroke:${reference ? 'var(--ink)' : colour};stroke-width:1.6`,
  }, group);
  svgElement('text', { x: end, y: y + 4 }, svg, reference ? 'reference' : signed(standing.gain, digits));
  explain(group, reference ? 'vanilla, the reference' : `${standing.policy}: ${signed(standing.gain, digits)} ${step}\n` +
    `seed${standing.gains.length > 1 ? 's' : ''}: ${standing.gains.map((value) => signed(value, digits)).join(', ')}` +
    (standing.low === null ? '' : `\n95 % interval ${signed(standing.low, digits)} to ${signed(standing.high, digits)}`) +
    (standing.p === null ? '' : `\np ${standing.p < 0.001 ? '< 0.001' : standing.p.toFixed(3)} by the t-test (Holm)`) +
    (standing.flip === null ? '' : `\np ${standing.flip.toPrecision(2)} by exact sign flips, uncorrected`) + `\n${standing.verdict}`);
}

// One upright bar for each group; a policy between whose mean is not of the group has no dot on it.
function drawGroups(svg, board, rowOf, width) {
  board.groups.forEach(([first, last], k) => {
    const members = board.tested.slice(first, last + 1).filter((policy) => rowOf.has(policy));
    const rows = members.map((policy) => rowOf.get(policy));
    const x = width - 12 - 8 * k;
    const bar = svgElement('g', {}, svg);
    svgElement('line', {
      x1: x, x2: x, y1: Math.min(...rows), y2: Math.max(...rows), style: 'stroke:var(--c0);stroke-width:2;stroke-linecap:round',
    }, bar);
    for (const y of rows) svgElement('circle', { cx: x, cy: y, r: 3, style: 'fill:var(--c0)' }, bar);
    explain(bar, `not told apart: ${members.join(', ')}`);
  });
}
