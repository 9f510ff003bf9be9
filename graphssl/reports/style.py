"""The style sheet of the report: dark text on white, tables that can be read, nothing loaded from elsewhere, fit to print."""

CSS = """
:root { --ink: #1b2430; --soft: #56616f; --line: #dde2e8; --faint: #f5f7f9; --ours: #0b5cad; --warn: #b45309; --warn-bg: #fff8ec; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.55 -apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, header, footer { max-width: 1080px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 44px; }
.kicker { margin: 0; color: var(--soft); font-size: 13px; letter-spacing: .04em; }
h1 { margin: 10px 0 16px; font-size: 31px; line-height: 1.22; font-weight: 650; letter-spacing: -.012em; max-width: 30em; text-wrap: balance; }
h2 { margin: 0 0 14px; font-size: 21px; font-weight: 650; letter-spacing: -.005em; }
h3 { margin: 30px 0 6px; font-size: 16px; font-weight: 650; }
section { padding: 30px 0 6px; margin-top: 30px; border-top: 1px solid var(--line); }
p { margin: 0 0 12px; max-width: 74ch; }
.lead p { margin-bottom: 8px; }
.soft, caption, figcaption { color: var(--soft); font-size: 14px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 22px 0 0; font-size: 14px; }
a { color: var(--ours); text-decoration: none; }
a:hover, a:focus { text-decoration: underline; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 14px; margin: 24px 0 20px; }
.card { border: 1px solid var(--line); border-top: 3px solid #aab4bf; border-radius: 4px; padding: 12px 16px 12px; }
.card.ours { border-top-color: var(--ours); }
.card .name { font-size: 14px; color: var(--soft); }
.card .value { font-size: 30px; font-weight: 650; font-variant-numeric: tabular-nums; line-height: 1.3; }
.card .value small { font-size: 14px; font-weight: 400; color: var(--soft); }
.card .range { font-size: 14px; color: var(--soft); font-variant-numeric: tabular-nums; }
.cautions { background: var(--warn-bg); border-left: 4px solid var(--warn); border-radius: 0 4px 4px 0; padding: 14px 20px 8px; margin: 22px 0; }
.cautions h2 { font-size: 17px; color: var(--warn); margin-bottom: 8px; }
.cautions ul { margin: 0; padding-left: 20px; }
.cautions li { margin-bottom: 8px; max-width: 86ch; }
.cautions li.note { color: var(--soft); }
.wide { overflow-x: auto; margin: 8px 0 20px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; line-height: 1.45; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 8px; }
th, td { padding: 6px 10px 6px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); font-weight: 400; }
thead th { font-size: 13px; font-weight: 600; color: var(--soft); border-bottom: 1.5px solid #aab4bf; vertical-align: bottom; }
th.sortable { cursor: pointer; } th.sortable:hover { color: var(--ours); }
th.sortable[aria-sort]::after { content: " ▲"; font-size: 10px; } th.sortable[aria-sort="descending"]::after { content: " ▼"; }
.filter { display: flex; gap: 10px; align-items: center; margin: 0 0 6px; font-size: 13px; color: var(--soft); }
.filter input { font: inherit; padding: 3px 8px; border: 1px solid #aab4bf; border-radius: 4px; width: 220px; }
th.n, td.n { text-align: right; padding-left: 6px; }
td.n { white-space: nowrap; }
td .range { display: block; min-width: 9.5em; color: var(--soft); font-size: 13px; font-weight: 400; }
tbody th { min-width: 110px; }
tr.strong th, tr.strong td { font-weight: 600; }
tbody tr:hover { background: var(--faint); }
.better { color: #0a6b3b; } .worse { color: #a8321f; }
.strip { display: block; margin-top: 3px; }
.strip line.ci { stroke: #6b7785; stroke-width: 2; } .strip line.ref { stroke: #c3cad2; stroke-width: 1; } .strip circle { fill: #3b4754; }
tr.strong .strip line.ci { stroke: var(--ours); } tr.strong .strip circle { fill: var(--ours); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(400px, 100%), 1fr)); gap: 4px 40px; margin: 0 0 16px; }
dl div { display: flex; gap: 12px; padding: 5px 0; border-bottom: 1px solid var(--line); font-size: 15px; }
dt { color: var(--soft); flex: 0 0 112px; } dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 18px 0 26px; overflow-x: auto; } img { max-width: 100%; height: auto; display: block; }
figcaption { margin-top: 6px; max-width: 86ch; }
.picture { position: relative; max-width: 100%; } .marks { position: absolute; inset: 0; width: 100%; height: 100%; }
.marks > * { fill: transparent; } .marks > *:hover { stroke: var(--ours); stroke-width: 1.5; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(380px, 100%), 1fr)); gap: 0 32px; align-items: start; }
details { margin: 0 0 12px; } summary { cursor: pointer; color: var(--ours); font-size: 15px; padding: 4px 0; }
pre { background: var(--faint); border: 1px solid var(--line); border-radius: 4px; padding: 12px 14px; overflow-x: auto;
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { font: 13.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
footer { margin-top: 40px; padding-bottom: 48px; color: var(--soft); font-size: 13.5px; }
@media (max-width: 640px) {
  main, header, footer { padding: 0 16px; }
}
@media print {
  body { font-size: 11pt; } header { padding-top: 0; } nav, .filter { display: none; } main, header, footer { max-width: none; padding: 0; }
  section { break-before: auto; } tr, figure, .cautions, .card { break-inside: avoid; }
  .wide { overflow: visible; } table { font-size: 7.5pt; } thead th, td .range { font-size: 7pt; } th, td { padding: 4px 6px 4px 0; }
  td.n { white-space: normal; } td .range, tbody th { min-width: 0; }
  details::details-content { content-visibility: visible; display: block; }
  a { color: inherit; } pre { white-space: pre-wrap; }
}
"""
