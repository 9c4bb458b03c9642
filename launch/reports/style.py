"""How the page looks, and how its tables are sorted."""

CSS = """
:root { --ink: #333; --soft: #6b7785; --line: #e3e6ea; --paper: #f6f7f9; --accent: #e07b39; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 14px/1.5 system-ui,
  -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 24px; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 34px 0 8px; }
p { margin: 0 0 10px; color: var(--soft); max-width: 90ch; }
a { color: #2f5d9f; text-decoration: none; } a:hover { text-decoration: underline; }
.under { color: var(--soft); margin: 4px 0 20px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 14px; }
.card { background: white; border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px;
  min-width: 0; }
.card h3 { font-size: 12px; font-weight: 600; color: var(--soft); margin: 0 0 4px; }
.big { font-size: 26px; font-weight: 600; line-height: 1.25; font-variant-numeric: tabular-nums; }
.big small { font-size: 14px; font-weight: 400; color: var(--soft); }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 12px; margin: 8px 0 0; }
.card dl { max-height: 250px; overflow: auto; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.states { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 8px; }
.state { border-radius: 10px; padding: 0 9px; font-size: 12px; line-height: 20px;
  white-space: nowrap; display: inline-block; background: #eceff3; color: #4b5563; }
.complete { background: #e2f1e9; color: #1f6b47; } .running { background: #e2ebf7; color: #2f5d9f; }
.diverged { background: #f8e3e4; color: #a03338; } .failed { background: #fbebdf; color: #a1521c; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 14px; }
.three { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 14px; }
.chart { padding: 12px 10px 4px; } .chart h3 { padding-left: 8px; }
.scroll { overflow: auto; max-height: 440px; background: white; border: 1px solid var(--line);
  border-radius: 8px; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 13px;
  font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: left; white-space: nowrap; }
th { position: sticky; top: 0; background: #fafbfc; border-bottom: 1px solid #d5d9df;
  font-weight: 600; color: var(--soft); cursor: pointer; user-select: none; }
th::after { content: "\\2195"; opacity: 0; margin-left: 3px; font-size: 11px; }
th:hover::after { opacity: 0.4; } th[aria-sort]::after { opacity: 0.9; }
th[aria-sort=ascending]::after { content: "\\2191"; }
th[aria-sort=descending]::after { content: "\\2193"; }
td { border-bottom: 1px solid #f0f2f4; } tr:last-child td { border-bottom: 0; }
tbody tr:hover td { background: #f6f9fd; }
.number { text-align: right; }
td.long { max-width: 420px; overflow: hidden; text-overflow: ellipsis; }
td.reason { white-space: normal; min-width: 240px; }
tr.best td { background: #fdf4ed; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px;
  vertical-align: -1px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 22px; margin: 0 0 10px; font-size: 13px; }
.none { background: white; border: 1px dashed var(--line); border-radius: 8px; padding: 12px 16px;
  color: var(--soft); }
@media print { body { background: white; } .scroll { max-height: none; } }
@media (max-width: 900px) { .pair, .three { grid-template-columns: minmax(0, 1fr); }
  main { padding: 16px; } }
"""

SORTING = """
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const down = head.getAttribute("aria-sort") === "ascending";
  const body = head.closest("table").tBodies[0];
  const key = row => row.cells[head.cellIndex].dataset.key;
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const both = Number(a) - Number(b);
    const order = Number.isNaN(both) ? a.localeCompare(b, undefined, {numeric: true}) : both;
    return down ? -order : order;
  };
  const rows = [...body.rows].sort((a, b) => compare(key(a), key(b)));
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
});
"""
