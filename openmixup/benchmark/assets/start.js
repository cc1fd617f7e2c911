// The theme, the tables, and the plots, which are drawn anew when their width changes.
const root = document.documentElement;
const dark = matchMedia('(prefers-color-scheme: dark)');
const setTheme = (isDark) => { root.dataset.theme = isDark ? 'dark' : 'light'; };
setTheme(dark.matches);
dark.addEventListener('change', (event) => setTheme(event.matches));
document.getElementById('theme').addEventListener('click', () => setTheme(root.dataset.theme !== 'dark'));

document.querySelectorAll('table.leaderboard').forEach(sortable);

const DRAW = {
  forest: drawForest,
  seconds: (canvas, board) => drawScatter(canvas, board, 'seconds'),
  memory: (canvas, board) => drawScatter(canvas, board, 'memory'),
  curves: drawCurves,
  radar: drawRadar,
  ranks: drawRanks,
};
const watched = new Map();
document.querySelectorAll('[data-plot]').forEach((figure) => {
  const canvas = figure.querySelector('.canvas');
  const board = DATA.boards[figure.dataset.board];
  const kind = figure.dataset.plot;
  const again = DRAW[kind](canvas, board);
  // curves and the radar have buttons of their own, which stay: they return what draws the lines alone
  const draw = again === undefined ? () => DRAW[kind](canvas, board) : again;
  if (draw) watched.set(canvas, { draw, width: canvas.clientWidth });
});
const observer = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const plot = watched.get(target);
    if (Math.abs(plot.width - target.clientWidth) < 2) continue;
    plot.width = target.clientWidth;
    plot.draw();
  }
});
for (const canvas of watched.keys()) observer.observe(canvas);
addEventListener('scroll', () => { tip.hidden = true; }, { passive: true });
document.addEventListener('keydown', (event) => { if (event.key === 'Escape') tip.hidden = true; });
