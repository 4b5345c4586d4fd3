"""The style sheet of the page: light and dark, narrow and wide, on a screen and on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #59616b; --paper: #ffffff; --card: #f6f7f8; --line: #dadee3;
  --grid: #e6e9ed; --c0: #1f5fbf; --c1: #b8530f; --c2: #2f7d3f; --c3: #7c46a0; --c4: #0f7c8f; --c5: #8a6d00;
  --bad: #b3261e; --warn: #8a4b00; --warnpaper: #fff4e2; --feed: #e8f0fb; --layer: #ffffff; --grad: #fdeee4;
  --update: #eaf5ec;
  --fetch: #f3ecf9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a3acb7; --paper: #15181c; --card: #1e2228;
  --line: #3a414a; --grid: #2b3138; --c0: #6ea8ff; --c1: #f0a268; --c2: #7fc98d; --c3: #c79be6; --c4: #62c7d8;
  --c5: #d9bd55; --bad: #ff8a80; --warn: #ffc46b; --warnpaper: #3a2c12; --feed: #1d2b40; --layer: #20252b;
  --grad: #3a281c; --update: #1d3323; --fetch: #302440; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 20px 48px; max-width: 1080px; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 25px; line-height: 1.2; margin: 0 0 4px; } h2 { font-size: 18px; margin: 34px 0 10px; }
h3 { font-size: 15px; margin: 0 0 6px; } p { margin: 6px 0; }
.lead { color: var(--soft); margin: 0 0 14px; } .verdict { font-weight: 600; font-size: 16px; margin: 10px 0; }
.mark { color: var(--bad); font-weight: 600; font-size: 12px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 16px 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; min-width: 0; }
.card b { display: block; font-size: 20px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: 13px; }
.card .mark { color: var(--bad); font-size: 11px; display: block; }
.notice { background: var(--warnpaper); border-left: 4px solid var(--warn); border-radius: 4px; padding: 8px 12px;
  margin: 8px 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 18px; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px 6px; min-width: 0;
  break-inside: avoid; } figcaption { font-weight: 600; margin-bottom: 2px; }
svg { display: block; width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.tick { fill: var(--soft); font-size: 11.5px; } .axis { fill: var(--soft); }
.grid { stroke: var(--grid); } .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); } .c3 { stroke: var(--c3); }
.c4 { stroke: var(--c4); } .c5 { stroke: var(--c5); } circle.mark { fill: var(--bad); stroke: var(--paper); }
.bar { fill: var(--c0); } .zone { fill: transparent; } .label { font-weight: 600; }
.tip, .cursor { opacity: 0; } .cursor { stroke: var(--soft); stroke-dasharray: 3 3; }
.tip { paint-order: stroke; stroke: var(--paper); stroke-width: 5px; font-weight: 600; pointer-events: none; }
.hit:hover .tip, .hit:hover .cursor { opacity: 1; } .hit:hover .bar { fill: var(--c1); }
.legend { margin: 2px 0 4px; font-size: 13px; } .key { margin-right: 14px; }
.key i { display: inline-block; width: 14px;
  height: 3px; margin-right: 5px; vertical-align: middle; }
.k0 { background: var(--c0); } .k1 { background: var(--c1); } .k2 { background: var(--c2); }
.k3 { background: var(--c3); } .k4 { background: var(--c4); } .k5 { background: var(--c5); }
.scroll { overflow: auto; max-height: 720px; border: 1px solid var(--line); border-radius: 8px; padding: 14px; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--c0); outline-offset: 2px; }
.graph { width: auto; max-width: none; margin: 0 auto; } .graph rect { stroke: var(--soft); rx: 6px; }
.graph .feed rect { fill: var(--feed); } .graph .layer rect { fill: var(--layer); }
.graph .gradient rect { fill: var(--grad); } .graph .update rect { fill: var(--update); }
.graph .fetch rect { fill: var(--fetch); } .graph path { fill: none; stroke: var(--soft); stroke-width: 1.3; }
.graph marker path { fill: var(--soft); stroke: none; } .graph .name { font-weight: 600; font-size: 12.5px; }
.graph .what { fill: var(--soft); font-size: 11.5px; } .graph g:hover rect { stroke: var(--c0); stroke-width: 2; }
table { border-collapse: collapse; width: 100%; font-size: 14px; } .wide { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
th { color: var(--soft); font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; } .columns { display: grid; gap: 22px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); } .columns > section { min-width: 0; }
.part { background: var(--c0); height: 9px; border-radius: 2px; min-width: 1px; }
td.share { width: 22%; min-width: 70px; }
table.facts td:first-child { white-space: nowrap; width: 1%; color: var(--soft); padding-right: 18px; }
table.facts td:last-child { overflow-wrap: anywhere; }
details { margin: 8px 0; } summary { cursor: pointer; color: var(--soft); }
code { font: 13px ui-monospace, "DejaVu Sans Mono", monospace;
  background: var(--card); padding: 1px 4px; border-radius: 3px; }
footer { margin-top: 40px; color: var(--soft); font-size: 13px; }
@media print { :root { --ink: #000; --soft: #444; --paper: #fff; --card: #fff; --line: #bbb; --grid: #ddd;
  --c0: #1f5fbf; --c1: #b8530f; --c2: #2f7d3f; --c3: #7c46a0; --c4: #0f7c8f; --c5: #8a6d00; --bad: #b3261e;
  --warn: #8a4b00; --warnpaper: #fff; --feed: #e8f0fb; --layer: #fff; --grad: #fdeee4; --update: #eaf5ec;
  --fetch: #f3ecf9; }
  body { max-width: none; padding: 0; font-size: 12px; } .scroll { max-height: none; overflow: visible; border: none; }
  .graph { width: 100%; max-height: 900px; } section, tr, .card { break-inside: avoid; } h2 { break-after: avoid; }
  .charts { grid-template-columns: 1fr 1fr; } }
"""
